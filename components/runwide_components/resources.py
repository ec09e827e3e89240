"""The resources of a component that runs a shard: CPUs, memory, accelerators, a machine type, restarts."""

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
    """The resources of each component.

    Args:
        cpu: CPUs, such as ``"8"`` or ``"500m"``.
        memory: Memory, such as ``"32G"`` or ``"512Mi"``.
        accelerator: Type and number, such as ``("NVIDIA_L4", 1)``.
        machine_type: Name of the machine type, instead of CPUs and memory; on Vertex AI only.
        spot: True for Spot capacity.
        retries: The number of restarts of a shard that failed; it then computes only missing results.
        as_step: Function that turns the step of a shard into another step; it must keep inputs and outputs.

    Raises:
        InputError: A value is invalid.

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
                raise InputError(f"invalid {name}={value!r}", hint='give a quantity such as "8" or "32G"')
        if self.spot and self.machine_type is None:
            raise InputError("spot=True needs a machine", hint='give machine_type="n2-standard-8"')
        if self.machine_type is not None:
            self._check_machine(self.machine_type)
        if self.retries < 0:
            raise InputError(f"invalid retries={self.retries}: expected 0 or more", hint="give 0 or more")

    def _check_machine(self, name: str) -> None:
        if not _MACHINE.fullmatch(name):
            raise InputError(f"invalid machine_type={name!r}", hint='give a name such as "n2-standard-8"')
        if self.cpu or self.memory or self.as_step:
            raise InputError(
                "machine_type= cannot be combined with cpu=, memory= or as_step=: the machine has its own CPUs and memory",
                hint="give machine_type=, or cpu= and memory=, or as_step=",
            )

    @property
    def machine(self) -> str | None:
        """The machine in words; None without a machine type."""
        return self.machine_type and self.machine_type + (", Spot" if self.spot else "")

    @classmethod
    def of(cls, about: Mapping[str, Any]) -> Resources:
        """Return the resources from the description that `about` returned, which does not contain ``as_step``.

        Raises:
            InputError: It is not a description of resources.
        """
        if not isinstance(about, Mapping) or not about.keys() <= NOTHING.about().keys():
            raise InputError("invalid resources", hint="give the value of Resources.about()")
        accelerator = about.get("accelerator")
        return cls(**{**about, "accelerator": tuple(accelerator) if accelerator else None})

    def about(self) -> dict[str, Any]:
        """Return a description of the resources, as JSON."""
        accelerator = list(self.accelerator) if self.accelerator else None
        return {
            "cpu": self.cpu, "memory": self.memory, "accelerator": accelerator,
            "machine_type": self.machine_type, "spot": self.spot, "retries": self.retries,
        }  # fmt: skip

    def check(self, configuration: StepConfiguration) -> None:
        """Reject a machine type of Vertex AI together with options of Kubernetes.

        Raises:
            InputError: Both are given.
        """
        if self.machine_type is not None and configuration.kubernetes:
            raise InputError(
                f"machine_type= is for Vertex AI, and {configuration.kubernetes[0]} for Kubernetes: no engine supports both",
                hint="leave out one of them",
            )

    def step(self, shard: Any, configuration: StepConfiguration = PLAIN) -> Any:
        """Return the step that runs a shard, changed for these resources.

        Raises:
            InputError: No engine supports these resources together with this configuration.
        """
        if self.machine_type is not None:
            self.check(configuration)
            return as_custom_job(
                shard, machine_type=self.machine_type, spot=self.spot, accelerator=self.accelerator,
                labels=dict(configuration.labels), service_account=configuration.service_account,
            )  # fmt: skip
        return self.as_step(shard) if self.as_step else shard

    def ask(self, task: Any) -> Any:
        """Set the resources on a task of a pipeline, and return it."""
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
