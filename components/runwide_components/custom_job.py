"""Turn a step into a CustomJob of Vertex AI, for a machine type or Spot capacity, which a pipeline spec cannot express.

Vertex AI starts it through the launcher of ``google-cloud-pipeline-components``, which is an image and a command. The
package itself is not needed, and cannot be installed together with the current ``google-cloud-aiplatform``.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from google.protobuf import json_format
from kfp import dsl

from runwide_components.signature import with_signature

if TYPE_CHECKING:
    from collections.abc import Mapping

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
        machine_type: Name of the machine type, such as ``n2-highmem-16``.
        spot: True for Spot capacity, which Google may take away at any moment; Vertex AI then starts the job again.
        accelerator: Type and number of accelerators, such as ``("NVIDIA_L4", 1)``.
        labels: Labels of the CustomJob.
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
