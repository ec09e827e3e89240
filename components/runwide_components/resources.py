"""The resources of a component that runs a shard: CPUs, memory, accelerators, a machine type, restarts.

Vertex AI starts it through the launcher of ``google-cloud-pipeline-components``, which is an image and a command. The
package itself is not needed, and cannot be installed together with the current ``google-cloud-aiplatform``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from google.protobuf import json_format
from kfp import dsl

from runwide.errors import InputError
from runwide_components.configuration import NOTHING as PLAIN
from runwide_components.configuration import StepConfiguration
from runwide_components.steps import with_signature

if TYPE_CHECKING:
    from collections.abc import Callable


LAUNCHER = "gcr.io/ml-pipeline/google-cloud-pipeline-components"
_IMAGE = f"{LAUNCHER}:2.22.0"
_COMMAND = ["python3", "-u", "-m", "google_cloud_pipeline_components.container.v1.custom_job.launcher"]

# Vertex AI replaces these with the values of the pipeline's run, so that all its steps are alike
_PROJECT = "{{$.pipeline_google_cloud_project_id}}"
_LOCATION = "{{$.pipeline_google_cloud_location}}"
_SERVICE_ACCOUNT = "{{$.pipeline_service_account}}"
_NETWORK = "{{$.pipeline_network}}"
_KEY = "{{$.pipeline_encryption_key_name}}"

_DAYS = "604800s"  # 7, the longest that a CustomJob may take


def as_custom_job(
    step: Any,
    *,
    machine_type: str,
    spot: bool = False,
    accelerator: tuple[str, int] | None = None,
    labels: Mapping[str, str] | None = None,
    service_account: str | None = None,
) -> Any:
    """Return a step that runs the container of another step as a CustomJob.

    Args:
        step: A container component with parameters only.
        spot: True for Spot capacity, which Google may take away at any moment; Vertex AI then starts the job again.
        service_account: Its service account; None for the account of the pipeline's run.

    Example:
        >>> from runwide_components.steps import steps_of
        >>> shard = as_custom_job(steps_of("runwide:1").shard, machine_type="n2-highmem-16", spot=True)
        >>> sorted(shard.component_spec.inputs), sorted(shard.component_spec.outputs)
        (['index', 'job', 'run_key'], ['gcp_resources', 'manifest'])
    """
    spec = json_format.MessageToDict(step.pipeline_spec)
    (executor,) = spec["deploymentSpec"]["executors"].values()
    job = _job(step.name, executor["container"], machine_type, accelerator, spot=spot)
    job["job_spec"]["service_account"] = service_account or _SERVICE_ACCOUNT
    payload = json.dumps({**job, **({"labels": dict(labels)} if labels else {})})

    about = step.component_spec
    types = {name: _python(one.type) for name, one in about.inputs.items()}
    types |= {name: dsl.OutputPath(_python(one.type)) for name, one in about.outputs.items()}
    types["gcp_resources"] = dsl.OutputPath(str)

    def launched(*values: Any) -> dsl.ContainerSpec:
        args = ["--type", "CustomJob", "--payload", payload, "--project", _PROJECT, "--location", _LOCATION]
        return dsl.ContainerSpec(image=_IMAGE, command=_COMMAND, args=[*args, "--gcp_resources", values[-1]])

    return dsl.container_component(with_signature(launched, step.name, types))


def _job(
    name: str,
    container: Mapping[str, Any],
    machine_type: str,
    accelerator: tuple[str, int] | None,
    *,
    spot: bool,
) -> dict[str, Any]:
    """Return the ``CustomJob`` in the form that the launcher reads."""
    machine: dict[str, Any] = {"machine_type": machine_type}
    if accelerator is not None:
        machine |= {"accelerator_type": accelerator[0], "accelerator_count": accelerator[1]}
    pool = {
        "machine_spec": machine,
        "replica_count": 1,
        "container_spec": {
            "image_uri": container["image"], "command": container["command"], "args": container["args"],
            "env": container.get("env", []),
        },
    }  # fmt: skip
    return {
        "display_name": f"runwide-{name}",
        "job_spec": {
            "worker_pool_specs": [pool],
            "scheduling": {"timeout": _DAYS, "strategy": "SPOT" if spot else "STANDARD"},
            "network": _NETWORK,
        },
        "encryption_spec": {"kms_key_name": _KEY},
    }


def _python(kind: str) -> type:
    return {"String": str, "Integer": int, "Float": float, "Boolean": bool, "List": list, "Dict": dict}[kind]


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
        retries: The number of restarts of a shard that failed; it then computes only missing results.
        as_step: Function that turns the step of a shard into another step; it must keep inputs and outputs.

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
        """Return the resources from the description that `about` returned, which does not contain ``as_step``."""
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
        """Reject a machine type of Vertex AI together with options of Kubernetes."""
        if self.machine_type is not None and configuration.kubernetes:
            raise InputError(
                f"machine_type= is for Vertex AI, and {configuration.kubernetes[0]} for Kubernetes: no engine supports both",
                hint="leave out one of them",
            )

    def step(self, shard: Any, configuration: StepConfiguration = PLAIN) -> Any:
        """Return the step that runs a shard, changed for these resources."""
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
