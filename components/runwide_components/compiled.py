"""The compiled pipeline of a batch, and what tells it from others."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

from google.protobuf import json_format

from runwide_components.engines import spec as specs
from runwide_components.engines.asked import Asked, check_asked, platforms_of

if TYPE_CHECKING:
    from pathlib import Path

    from runwide_components.engines.base import Engine


def compiled(pipeline: Any, folder: Path, engine: Engine) -> tuple[Any, str, Any]:
    """Return where the compiled pipeline is, its digest, and its spec; None for that of a registry or bucket.

    Args:
        pipeline: As `Engine.submit` takes it.
        folder: Where it is compiled.
        engine: What will run it.

    Raises:
        InputError: It is no pipeline, or its steps ask for something that the engine does not have.
    """
    if isinstance(pipeline, str) and "://" in pipeline:
        return pipeline, hashlib.sha256(pipeline.encode()).hexdigest(), None
    path = specs.compiled(pipeline, folder)
    loaded = specs.loaded(path)
    check_asked(engine, Asked.of(path, loaded))
    about = json_format.MessageToDict(loaded)
    about.pop("sdkVersion", None)  # the same pipeline, compiled by another release of kfp
    if platforms := platforms_of(path):
        about["platforms"] = platforms
    digest = hashlib.sha256(json.dumps(specs.without_places(about), sort_keys=True).encode()).hexdigest()
    return path, digest, loaded
