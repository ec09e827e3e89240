"""The public names for authors of pipelines: the fan-out as one call, and the engines that run it.

Names are loaded on first use: kfp takes half a second to import, and not all names need it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from runwide import lazy, settings
from runwide.errors import InputError

if TYPE_CHECKING:
    from runwide_components._fan_out import fan_out
    from runwide_components.batch import Batch, PipelineRun
    from runwide_components.components import Components
    from runwide_components.engines.base import Engine, Run, RunState, ShardRunner
    from runwide_components.engines.kubeflow import Kubeflow
    from runwide_components.engines.local import Local
    from runwide_components.engines.vertex import Vertex
    from runwide_components.image import base_image
    from runwide_components.pipelines import Pipelines

_HOME = {
    "Batch": "runwide_components.batch",
    "Components": "runwide_components.components",
    "Engine": "runwide_components.engines.base",
    "Kubeflow": "runwide_components.engines.kubeflow",
    "Local": "runwide_components.engines.local",
    "PipelineRun": "runwide_components.batch",
    "Pipelines": "runwide_components.pipelines",
    "Run": "runwide_components.engines.base",
    "RunState": "runwide_components.engines.base",
    "ShardRunner": "runwide_components.engines.base",
    "Vertex": "runwide_components.engines.vertex",
    "base_image": "runwide_components.image",
    "fan_out": "runwide_components._fan_out",
}
_WITH_KFP = {"Components", "Kubeflow", "Local", "Pipelines", "Vertex", "fan_out"}

__all__ = [
    "Batch",
    "Components",
    "Engine",
    "Kubeflow",
    "Local",
    "PipelineRun",
    "Pipelines",
    "Run",
    "RunState",
    "ShardRunner",
    "Vertex",
    "base_image",
    "fan_out",
]


def __getattr__(name: str) -> Any:
    if name in _WITH_KFP and settings.value("_KFP_RUNTIME") == "true":
        raise InputError(
            f"{name} defines or runs pipelines, and inside of a component kfp loads only the part that runs components",
            hint="call it where the pipeline is defined; a component can use runwide.map, runwide.load and runwide.Exchange",
        )
    return lazy.found(__name__, _HOME, name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
