"""The hypervisor of this machine: its name, and the CPU time that it takes away."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from runwide.host.tree import Tree

if TYPE_CHECKING:
    import os


_DMI = "/sys/class/dmi/id"
_ACPI = "/sys/firmware/acpi/tables/DSDT"
_FIRECRACKER = "FIRECK"

# The firmware's name -> the hypervisor; the first name that occurs in vendor and product counts.
_NAMES = {
    "Google Compute Engine": "Google Compute Engine",
    "Amazon EC2": "Amazon EC2",
    "Microsoft Corporation Virtual Machine": "Microsoft Hyper-V",
    "VMware": "VMware",
    "innotek GmbH": "VirtualBox",
    "Parallels": "Parallels",
    "OpenStack": "OpenStack",
    "DigitalOcean": "DigitalOcean",
    "Alibaba Cloud": "Alibaba Cloud",
    "Xen": "Xen",
    "QEMU": "QEMU",
    "KVM": "KVM",
    "Apple Virtualization": "Apple Virtualization",
}

# "CPU platforms" in the documentation of Google Compute Engine: vCPUs that are reported as different cores
# never share one.
_TRUTHFUL = frozenset({"Google Compute Engine"})


@dataclass(frozen=True, slots=True)
class Hypervisor:
    """The hypervisor of this machine.

    Args:
        name: Its name; ``unknown`` if it has none, or empty on bare metal.
        truthful: Whether the topology that it shows is guaranteed; on bare metal the kernel reads it itself.
        may_hide_siblings: Whether CPUs that look like cores may be threads of one.
    """

    name: str
    source: str
    truthful: bool
    may_hide_siblings: bool


def recognize(tree: Tree) -> Hypervisor:
    """Recognize the hypervisor by the firmware's names and the CPU's flags."""
    name, source = _name(tree)
    truthful = not name or name in _TRUTHFUL
    return Hypervisor(name, source, truthful, may_hide_siblings=not truthful and _is_x86(tree))


def _name(tree: Tree) -> tuple[str, str]:
    said = " ".join(filter(None, (tree.text(f"{_DMI}/{name}") for name in ("sys_vendor", "product_name"))))
    for sign, name in _NAMES.items():
        if sign in said:
            return name, f"{_DMI}/product_name"
    if tree.text("/sys/hypervisor/type") == "xen":
        return "Xen", "/sys/hypervisor/type"
    if _is_firecracker(tree):
        return "Firecracker", _ACPI
    if "Sun Jan 10 15:06:54 PST 2016" in (tree.text("/proc/version") or ""):  # gVisor says so of every build
        return "gVisor", "/proc/version"
    if "hypervisor" in _flags(tree):
        return "unknown", "/proc/cpuinfo"
    return "", ""


def _is_firecracker(tree: Tree) -> bool:
    """Return whether the ACPI table's maker, in bytes 10 to 15, is Firecracker (ACPI 6.5, 5.2.6); only root may read it."""
    problems = len(tree.problems)
    # Bytes that are not text may change the number of characters.
    made = _FIRECRACKER in (tree.text(_ACPI) or "")[:20]
    del tree.problems[problems:]  # the file is normally closed to other users: that is no problem
    tree.seen.pop(_ACPI, None)
    if made:
        tree.seen[_ACPI] = f"DSDT......{_FIRECRACKER}"
    return made


def _flags(tree: Tree) -> list[str]:
    for line in (tree.text("/proc/cpuinfo") or "").splitlines():
        if line.startswith("flags"):
            return line.partition(":")[2].split()
    return []


def _is_x86(tree: Tree) -> bool:
    return bool(_flags(tree))


_STEAL = 7  # the eighth of the ten numbers of the ``cpu`` line (``man 5 proc``)
_GUEST = 8  # user time includes guest time already


@dataclass(frozen=True, slots=True)
class Steal:
    """CPU time since boot, in clock ticks.

    Args:
        stolen: Time in which a CPU had work here, but the hypervisor ran another machine.
        total: All time of all CPUs.
    """

    stolen: int
    total: int

    @property
    def share(self) -> float:
        """Share of the time that was stolen, 0 to 1.

        Example:
            >>> Steal(5, 100).share
            0.05
        """
        return self.stolen / self.total if self.total else 0.0

    def since(self, earlier: Steal) -> Steal:
        """Return the time since an earlier reading.

        Example:
            >>> Steal(30, 200).since(Steal(5, 100)).share
            0.25
        """
        return Steal(self.stolen - earlier.stolen, self.total - earlier.total)


def steal(root: Tree | str | os.PathLike[str] = "/") -> Steal | None:
    """Read the machine's stolen time; None if it is not counted."""
    line = (Tree.at(root).text("/proc/stat") or "").partition("\n")[0]
    name, *numbers = line.split()[:11] or [""]
    if name != "cpu" or len(numbers) <= _STEAL or not all(number.isdigit() for number in numbers):
        return None
    ticks = [int(number) for number in numbers]
    return Steal(ticks[_STEAL], sum(ticks[:_GUEST]))
