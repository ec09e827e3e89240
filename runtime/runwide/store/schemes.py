"""The schemes of stores' URIs, and the entry points that add more.

A package adds a store by an entry point in the group ``runwide.stores``. Its name is the scheme; its object takes the part
of a URI after ``://`` and returns a `runwide.store.base.Store`. `runwide.store.remote` is the base of stores that a service
keeps.
"""

from __future__ import annotations

import os
import re
import unicodedata
from importlib import import_module
from os import PathLike
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from runwide.errors import BadReference, InputError, RunwideError
from runwide.store import windows

if TYPE_CHECKING:
    from collections.abc import Callable
    from importlib.metadata import EntryPoint

    from runwide.store.base import Store

GROUP = "runwide.stores"

# pyproject.toml has the same lines. They are read here: reading the entry points of all installed packages takes time.
BUILT_IN = {
    "file": "runwide.store.local:LocalStore",
    "gs": "runwide.store.gcs:GcsStore",
    "memory": "runwide.store.memory:MemoryStore",
}

_registered: dict[str, Callable[[str], Store]] = {}
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")
_MARK = re.compile(r"\{\{.*?\}\}")  # kfp writes these into a text where an engine inserts a value


def register(scheme: str, opener: Callable[[str], Store]) -> None:
    """Add a scheme in this process only; workers and components do not know it.

    Args:
        scheme: The part of a URI before ``://``.
        opener: Takes the part after it, and returns the store.
    """
    _registered[scheme] = opener


def opener_of(scheme: str) -> Callable[[str], Store]:
    """Return the callable that opens stores of a scheme.

    Example:
        >>> opener_of("memory")("doc").uri
        'memory://doc'
    """
    if scheme in _registered:
        return _registered[scheme]
    if scheme in BUILT_IN:
        module, _, name = BUILT_IN[scheme].partition(":")
        found: Callable[[str], Store] = getattr(import_module(module), name)
    else:
        found = _added(scheme)
    _registered[scheme] = found
    return found


def _added(scheme: str) -> Callable[[str], Store]:
    """Load the entry point of a scheme that is not built in."""
    from importlib.metadata import entry_points

    points = {point.name: point for point in entry_points(group=GROUP)}
    if scheme not in points:
        known = sorted({*BUILT_IN, *_registered, *points})
        raise BadReference(
            f"runwide has no store for {scheme}://; known here: {', '.join(f'{one}://' for one in known)}",
            hint="use gs://bucket/prefix, file:///directory or a plain path, or install the package that adds "
            f"{scheme}:// by an entry point in the group {GROUP!r}",
        )
    point = points[scheme]
    try:
        opener: Callable[[str], Store] = point.load()
    except Exception as error:
        again = f"install the package that adds {scheme}:// again, with its requirements"
        raise _wrong(point, "cannot be loaded", f"{type(error).__name__}: {error}", again) from error
    return _Checked(point, opener)


class _Checked:
    """An opener of another package, whose faults become one error that names its entry point."""

    def __init__(self, point: EntryPoint, opener: Callable[[str], Store]) -> None:
        self._point = point
        self._opener = opener

    def __call__(self, rest: str) -> Store:
        from runwide.store.base import Store

        try:
            found = self._opener(rest)
        except RunwideError:  # a wrong URI, for example
            raise
        except Exception as error:
            raise _wrong(self._point, "cannot be opened", f"{type(error).__name__}: {error}") from error
        if not isinstance(found, Store):
            raise _wrong(self._point, "cannot be opened", f"it returned {_kind(found)}, not a Store")
        return found


def _kind(value: Any) -> str:
    return "None" if value is None else f"an object of the type {type(value).__name__}"


def _wrong(point: EntryPoint, failed: str, cause: str, hint: str = "") -> InputError:
    package = f" of the package {point.dist.name}" if point.dist else ""
    return InputError(
        f"the store for {point.name}:// {failed}: entry point {point.name} = {point.value!r}{package}: {cause}",
        hint=hint or "correct the store: docs/stores.md shows a complete one",
    )


def parsed(given: Any) -> tuple[str, str]:
    """Return the scheme of a store's URI and the part after ``://``; a plain path has the scheme ``file``.

    Example:
        >>> parsed("gs://bucket/runs"), parsed("file:///a%20b"), parsed("runs")
        (('gs', 'bucket/runs'), ('file', '/a b'), ('file', 'runs'))
    """
    uri = _text_of(given)
    scheme, found, rest = uri.partition("://")
    if not found:
        if _SCHEME.fullmatch(uri):  # callers remove slashes at the end, also those of gs://
            raise BadReference(
                "the name of the bucket or folder is missing",
                uri=f"{uri}//",
                hint="give gs://bucket/prefix; a folder of such a name is ./NAME",
            )
        if not windows.is_folder(uri) and _SCHEME.match(uri):
            raise BadReference(
                f"{uri!r} has a scheme without two slashes after it",
                hint="give gs://bucket/prefix; a folder of such a name is ./NAME",
            )
        return "file", uri
    return scheme, _path_of(rest, uri) if scheme == "file" else rest


def _text_of(given: Any) -> str:
    """Return a URI as text; reject texts that would make a folder with a name that the user did not intend."""
    uri = os.fspath(given) if isinstance(given, PathLike) else given
    wrong, hint = "", "give gs://bucket/prefix or a directory"
    if not isinstance(uri, str):
        raise BadReference(f"{given!r} is not the URI of a store", hint=hint)
    if uri != uri.strip():
        wrong = ": it has white space around it"
    elif any(unicodedata.category(character) == "Cc" for character in uri):
        wrong = ": it has a control character in it"
    elif uri.partition("/")[0].startswith("~"):
        wrong, hint = ": only a shell replaces '~'", "give the whole path; a folder of that name is ./~"
    elif found := _MARK.search(uri):
        wrong = f": {found[0]} in it should have been replaced by a value of the pipeline"
        hint = "pass that value as a parameter of the pipeline, alone or in the text of store="
    if wrong or not uri:
        raise BadReference(f"{uri!r} is not the URI of a store{wrong}", hint=hint)
    return uri


def _path_of(rest: str, uri: str) -> str:
    if not rest.startswith("/"):
        raise BadReference(
            "a file URI names an absolute path", uri=uri, hint="give file:///directory, with three slashes"
        )
    return windows.of_uri(unquote(rest))
