"""Globals, and variables of enclosing functions, that functions which came by value share in a worker."""

from __future__ import annotations

import types
from contextlib import suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

ABSENT = "absent"
"""The version of a name that a function uses and the program does not have."""

_NEVER = object()  # not even that was told


class Changes:
    """How often a name or a variable of this process has been set to what the program has."""

    def __init__(self) -> None:
        self.number = 0
        self.known = 0  # of those, to a version that is known to be another one
        self.again = False  # whether what is loaded now was loaded before


changes = Changes()


class Told:
    """What the program has told of some names: a version of each, other when it has changed the value.

    Args:
        names: Those that it has, in whatever version.
    """

    def __init__(self, names: Iterable[str] = ()) -> None:
        self._versions: dict[str, Any] = dict.fromkeys(names)

    def __contains__(self, name: str) -> bool:
        return name in self._versions

    def is_current(self, name: str, version: Any) -> bool:
        """Whether this version of a name is known to be the last that was told."""
        return version is not None and self._versions.get(name) == version

    def changed(self, versions: Mapping[str, Any], has: Callable[[str], bool]) -> Iterator[str]:
        """Yield the names whose values are to be taken over.

        Args:
            versions: By name; None means that the program may have changed the value, `ABSENT` that it has no such name.
            has: Whether the name is here. If so before anything was told of it, it is the initializer's or a task's.
        """
        for name, version in versions.items():
            before = self._versions.get(name, _NEVER)
            if changes.again and version is None and before is not _NEVER:
                continue  # it is what a task has made of it
            self._versions[name] = version
            if not has(name) if before is _NEVER else version is None or version != before:
                changes.number += 1
                changes.known += version is not None
                yield name


class Namespace:
    """The globals of functions that came by value.

    Args:
        values: The dict itself.
        live: Whether it is a module of this process, which keeps what it has.
    """

    def __init__(self, values: dict[str, Any], *, live: bool = False) -> None:
        self.values = values
        self.live = live
        self._told = Told(values)

    def receive(self, values: Mapping[str, Any], versions: Mapping[str, Any] | None) -> None:
        """Take the program's values of some names.

        Args:
            values: By name.
            versions: As for `Told.changed`. Without any, names that are there already, or were, are left alone.
        """
        if self.live:
            return
        if versions is None:
            for name, value in values.items():
                if name not in self._told:
                    self.values.setdefault(name, value)
            return
        for name in self._told.changed(versions, self.values.__contains__):
            if name in values:
                self.values[name] = values[name]
            else:
                self.values.pop(name, None)

    def one_of(self, names: Sequence[str], version: Any, value: Any) -> Any:
        """Return the one object here that several names, or a name and a default, have in the program.

        Args:
            names: All names in the program that have it.
            version: Of its value.
            value: What it is if it has not arrived before.
        """
        if self.live:
            return value
        for name in names:
            if self._told.is_current(name, version) and name in self.values:
                return self.values[name]
        self.receive({names[0]: value}, {names[0]: version})
        return value


class Variables:
    """Variables of enclosing functions that the initializer of a worker shares with functions that come later."""

    def __init__(self) -> None:
        self._cells: dict[str, types.CellType] = {}
        self._told = Told()

    def cell(self, key: str | None) -> types.CellType:
        """Return the variable of a key; a new one where there is no key."""
        return types.CellType() if key is None else self._cells.setdefault(key, types.CellType())

    def receive(self, cells: Mapping[str, types.CellType], versions: Mapping[str, Any]) -> None:
        """Take the program's values of some variables, as `Namespace.receive` does of globals."""
        for key in self._told.changed(versions, lambda key: not is_empty(self._cells[key])):
            fill(self._cells[key], cells[key])


def is_empty(cell: types.CellType) -> bool:
    """Whether a variable of an enclosing function has no value."""
    try:
        cell.cell_contents  # noqa: B018 - raises
    except ValueError:
        return True
    return False


def fill(cell: types.CellType, other: types.CellType) -> None:
    """Give a variable the value of another one, or none."""
    if is_empty(other):
        with suppress(ValueError):  # it has none
            del cell.cell_contents
    else:
        cell.cell_contents = other.cell_contents
