"""An engine from its description, as commands and records have it."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from runwide.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from runwide_components.engines.base import Engine

_ENGINES = {
    "kubeflow": ("runwide_components.engines.kubeflow", "Kubeflow"),
    "local": ("runwide_components.engines.local", "Local"),
    "vertex": ("runwide_components.engines.vertex", "Vertex"),
}


def engine_of(about: Mapping[str, Any]) -> Engine:
    """The engine that described itself by `Engine.about`.

    Raises:
        InputError: There is no such engine, or it has no such option.

    Example:
        >>> engine_of({"engine": "local", "runner": "subprocess"})
        Local('subprocess')
    """
    options = dict(about)
    kind = options.pop("engine", None)
    home = _ENGINES.get(str(kind))
    if home is None:
        raise InputError(f"there is no engine {kind!r}", hint=f"say one of {', '.join(_ENGINES)}")
    made = getattr(import_module(home[0]), home[1])
    try:
        engine: Engine = made(**options)
    except TypeError as error:
        raise InputError(
            f"the engine {kind} cannot be made so: {error}", hint="see its documentation"
        ) from error
    return engine
