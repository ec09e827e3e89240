"""The NVIDIA devices that this container may use, and their assignment to workers."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from runwide import settings
from runwide.host.tree import Tree

if TYPE_CHECKING:
    import os

_DRIVER = "/proc/driver/nvidia/gpus"
_VISIBLE = "CUDA_VISIBLE_DEVICES"


@dataclass(frozen=True, slots=True)
class Gpu:
    """One NVIDIA device.

    Args:
        device: Its name in ``CUDA_VISIBLE_DEVICES``: its UUID, or its number.
        name: Its model; empty if unknown.
        memory: Its memory in bytes; None if unknown.
        source: The variable, file or library that lists it.
    """

    device: str
    name: str = ""
    memory: int | None = None
    source: str = ""

    @property
    def environment(self) -> dict[str, str]:
        """The variables that make only this device visible to a process.

        Example:
            >>> Gpu("GPU-1b2c").environment
            {'CUDA_VISIBLE_DEVICES': 'GPU-1b2c'}
        """
        return {_VISIBLE: self.device}


def devices(root: Tree | str | os.PathLike[str] = "/") -> tuple[Gpu, ...]:
    """Return the devices that this process may use, in CUDA's order; empty if there is no driver.

    The list is the user's ``CUDA_VISIBLE_DEVICES`` if it is set; otherwise NVML's if that is installed (``pip install
    nvidia-ml-py``), or the driver's in ``/proc``.
    """
    tree = Tree.at(root)
    wanted = settings.value(_VISIBLE) if tree.live else None
    if wanted is not None:
        return _visible(wanted)
    numbers = tree.names(_DRIVER)
    if not numbers:
        return ()
    return (_from_nvml(tree) if tree.live else ()) or _from_driver(tree, numbers)


def per_gpu(root: Tree | str | os.PathLike[str] = "/") -> tuple[dict[str, str], ...]:
    """Return the variables of each worker for ``workers="per-gpu"``, one worker for each device.

    Example:
        >>> for number, variables in enumerate(per_gpu()):
        ...     print(f"worker {number} gets {variables}")
    """
    return tuple(device.environment for device in devices(root))


def _visible(wanted: str) -> tuple[Gpu, ...]:
    """Return the devices of the variable as CUDA reads it: the first invalid entry ends the list."""
    found: list[Gpu] = []
    for entry in (piece.strip() for piece in wanted.split(",")):
        if not re.fullmatch(r"\d+|(GPU|MIG)-[\w/-]+", entry, re.ASCII):
            break
        found.append(Gpu(entry, source=_VISIBLE))
    return tuple(found)


def _from_driver(tree: Tree, buses: list[str]) -> tuple[Gpu, ...]:
    found = []
    for number, bus in enumerate(buses):
        path = f"{_DRIVER}/{bus}/information"
        fields = dict(re.findall(r"^(Model|GPU UUID):\s*(\S.*?)\s*$", tree.text(path) or "", re.MULTILINE))
        uuid = fields.get("GPU UUID", "")
        device = uuid if re.fullmatch(r"GPU-[0-9a-f-]+", uuid) else str(number)
        found.append(Gpu(device, fields.get("Model", ""), source=path))
    return tuple(found)


def _from_nvml(tree: Tree) -> tuple[Gpu, ...]:
    try:
        import pynvml
    except ImportError:
        return ()
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        tree.note("NVML", str(error), "used /proc/driver/nvidia")
        return ()
    try:
        return tuple(_device(pynvml, index) for index in range(pynvml.nvmlDeviceGetCount()))
    except pynvml.NVMLError as error:
        tree.note("NVML", str(error), "used /proc/driver/nvidia")
        return ()
    finally:
        pynvml.nvmlShutdown()


def _device(nvml: Any, index: int) -> Gpu:
    handle = nvml.nvmlDeviceGetHandleByIndex(index)
    uuid, name = nvml.nvmlDeviceGetUUID(handle), nvml.nvmlDeviceGetName(handle)
    return Gpu(uuid, name, int(nvml.nvmlDeviceGetMemoryInfo(handle).total), "NVML")
