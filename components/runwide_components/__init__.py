"""What authors of pipelines import: the fan-out as one call, and the engines that run it.

The names below are loaded on first use: kfp takes half a second to import, and not all of them need it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from runwide_components.batch import Batch, PipelineRun
    from runwide_components.components import Components
    from runwide_components.engines.base import Engine, Run, RunState
    from runwide_components.engines.kubeflow import Kubeflow
    from runwide_components.engines.local import Local
    from runwide_components.engines.vertex import Vertex
    from runwide_components.fanout import fan_out
    from runwide_components.pipelines import Pipelines
    from runwide_components.steps import base_image

_HOME = {
    "Batch": "batch",
    "Components": "components",
    "Engine": "engines.base",
    "Kubeflow": "engines.kubeflow",
    "Local": "engines.local",
    "PipelineRun": "batch",
    "Pipelines": "pipelines",
    "Run": "engines.base",
    "RunState": "engines.base",
    "Vertex": "engines.vertex",
    "base_image": "steps",
    "fan_out": "fanout",
}

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
    "Vertex",
    "base_image",
    "fan_out",
]


def __getattr__(name: str) -> Any:
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module 'runwide_components' has no attribute {name!r}")
    value = getattr(import_module(f"runwide_components.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
