"""What the component that runs a shard asks for: CPUs, memory, accelerators, and to be started again."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from runwide.errors import InputError
from runwide_components.configuration import NOTHING as PLAIN
from runwide_components.configuration import StepConfiguration
from runwide_components.custom_job import as_custom_job

if TYPE_CHECKING:
    from collections.abc import Callable

_MACHINE = re.compile(r"[a-z][a-z0-9-]{2,62}")
_QUANTITY = re.compile(r"\d+(\.\d+)?(m|[KMGTPE]i?)?")


@dataclass(frozen=True, slots=True)
class Resources:
    """What each component asks for, and what it is turned into.

    Args:
        cpu: CPUs, such as ``"8"`` or ``"500m"``.
        memory: Memory, such as ``"32G"`` or ``"512Mi"``.
        accelerator: Type and number, such as ``("NVIDIA_L4", 1)``.
        machine_type: Name of the machine, in the place of CPUs and memory; on Vertex AI only.
        spot: Whether it is Spot capacity.
        retries: How often the engine starts a shard again that failed; it then computes only what is missing.
        as_step: Makes another step of the one that runs a shard; it must keep inputs and outputs.

    Raises:
        InputError: A value cannot be meant.

    Example:
        >>> Resources(machine_type="n2-highmem-16", spot=True).machine
        'n2-highmem-16, Spot'
    """

    cpu: str | None = None
    memory: str | None = None
    accelerator: tuple[str, int] | None = None
    machine_type: str | None = None
    spot: bool = False
    retries: int = 0
    as_step: Callable[[Any], Any] | None = None

    def __post_init__(self) -> None:
        for name in ("cpu", "memory"):
            value = getattr(self, name)
            if value is not None and not _QUANTITY.fullmatch(str(value)):
                raise InputError(
                    f"{name}={value!r} cannot be meant", hint='give a quantity such as "8" or "32G"'
                )
        if self.spot and self.machine_type is None:
            raise InputError("spot=True needs a machine", hint='give machine_type="n2-standard-8"')
        if self.machine_type is not None:
            self._check_machine(self.machine_type)
        if self.retries < 0:
            raise InputError(f"retries={self.retries} cannot be meant", hint="give 0 or more")

    def _check_machine(self, name: str) -> None:
        if not _MACHINE.fullmatch(name):
            raise InputError(
                f"machine_type={name!r} cannot be meant", hint='give a name such as "n2-standard-8"'
            )
        if self.cpu or self.memory or self.as_step:
            raise InputError(
                "a machine by its name has its own CPUs and memory, and makes another step",
                hint="give machine_type=, or cpu= and memory=, or as_step=",
            )

    @property
    def machine(self) -> str | None:
        """The machine, for people; None where none is named."""
        return self.machine_type and self.machine_type + (", Spot" if self.spot else "")

    @classmethod
    def of(cls, about: Mapping[str, Any]) -> Resources:
        """The resources that `about` described; what a step was turned into is not described.

        Raises:
            InputError: They are none.
        """
        if not isinstance(about, Mapping) or not about.keys() <= NOTHING.about().keys():
            raise InputError("these are no resources", hint="give what Resources.about said")
        accelerator = about.get("accelerator")
        return cls(**{**about, "accelerator": tuple(accelerator) if accelerator else None})

    def about(self) -> dict[str, Any]:
        """What makes the same resources again, as JSON."""
        accelerator = list(self.accelerator) if self.accelerator else None
        return {
            "cpu": self.cpu, "memory": self.memory, "accelerator": accelerator,
            "machine_type": self.machine_type, "spot": self.spot, "retries": self.retries,
        }  # fmt: skip

    def check(self, configuration: StepConfiguration) -> None:
        """Reject machines of Vertex AI beside what only Kubernetes has.

        Args:
            configuration: Of the steps.

        Raises:
            InputError: There are both.
        """
        if self.machine_type is not None and configuration.kubernetes:
            raise InputError(
                f"machine_type= is for Vertex AI, and {configuration.kubernetes[0]} for Kubernetes: no engine has both",
                hint="leave out one of them",
            )

    def step(self, shard: Any, configuration: StepConfiguration = PLAIN) -> Any:
        """The step that runs a shard.

        Args:
            shard: The step as it is without these resources.
            configuration: That of all three steps.

        Raises:
            InputError: No engine has such machines and what else is asked for.
        """
        if self.machine_type is not None:
            self.check(configuration)
            return as_custom_job(
                shard, machine_type=self.machine_type, spot=self.spot, accelerator=self.accelerator,
                labels=dict(configuration.labels), service_account=configuration.service_account,
            )  # fmt: skip
        return self.as_step(shard) if self.as_step else shard

    def ask(self, task: Any) -> Any:
        """Have a task of a pipeline ask for them."""
        if self.cpu is not None:
            task.set_cpu_request(str(self.cpu)).set_cpu_limit(str(self.cpu))
        if self.memory is not None:
            task.set_memory_request(str(self.memory)).set_memory_limit(str(self.memory))
        if self.accelerator is not None and self.machine_type is None:
            task.set_accelerator_type(self.accelerator[0]).set_accelerator_limit(self.accelerator[1])
        if self.retries:
            task.set_retry(self.retries)
        return task


NOTHING = Resources()
