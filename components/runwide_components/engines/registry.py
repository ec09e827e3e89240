"""An engine from its description, as commands and records have it."""

from __future__ import annotations

import re
from importlib import import_module
from typing import TYPE_CHECKING, Any

from runwide.errors import EngineError, InputError
from runwide.spill.signing import HINT, believe
from runwide_components.engines.fitting import PROJECT, REGION

if TYPE_CHECKING:
    from collections.abc import Mapping

    from runwide_components.engines.base import Engine

_ENGINES = {
    "kubeflow": ("runwide_components.engines.kubeflow", "Kubeflow"),
    "local": ("runwide_components.engines.local", "Local"),
    "vertex": ("runwide_components.engines.vertex", "Vertex"),
}
_RUN = re.compile(r"(?!.*\.\.)[\w.:/-]{1,500}")


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


def run_recorded(value: Any) -> str:
    """What a record calls a run, once it is sure that an engine may be asked for it.

    Raises:
        TypeError: It is no text.
        ValueError: It cannot be what an engine calls a run.
    """
    if not _RUN.fullmatch(value):
        raise ValueError(f"{value[:100]!r} is no run")
    return str(value)


def engine_recorded(about: Any, *, vouched: bool, uri: str) -> Engine:
    """The engine that a record describes, as far as that may be believed.

    Args:
        about: What `Engine.about` of it said.
        vouched: Whether the user's key has signed the record.
        uri: Where the record lies.

    Raises:
        EngineError: Somebody has to say more.
    """
    if vouched:
        return engine_of(about)
    believe("the record of a run", uri)
    return engine_named(about, uri=uri)


def engine_named(about: Any, *, uri: str) -> Engine:
    """The engine that a record names for which nobody vouches: of it, the name and the project are believed, and no more.

    Addresses, mounts, arguments of containers, accounts and credentials are the defaults.

    Args:
        about: What `Engine.about` of it said.
        uri: Where the record lies, for errors.

    Raises:
        EngineError: That is not enough to make one.

    Example:
        >>> engine_named({"engine": "local", "runner": "subprocess", "mounts": ["/"]}, uri="/x").mounts
        ()
    """
    given = about if isinstance(about, dict) else {}
    kind, runner = given.get("engine"), given.get("runner")
    if kind == "local" and runner in ("docker", "subprocess"):
        return engine_of({"engine": kind, "runner": runner})
    project, location = str(given.get("project")), str(given.get("location"))
    if kind == "vertex" and PROJECT.fullmatch(project) and REGION.fullmatch(location):
        return engine_of({"engine": kind, "project": project, "location": location})
    named = f"the engine {kind}" if isinstance(kind, str) and kind in _ENGINES else "no engine that is known"
    raise EngineError(
        f"the record of the run is not signed, and names {named}: where that is, it is not asked",
        uri=uri,
        hint=f"say which engine runs it (engine=, or --engine kubeflow --host …); or {HINT}",
    )
