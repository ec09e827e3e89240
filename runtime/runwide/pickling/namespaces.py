"""Global variables and closure variables that functions share in a worker."""

from __future__ import annotations

import types
from contextlib import suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

ABSENT = "absent"
"""The version of a name that a function uses and the program does not have."""

_NEVER = object()  # no version was received, not even None


class Changes:
    """Counts of how often a name or variable of this process was set to the value that the program has."""

    def __init__(self) -> None:
        self.number = 0
        self.known = 0  # of these, how often the version was known to be different
        self.again = False  # whether the pickle that is being loaded was loaded before


changes = Changes()


class ReceivedVersions:
    """The last version of each name that the program has sent; it differs if the program has changed the value.

    Args:
        names: Names that exist already, with an unknown version.
    """

    def __init__(self, names: Iterable[str] = ()) -> None:
        self._versions: dict[str, Any] = dict.fromkeys(names)

    def __contains__(self, name: str) -> bool:
        return name in self._versions

    def is_current(self, name: str, version: Any) -> bool:
        """Return whether this version of a name is known to be the last that was received."""
        return version is not None and self._versions.get(name) == version

    def changed(self, versions: Mapping[str, Any], has: Callable[[str], bool]) -> Iterator[str]:
        """Yield the names to which the values of the program are to be assigned.

        Args:
            versions: By name; None means that the program may have changed the value, `ABSENT` that it has no such name.
            has: Returns whether a name exists here. If it did before any version was received, the initializer or a task
                has set it.
        """
        for name, version in versions.items():
            before = self._versions.get(name, _NEVER)
            if changes.again and version is None and before is not _NEVER:
                continue  # a task may have changed it
            self._versions[name] = version
            if not has(name) if before is _NEVER else version is None or version != before:
                changes.number += 1
                changes.known += version is not None
                yield name


class Namespace:
    """The globals of functions that were pickled by value.

    Args:
        live: Whether they are those of a module of this process, which are never changed.
    """

    def __init__(self, values: dict[str, Any], *, live: bool = False) -> None:
        self.values = values
        self.live = live
        self._versions = ReceivedVersions(values)

    def receive(self, values: Mapping[str, Any], versions: Mapping[str, Any] | None) -> None:
        """Set names to the values that the program has; without versions, only names that never existed here."""
        if self.live:
            return
        if versions is None:
            for name, value in values.items():
                if name not in self._versions:
                    self.values.setdefault(name, value)
            return
        for name in self._versions.changed(versions, self.values.__contains__):
            if name in values:
                self.values[name] = values[name]
            else:
                self.values.pop(name, None)

    def shared_object(self, names: Sequence[str], version: Any, value: Any) -> Any:
        """Return the object that several names, or a name and a default, share in the program.

        Args:
            value: The object to use if none was received before.
        """
        if self.live:
            return value
        for name in names:
            if self._versions.is_current(name, version) and name in self.values:
                return self.values[name]
        self.receive({names[0]: value}, {names[0]: version})
        return value


class Variables:
    """Closure variables that the initializer of a worker shares with functions that arrive later."""

    def __init__(self) -> None:
        self._cells: dict[str, types.CellType] = {}
        self._versions = ReceivedVersions()

    def cell(self, key: str | None) -> types.CellType:
        """Return the variable of a key; if the key is None, a new variable."""
        return types.CellType() if key is None else self._cells.setdefault(key, types.CellType())

    def receive(self, cells: Mapping[str, types.CellType], versions: Mapping[str, Any]) -> None:
        """Set variables to the values that the program has, as `Namespace.receive` does for globals."""
        for key in self._versions.changed(versions, lambda key: not is_empty(self._cells[key])):
            fill(self._cells[key], cells[key])


def is_empty(cell: types.CellType) -> bool:
    """Return whether a closure variable has no value."""
    try:
        cell.cell_contents  # noqa: B018 - raises
    except ValueError:
        return True
    return False


def fill(cell: types.CellType, other: types.CellType) -> None:
    """Copy the value of another variable into a variable, or remove its value if the other one has none."""
    if is_empty(other):
        with suppress(ValueError):  # it has no value already
            del cell.cell_contents
    else:
        cell.cell_contents = other.cell_contents
