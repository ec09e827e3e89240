"""Artifacts of a step: read from kfp's executor input, written to kfp's executor output."""

from __future__ import annotations

import json
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runwide.cli.output import write_text
from runwide.errors import InputError
from runwide.json_text import json_of

if TYPE_CHECKING:
    from collections.abc import Mapping

_METRICS = "system.Metrics"


def write_output(
    executor_input: str | None,
    metrics: Mapping[str, float],
    more: Mapping[str, Mapping[str, Any]] | None = None,
) -> None:
    """Write ``executor_output.json``: the output artifacts of the step, with numbers as metadata of its metrics.

    Engines read the metadata of artifacts from this file. Their pages show the metadata of ``dsl.Metrics``, not its file.

    Args:
        executor_input: The text that kfp writes for ``{{$}}``; without it, nothing is written.
        more: Further metadata, by the name of the output.
    """
    if executor_input is None:
        return
    try:
        outputs = json_of(executor_input)["outputs"]
        path = Path(outputs["outputFile"])
        found = {
            name: {
                "artifacts": [
                    _output(one, metrics, (more or {}).get(name, {})) for one in listed["artifacts"]
                ]
            }
            for name, listed in outputs.get("artifacts", {}).items()
        }
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise _invalid(error) from error
    write_text(path, json.dumps({"artifacts": found}))


def metadata_of(executor_input: str | None, uri: str) -> dict[str, Any]:
    """Return the metadata of the input artifact with a URI; empty if no engine runs this command.

    Example:
        >>> text = '{"inputs": {"artifacts": {"items": {"artifacts": [{"uri": "/x", "metadata": {"format": "csv"}}]}}}}'
        >>> metadata_of(text, "/x")
        {'format': 'csv'}
    """
    if executor_input is None:
        return {}
    try:
        inputs = json_of(executor_input).get("inputs", {}).get("artifacts", {})
        listed = [one for given in inputs.values() for one in given["artifacts"] if one.get("uri") == uri]
        return dict(listed[0].get("metadata", {})) if listed else {}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise _invalid(error) from error


def artifacts_of(executor_input: str | None, name: str) -> list[tuple[str, dict[str, Any]]]:
    """Return URI and metadata of each artifact in an input that is a list of artifacts.

    Example:
        >>> text = '{"inputs": {"artifacts": {"items": {"artifacts": [{"uri": "/x"}, {"uri": "/y"}]}}}}'
        >>> artifacts_of(text, "items")
        [('/x', {}), ('/y', {})]
    """
    try:
        listed = json_of(executor_input or "")["inputs"]["artifacts"][name].get("artifacts", [])
        return [(str(one["uri"]), dict(one.get("metadata", {}))) for one in listed]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise _invalid(error) from error


def _invalid(error: Exception) -> InputError:
    return InputError(
        f"--executor-input does not describe a task of a pipeline ({type(error).__name__}: {error})",
        hint="pass the text that kfp writes for {{$}}",
    )


def _output(
    artifact: Mapping[str, Any], metrics: Mapping[str, float], more: Mapping[str, Any]
) -> dict[str, Any]:
    metadata = {**artifact.get("metadata", {}), **more}
    if artifact.get("type", {}).get("schemaTitle") == _METRICS:
        # The JSON of protobuf has no NaN and no infinite numbers.
        metadata.update({name: value for name, value in metrics.items() if isfinite(value)})
    return {"name": artifact.get("name", ""), "uri": artifact.get("uri", ""), "metadata": metadata}
