"""Make an engine from its description, which commands and records contain."""

from __future__ import annotations

import json
import re
from importlib import import_module
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any

from runwide.errors import EngineError, InputError
from runwide.json_text import json_of
from runwide.store.signing import HINT, believe

if TYPE_CHECKING:
    from collections.abc import Mapping

    from runwide_components.engines.base import Engine

_ENGINES = {
    "kubeflow": ("runwide_components.engines.kubeflow", "Kubeflow"),
    "local": ("runwide_components.engines.local", "Local"),
    "vertex": ("runwide_components.engines.vertex", "Vertex"),
}
GROUP = "runwide.engines"
"""Entry points of other packages: the name of an engine, and its class."""

_RUN = re.compile(r"(?!.*\.\.)[\w.:/-]{1,500}")
# no dots and no slashes: Google's client makes the region a part of the host's name
PROJECT = re.compile(r"[a-z0-9][a-z0-9-]{1,62}|[a-z0-9.-]{1,60}:[a-z0-9-]{1,62}")
"""Id of a project of Google Cloud, or its number; with its domain where it has one."""
REGION = re.compile(r"[a-z]+(-[a-z]+)+[0-9]{1,2}")
"""Name of a region of Google Cloud."""


def engine_of(about: Mapping[str, Any]) -> Engine:
    """Return the engine that a description means.

    Args:
        about: As `ShardRunner.about` of the engine returned it.

    Example:
        >>> engine_of({"engine": "local", "runner": "subprocess"})
        Local('subprocess')
    """
    options = dict(about)
    kind = str(options.pop("engine", None))
    made = _class_of(kind)
    if made is None:
        raise InputError(
            f"unknown engine {kind!r}: expected one of {', '.join([*_ENGINES, *registered()])}, or one that a package "
            "registers",
            hint=f"a package registers its engine with an entry point of the group {GROUP}",
        )
    try:
        engine: Engine = made(**options)
    except TypeError as error:
        raise InputError(
            f"invalid options of the engine {kind}: {error}", hint="see its documentation"
        ) from error
    return engine


def _class_of(kind: str) -> Any:
    if home := _ENGINES.get(kind):
        return getattr(import_module(home[0]), home[1])
    found = next(iter(entry_points(group=GROUP, name=kind)), None)
    try:
        return found and found.load()
    except (ImportError, AttributeError) as error:
        raise InputError(
            f"the engine {kind!r} is registered, and cannot be imported: {type(error).__name__}: {error}",
            hint="install its package again",
        ) from error


def registered() -> list[str]:
    """Return the names of the engines that installed packages register, without the built-in ones.

    Example:
        >>> "local" in registered()
        False
    """
    return sorted({one.name for one in entry_points(group=GROUP)} - set(_ENGINES))


def run_recorded(value: Any) -> str:
    """Return the id of a run from a record, after a check that an engine may be asked for it.

    Raises:
        TypeError: It is not a text.
        ValueError: No engine has such ids.
    """
    if not _RUN.fullmatch(value):
        raise ValueError(f"{value[:100]!r} is not the id of a run")
    return str(value)


def engine_recorded(about: Any, *, vouched: bool, uri: str) -> Engine:
    """Return the engine that a record describes, as far as the record can be trusted.

    Raises:
        EngineError: The record does not say enough that can be trusted.
    """
    if vouched:
        return engine_of(about)
    believe("the record of a run", uri)
    return engine_named(about, uri=uri)


def engine_named(about: Any, *, uri: str) -> Engine:
    """Return the engine of an unsigned record, of which only the name and the project are trusted.

    Addresses, mounts, arguments of containers, accounts and credentials are the defaults. The engine of another package is
    made without options, and returned only if the record describes the same engine.

    Raises:
        EngineError: The record has options that are not trusted.

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
    if isinstance(kind, str) and kind in registered():
        return _by_default(kind, given, uri)
    named = f"the engine {kind}" if isinstance(kind, str) and kind in _ENGINES else "an unknown engine"
    raise EngineError(
        f"the record of the run is not signed, and names {named}: its address is not trusted",
        uri=uri,
        hint=f"name the engine that runs it (engine=, or --engine kubeflow --host …); or {HINT}",
    )


def _by_default(kind: str, about: Mapping[str, Any], uri: str) -> Engine:
    """Return a registered engine with its default options, if a record describes this very engine."""
    made = _class_of(kind)
    try:
        engine: Engine | None = made()
        is_same = engine is not None and json_of(json.dumps(engine.about())) == about
    except Exception:  # an option without a default, or a default that is missing here
        engine, is_same = None, False
    if engine is None or not is_same:
        raise EngineError(
            f"the engine {kind!r} is registered, but the record of the run is not signed: its options are not trusted",
            uri=uri,
            hint=f"give the engine of the run with engine=, or --engine {kind} if it has the default options; or set "
            f"RUNWIDE_SIGNING_KEY_FILE before the job is started: {HINT}",
        )
    return engine
