"""What the component that runs a shard asks for: CPUs, memory, accelerators, and to be started again."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from runwide.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_QUANTITY = re.compile(r"\d+(\.\d+)?(m|[KMGTPE]i?)?")


@dataclass(frozen=True, slots=True)
class Resources:
    """What each component asks for, and what it is turned into.

    Args:
        cpu: CPUs, such as ``"8"`` or ``"500m"``.
        memory: Memory, such as ``"32G"`` or ``"512Mi"``.
        accelerator: Type and number, such as ``("NVIDIA_L4", 1)``.
        retries: How often the engine starts a shard again that failed; it then computes only what is missing.
        as_step: Makes another step of the one that runs a shard; it must keep inputs and outputs.

    Raises:
        InputError: A value cannot be meant.

    Example:
        >>> Resources(cpu="8", memory="32G").about()
        {'cpu': '8', 'memory': '32G', 'accelerator': None, 'retries': 0}
    """

    cpu: str | None = None
    memory: str | None = None
    accelerator: tuple[str, int] | None = None
    retries: int = 0
    as_step: Callable[[Any], Any] | None = None

    def __post_init__(self) -> None:
        for name in ("cpu", "memory"):
            value = getattr(self, name)
            if value is not None and not _QUANTITY.fullmatch(str(value)):
                raise InputError(
                    f"{name}={value!r} cannot be meant", hint='give a quantity such as "8" or "32G"'
                )
        if self.retries < 0:
            raise InputError(f"retries={self.retries} cannot be meant", hint="give 0 or more")

    @classmethod
    def of(cls, about: Mapping[str, Any]) -> Resources:
        """The resources that `about` described; what a step was turned into is not described."""
        accelerator = about.get("accelerator")
        return cls(**{**about, "accelerator": tuple(accelerator) if accelerator else None})

    def about(self) -> dict[str, Any]:
        """What makes the same resources again, as JSON."""
        accelerator = list(self.accelerator) if self.accelerator else None
        return {"cpu": self.cpu, "memory": self.memory, "accelerator": accelerator, "retries": self.retries}

    def step(self, shard: Any) -> Any:
        """The step that runs a shard."""
        return self.as_step(shard) if self.as_step else shard

    def ask(self, task: Any) -> Any:
        """Have a task of a pipeline ask for them."""
        if self.cpu is not None:
            task.set_cpu_request(str(self.cpu)).set_cpu_limit(str(self.cpu))
        if self.memory is not None:
            task.set_memory_request(str(self.memory)).set_memory_limit(str(self.memory))
        if self.accelerator is not None:
            task.set_accelerator_type(self.accelerator[0]).set_accelerator_limit(self.accelerator[1])
        if self.retries:
            task.set_retry(self.retries)
        return task


NOTHING = Resources()
