"""What a pickle has for modules that travel, their objects and the files beside them, which are found where it is loaded."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from runwide.arriving import MET, own_namespace, own_object
from runwide.by_value import goes_by_value
from runwide.places import own_file, own_path

if TYPE_CHECKING:
    from collections.abc import Mapping

_PATH = 4096  # characters of a path
_HEAP = 1 << 9  # Py_TPFLAGS_HEAPTYPE: a class that a program has made


def travels(module: str) -> bool:
    """Return whether a module is imported by name in a component, from the code that comes along.

    Args:
        module: Its name.
    """
    from runwide import own  # slow to load, and not for workers

    return module != "__main__" and own.kind_of(module) == "own" and not goes_by_value(module)


class OwnModule:
    """The globals of a module that travels.

    Args:
        name: Its name.
    """

    def __init__(self, name: str) -> None:
        self._name = name

    def __reduce__(self) -> Any:
        return own_namespace, (self._name,)


class OwnObject:
    """An object that a module that travels has.

    Args:
        module: The module.
        name: Its name there.
        value: The object; None for one that has no state.
    """

    def __init__(self, module: str, name: str, value: Any = None) -> None:
        self.module = module
        self.reduced = own_object, (module, name, value)

    def __reduce__(self) -> Any:
        return self.reduced


class Homes:
    """Where modules that travel have their objects."""

    def __init__(self) -> None:
        self._homes: dict[int, tuple[str, str]] | None = None

    def of(self, value: Any) -> OwnObject | None:
        """Find an object whose content a component has as it is now, or that has none; None for any other.

        Args:
            value: The object.
        """
        if is_sentinel(value):
            return self._found(value, None)
        return self._found(value, value) if type(value) in MET else None

    def _found(self, value: Any, state: Any) -> OwnObject | None:
        if self._homes is None:
            from runwide import own  # not for workers

            self._homes = {
                id(one): (module, name)
                for module in own.loaded()
                if travels(module)
                for name, one in list(vars(sys.modules[module]).items())
                if type(one) in MET or is_sentinel(one)
            }
        home = self._homes.get(id(value))
        return None if home is None else OwnObject(*home, state)


def is_sentinel(value: Any) -> bool:
    """Return whether only the identity of an object counts: an `object`, or one of the program's that has no state.

    Args:
        value: The object.
    """
    kind: Any = type(value)
    return kind is object or (
        kind.__flags__ & _HEAP != 0
        and kind.__base__ is object
        and kind.__reduce_ex__ is object.__reduce_ex__
        and not issubclass(kind, (type, ModuleType))
        and getattr(value, "__dict__", None) == {}
        and not vars(kind).get("__slots__")
    )


class OwnPath:
    """A path beside the file of a function that travels by value.

    Args:
        package: Path of the folder of the file, in the archive.
        path: The path below that folder.
        is_text: Whether it is a text.
    """

    def __init__(self, package: str, path: str, *, is_text: bool) -> None:
        self.path = path
        self._reduced = (own_file if is_text else own_path), (f"{package}/{path}".strip("/"),)

    def __reduce__(self) -> Any:
        return self._reduced


def own_paths(function: Any, values: Mapping[str, Any]) -> dict[str, OwnPath]:
    """Find what a program has worked out from its file's name: the folder of the file, and what is there below it.

    Args:
        function: A function that travels by value.
        values: The globals that it uses.
    """
    file = function.__globals__.get("__file__")
    if not isinstance(file, str):
        return {}
    module = getattr(function.__globals__.get("__spec__"), "name", None)
    package = module.rpartition(".")[0].replace(".", "/") if isinstance(module, str) else ""
    folder = os.path.dirname(os.path.abspath(file))  # noqa: PTH100, PTH120 - links stay as they are
    from runwide.own_derived import derived_in  # not for workers

    found = {}
    for name in derived_in(file).intersection(values):
        value = values[name]
        if isinstance(value, Path) or type(value) is str:
            path = _below(str(value), folder)
            if path is not None:
                found[name] = OwnPath(package, path, is_text=type(value) is str)
    return found


def _below(path: str, folder: str) -> str | None:
    """Return a whole path that is there as one below a folder; None for any other text."""
    place = os.path.normpath(path)
    if not os.path.isabs(path) or len(path) > _PATH or not f"{place}{os.sep}".startswith(f"{folder}{os.sep}"):  # noqa: PTH117 - a text
        return None
    return os.path.relpath(place, folder).replace(os.sep, "/") if os.path.exists(place) else None  # noqa: PTH110 - likewise


class OwnFile:
    """The file of a function that travels by value.

    Args:
        path: Its path in the archive.
    """

    def __init__(self, path: str) -> None:
        self._path = path

    def __reduce__(self) -> Any:
        return own_file, (self._path,)
