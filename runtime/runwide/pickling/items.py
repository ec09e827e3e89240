"""The class pickles and the modules that the items of one map share."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from runwide.code import finding
from runwide.pickling.functions import modules_named

if TYPE_CHECKING:
    from collections.abc import Iterable

_SHORT_TEXT = b"\x8c"  # the opcode of a text of less than 256 bytes, as names of modules are
_GLOBAL = b"\x93"  # the opcode that finds something by the names of its module and itself


class Definitions:
    """Pickles of classes that several values share, and the program's own modules that the values refer to.

    Args:
        by_name: Modules that are pickled by name with the function of the values.

    Example:
        >>> from runwide.pickling.reproducible import item
        >>> shared = Definitions()
        >>> item([1, 2], shared) == item([1, 2], Definitions()), shared.modules
        (True, set())
    """

    def __init__(self, by_name: frozenset[str] = frozenset()) -> None:
        self.by_name = by_name
        self.blobs: dict[type, bytes] = {}
        self.modules: set[str] = set()
        self._own: frozenset[str] = frozenset()
        self._texts: frozenset[bytes] = frozenset()
        self._loaded = 0

    def note(self, stream: bytes) -> bool:
        """Record the program's own modules that a pickle refers to.

        Return whether it refers to a module whose classes travel by value, which could not be imported.
        """
        if _GLOBAL not in stream or not self._may_name_own(stream):
            return False
        return self.add(modules_named(stream))

    def add(self, names: Iterable[str]) -> bool:
        """Record the program's own modules among the modules that values need; return as `note` does."""
        self._refresh()
        found = [name for name in names if name in self._own]
        by_value = [name for name in found if name not in self.by_name and finding.goes_by_value(name)]
        self.modules.update(found)
        self.modules.difference_update(by_value)
        return bool(by_value)

    def _may_name_own(self, stream: bytes) -> bool:
        """Return whether the name of one of the program's own modules is a text in a pickle."""
        self._refresh()
        place = stream.find(_SHORT_TEXT)
        while place >= 0:
            start = place + 2
            if stream[start : start + stream[place + 1]] in self._texts:
                return True
            place = stream.find(_SHORT_TEXT, place + 1, len(stream) - 1)
        return False

    def _refresh(self) -> None:
        """Update the names of the program's own modules if modules were loaded since."""
        if self._loaded != len(sys.modules):
            self._loaded = len(sys.modules)
            self._own = frozenset(finding.loaded())
            self._texts = frozenset(name.encode() for name in self._own)
