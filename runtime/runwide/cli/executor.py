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


def tell(executor_input: str | None, metrics: Mapping[str, float]) -> None:
    """Write ``executor_output.json``: the artifacts as they were asked for, with numbers as metadata of the metrics.

    Engines copy an artifact's metadata from there; their pages show that of ``dsl.Metrics``, not what is in its file.

    Args:
        executor_input: What kfp puts in the place of ``{{$}}``; nothing is written where there is none.
        metrics: Numbers by name.

    Raises:
        InputError: It is no description of a task, or the file cannot be written.
    """
    if executor_input is None:
        return
    try:
        outputs = json_of(executor_input)["outputs"]
        path = Path(outputs["outputFile"])
        found = {
            name: {"artifacts": [_told(one, metrics) for one in listed["artifacts"]]}
            for name, listed in outputs.get("artifacts", {}).items()
        }
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"--executor-input does not describe a task of a pipeline ({type(error).__name__}: {error})",
            hint="it is what kfp puts in the place of {{$}}",
        ) from error
    files.write(path, json.dumps({"artifacts": found}))


def _told(artifact: Mapping[str, Any], metrics: Mapping[str, float]) -> dict[str, Any]:
    metadata = dict(artifact.get("metadata", {}))
    if artifact.get("type", {}).get("schemaTitle") == _METRICS:
        # protobuf's JSON has no place for what is not finite
        metadata.update({name: value for name, value in metrics.items() if isfinite(value)})
    return {"name": artifact.get("name", ""), "uri": artifact.get("uri", ""), "metadata": metadata}
