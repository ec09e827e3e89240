"""The compiled pipeline of a batch, with its digest."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

from google.protobuf import json_format

from runwide_components.engines.asked import StepOptions, check_step_options, platforms_of
from runwide_components.engines.spec import compiled, loaded, without_places

if TYPE_CHECKING:
    from pathlib import Path

    from runwide_components.engines.base import Engine


def digested(pipeline: Any, folder: Path, engine: Engine) -> tuple[Any, str, Any]:
    """Compile a pipeline, and return its path, its digest, and its spec; None as the spec of one in a registry or bucket.

    Raises:
        InputError: It is not a pipeline, or the engine does not support options of its steps.
    """
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
