"""Compile pipelines, and read images and outputs from the compiled spec."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from google.protobuf import json_format
from kfp import compiler, components

from runwide.cli import encoding
from runwide.errors import InputError
from runwide_components.engines.step_options import (
    StepOptions,
    check_step_options,
    containers_of,
    platforms_of,
    program_of,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from runwide_components.engines.base import Engine


_PACKAGES = "--packages"  # an option with the packages installed where the pipeline was compiled


@dataclass(frozen=True, slots=True)
class Source:
    """The task that makes an output of a pipeline.

    Args:
        path: Names of the tasks, from the outermost pipeline down to the task that runs in a container.
        key: Name of that task's output.
        many: True if the task is in a loop, and the output is a list with a value for each iteration.
    """

    path: tuple[str, ...]
    key: str
    many: bool
    artifact: bool = False


def compiled(pipeline: Any, folder: Path) -> Path:
    """Compile a pipeline into a folder, and return the path; return the path of one that is compiled already.

    Raises:
        InputError: It is a URL, which only Google's client reads.
    """
    if isinstance(pipeline, str) and "://" in pipeline:
        raise InputError(
            "only Vertex reads a pipeline from a registry or a bucket",
            uri=pipeline,
            hint="give the path of a file, or engine=Vertex()",
        )
    if isinstance(pipeline, (str, os.PathLike)):
        return Path(pipeline).resolve()
    path = folder / "pipeline.yaml"
    compiler.Compiler().compile(pipeline, str(path))
    return path


def without_places(about: Any) -> Any:
    """Return a spec, as JSON, without the file names and line numbers of its functions and the versions of packages.

    Example:
        >>> without_places({"constant": "z:eNx~eNw=~eNz", "number": 1})
        {'constant': 'z:eNx~eNw=', 'number': 1}
    """
    if isinstance(about, str):
        return encoding.without_places(about)
    if isinstance(about, dict):
        return {name: without_places(value) for name, value in about.items()}
    if not isinstance(about, list):
        return about
    pairs = zip([None, *about], about, strict=False)
    return [None if before == _PACKAGES else without_places(value) for before, value in pairs]


def loaded(path: Path) -> Any:
    """Return the spec in a file, as kfp's loader reads it.

    Raises:
        InputError: It is not a pipeline.
    """
    try:
        return components.load_component_from_file(str(path)).pipeline_spec
    except Exception as error:  # kfp lets any exception of its parser pass
        reason = f"{type(error).__name__}: {error}"
        raise InputError(f"this cannot be read as a pipeline ({reason})", uri=str(path)) from error


def with_caching(path: Path, made: Path, *, enable: bool) -> Path:
    """Write a copy of a compiled pipeline to ``made``, with caching on or off for all tasks, also in inner pipelines.

    ``kfp.Client`` itself changes the tasks of the outermost pipeline only.
    """
    about, *rest = yaml.safe_load_all(path.read_text(encoding="utf-8"))
    for component in (about["root"], *about.get("components", {}).values()):
        for task in component.get("dag", {}).get("tasks", {}).values():
            task["cachingOptions"] = {"enableCache": True} if enable else {}
    made.write_text(yaml.safe_dump_all([about, *rest]), encoding="utf-8")
    return made


def images_of(spec: Any, program: str | None = None) -> Iterator[str]:
    """Yield the images of steps whose command begins with a program, or of all steps."""
    for container in containers_of(spec).values():
        if program is None or program_of(container) == program:
            yield container["image"].string_value


def sources(spec: Any) -> dict[str, Source]:
    """Return the task that makes each output of the pipeline; outputs of alternatives are left out."""
    found = {}
    outputs = spec.root.output_definitions
    for names, artifact in ((outputs.parameters, False), (outputs.artifacts, True)):
        for name in names:
            source = _source(spec, spec.root, name, artifact=artifact)
            if source is not None:
                found[name] = source
    return found


def _source(spec: Any, component: Any, output: str, *, artifact: bool) -> Source | None:
    if not component.HasField("dag"):
        return Source((), output, many=False, artifact=artifact)
    made_by = _maker(component.dag.outputs, output, artifact=artifact)
    task = component.dag.tasks.get(made_by[0]) if made_by else None
    if made_by is None or task is None:
        return None
    inner = _source(spec, spec.components[task.component_ref.name], made_by[1], artifact=artifact)
    if inner is None:
        return None
    loops = task.HasField("parameter_iterator") or task.HasField("artifact_iterator")
    return Source((made_by[0], *inner.path), inner.key, many=inner.many or loops, artifact=artifact)


def _maker(outputs: Any, name: str, *, artifact: bool) -> tuple[str, str] | None:
    """Return the task, with the name of its output, that makes an output of a DAG; None where one of several does."""
    if not artifact:
        selector = outputs.parameters[name].value_from_parameter
        return selector.producer_subtask, selector.output_parameter_key
    selectors = outputs.artifacts[name].artifact_selectors
    if len(selectors) != 1:
        return None
    return selectors[0].producer_subtask, selectors[0].output_artifact_key


def digested(pipeline: Any, folder: Path, engine: Engine) -> tuple[Any, str, Any]:
    """Compile a pipeline, and return its path, its digest, and its spec; None as the spec of one in a registry or bucket."""
    if isinstance(pipeline, str) and "://" in pipeline:
        return pipeline, hashlib.sha256(pipeline.encode()).hexdigest(), None
    path = compiled(pipeline, folder)
    spec = loaded(path)
    check_step_options(engine, StepOptions.of(path, spec))
    about = json_format.MessageToDict(spec)
    about.pop("sdkVersion", None)  # another release of kfp compiles the same pipeline
    if platforms := platforms_of(path):
        about["platforms"] = platforms
    digest = hashlib.sha256(json.dumps(without_places(about), sort_keys=True).encode()).hexdigest()
    return path, digest, spec
