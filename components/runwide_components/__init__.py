"""What authors of pipelines import: the fan-out as one call, and the engines that run it."""

from __future__ import annotations

from runwide_components.batch import Batch, PipelineRun
from runwide_components.components import Components
from runwide_components.engines.base import Engine, Run, RunState
from runwide_components.engines.kubeflow import Kubeflow
from runwide_components.engines.local import Local
from runwide_components.engines.vertex import Vertex
from runwide_components.fan_out import fan_out
from runwide_components.pipelines import Pipelines
from runwide_components.steps import base_image

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
