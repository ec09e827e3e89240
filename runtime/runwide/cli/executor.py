"""What a step tells the pipeline's engine of its artifacts, in the file that kfp's own executor would write."""

from __future__ import annotations

import json
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runwide.cli import files
from runwide.errors import InputError
from runwide.parsing import json_of

if TYPE_CHECKING:
    from collections.abc import Mapping

_METRICS = "system.Metrics"


def tell(
    executor_input: str | None,
    metrics: Mapping[str, float],
    more: Mapping[str, Mapping[str, Any]] | None = None,
) -> None:
    """Write ``executor_output.json``: the artifacts as they were asked for, with numbers as metadata of the metrics.

    Engines copy an artifact's metadata from there; their pages show that of ``dsl.Metrics``, not what is in its file.

    Args:
        executor_input: What kfp puts in the place of ``{{$}}``; nothing is written where there is none.
        metrics: Numbers by name.
        more: Further metadata, by the name of the output that the artifact is.

    Raises:
        InputError: It is no description of a task, or the file cannot be written.
    """
    if executor_input is None:
        return
    try:
        outputs = json_of(executor_input)["outputs"]
        path = Path(outputs["outputFile"])
        found = {
            name: {
                "artifacts": [_told(one, metrics, (more or {}).get(name, {})) for one in listed["artifacts"]]
            }
            for name, listed in outputs.get("artifacts", {}).items()
        }
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise _no_task(error) from error
    files.write(path, json.dumps({"artifacts": found}))


def metadata_of(executor_input: str | None, uri: str) -> dict[str, Any]:
    """Return the metadata of the input artifact that lies at a URI, as the engine tells them.

    Args:
        executor_input: What kfp puts in the place of ``{{$}}``; None where no engine runs this.
        uri: The artifact's URI.

    Raises:
        InputError: It is no description of a task.

    Example:
        >>> told = '{"inputs": {"artifacts": {"items": {"artifacts": [{"uri": "/x", "metadata": {"format": "csv"}}]}}}}'
        >>> metadata_of(told, "/x")
        {'format': 'csv'}
    """
    if executor_input is None:
        return {}
    try:
        inputs = json_of(executor_input).get("inputs", {}).get("artifacts", {})
        listed = [one for given in inputs.values() for one in given["artifacts"] if one.get("uri") == uri]
        return dict(listed[0].get("metadata", {})) if listed else {}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise _no_task(error) from error


def artifacts_of(executor_input: str | None, name: str) -> list[tuple[str, dict[str, Any]]]:
    """Return URI and metadata of each artifact of an input that is a list of them, as the engine tells them.

    Args:
        executor_input: What kfp puts in the place of ``{{$}}``.
        name: Name of the input.

    Raises:
        InputError: It is no description of a task, or the task has no such input.

    Example:
        >>> told = '{"inputs": {"artifacts": {"items": {"artifacts": [{"uri": "/x"}, {"uri": "/y"}]}}}}'
        >>> artifacts_of(told, "items")
        [('/x', {}), ('/y', {})]
    """
    try:
        listed = json_of(executor_input or "")["inputs"]["artifacts"][name].get("artifacts", [])
        return [(str(one["uri"]), dict(one.get("metadata", {}))) for one in listed]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise _no_task(error) from error


def _no_task(error: Exception) -> InputError:
    return InputError(
        f"--executor-input does not describe a task of a pipeline ({type(error).__name__}: {error})",
        hint="it is what kfp puts in the place of {{$}}",
    )


def _told(
    artifact: Mapping[str, Any], metrics: Mapping[str, float], more: Mapping[str, Any]
) -> dict[str, Any]:
    metadata = {**artifact.get("metadata", {}), **more}
    if artifact.get("type", {}).get("schemaTitle") == _METRICS:
        # protobuf's JSON has no place for what is not finite
        metadata.update({name: value for name, value in metrics.items() if isfinite(value)})
    return {"name": artifact.get("name", ""), "uri": artifact.get("uri", ""), "metadata": metadata}
