"""A function as a pickle for other programs, in parts: what it does, and where its code stands."""

from __future__ import annotations

import hashlib
import os
import pickle
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from runwide.parsing import json_of
from runwide.places import Place, placed

if TYPE_CHECKING:
    from runwide.own_data import Beside


@dataclass(frozen=True, slots=True)
class Needs:
    """What a function, or other data, needs of the program's own code.

    Args:
        modules: Names of modules that it names, also those that are not the program's own.
        beside: What functions that travel by value look for beside their own files.
        by_name: Modules that go by name, since others import them that travel.
    """

    modules: frozenset[str] = frozenset()
    beside: tuple[Beside, ...] = ()
    by_name: frozenset[str] = frozenset()

    def __or__(self, other: Needs) -> Needs:
        return Needs(self.modules | other.modules, self.beside + other.beside, self.by_name | other.by_name)


NOTHING = Needs()


@dataclass(frozen=True, slots=True)
class Pickle:
    """A function, pickled for other programs.

    Args:
        core: A pickle of what it does.
        modules: JSON: a digest of each file of the program's own code that it needs, by its path.
        beside: JSON of what may differ between two processes: where its code stands (``places``), which of the modules
            that it uses are to be imported first (``submodules``), and which it cannot do without (``needed``).
        needs: From what these files were found; empty in a pickle that has arrived.
    """

    core: bytes
    modules: str
    beside: str
    needs: Needs = field(default=NOTHING, compare=False)

    @property
    def data(self) -> bytes:
        """A pickle of all, which ``pickle.loads`` loads."""
        return pickle.dumps(_Placed(self.core, self.modules, self.beside), protocol=5)

    @property
    def digest(self) -> str:
        """SHA-256, in hex, of what it does: the same on whatever line of whatever file its source stands."""
        return hashlib.sha256(self.core + self.modules.encode()).hexdigest()


class _Placed:
    def __init__(self, *parts: Any) -> None:
        self._parts = parts

    def __reduce__(self) -> Any:
        return placed, self._parts


def parts_of(data: bytes) -> Pickle | None:
    """Return the parts of a pickle that `function` has made, without running anything of it; None if it is another one.

    Example:
        >>> from runwide.reproducible import function
        >>> made = function(abs)
        >>> parts_of(made.data) == made, parts_of(b"another pickle")
        (True, None)
    """
    import pickletools  # slow to load

    try:
        found = [
            argument for _, argument, _ in pickletools.genops(data) if isinstance(argument, (bytes, str))
        ]
        made = Pickle(*found[-3:])  # type: ignore[arg-type]  # the bytes are compared
        known = made.data == data
    except Exception:  # bytes that are no pickle raise errors of many kinds
        return None
    return made if known else None


def is_same(mine: bytes, theirs: bytes) -> bool:
    """Whether a pickle has the same function as one of this program, on whatever lines it stands; nothing of it is run.

    Args:
        mine: The pickle of this program.
        theirs: A pickle that anyone may have written.

    Example:
        >>> from runwide.reproducible import function
        >>> one, other = (function(eval(f"{lines}lambda x: x")).data for lines in ("", chr(10)))
        >>> one == other, is_same(one, other), is_same(one, function(abs).data)
        (False, True, False)
    """
    if mine == theirs:
        return True
    ours, found = parts_of(mine), parts_of(theirs)
    if ours is None or found is None or (ours.core, ours.modules) != (found.core, found.modules):
        return False
    with suppress(ValueError, TypeError, KeyError, AttributeError):  # of what anyone may have written
        return _is_harmless(json_of(found.beside), json_of(ours.beside), _words(ours.core))
    return False


def _is_harmless(theirs: Any, mine: Any, words: set[str]) -> bool:
    """Whether what is beside a pickle has names of source files, and imports what the function of this program names."""

    def is_named(name: str) -> bool:
        packages = (one for one in mine["packages"] if name.startswith(f"{one}."))
        return any(words.issuperset(name[len(one) + 1 :].split(".")) for one in packages)

    files = [Place.of(place).file for place in theirs["places"]]
    return (
        len(files) == len(mine["places"])
        and all(map(_is_source, files))
        and all(name in mine["submodules"] or is_named(name) for name in theirs["submodules"])
    )


def _is_source(file: str) -> bool:
    """Whether it is a name as `runwide.places.shown` gives it."""
    return file.startswith("<") or (file.endswith(".py") and not os.path.isabs(file) and ".." not in file)  # noqa: PTH117 - a text


def _words(pickled: bytes) -> set[str]:
    """Return the texts in a pickle, which is not loaded."""
    import pickletools  # slow to load

    return {argument for _, argument, _ in pickletools.genops(pickled) if isinstance(argument, str)}
