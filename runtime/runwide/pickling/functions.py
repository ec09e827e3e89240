"""Pickle a function for other programs, in parts that can be compared without loading them."""

from __future__ import annotations

import hashlib
import os
import pickle
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from runwide import interpreter
from runwide.errors import FunctionNotPicklable
from runwide.json_text import json_of
from runwide.naming import name_of
from runwide.pickling import Reduced, definitions
from runwide.pickling.places import Place, placed
from runwide.pickling.unpicklable import refusal
from runwide.pickling.validate import check, warn_of_generator

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from runwide.code.data import Beside


@dataclass(frozen=True, slots=True)
class Needs:
    """The parts of the program's own code that a function, or other data, needs.

    Args:
        modules: Names of modules that it refers to; not all are the program's own.
        beside: Files that functions that travel by value look for beside their own file.
        by_name: Modules that are pickled by name, since modules that travel import them.
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
        core: A pickle of its code, without places.
        modules: JSON: a digest of each file of the program's own code that it needs, by its path.
        beside: JSON of the parts that may differ between two processes: file names and lines of its code (``places``),
            modules to import first (``submodules``), and modules that it must have (``needed``).
        needs: The needs from which the files were found; empty in a pickle that was received.
    """

    core: bytes
    modules: str
    beside: str
    needs: Needs = field(default=NOTHING, compare=False)

    @property
    def data(self) -> bytes:
        """A pickle of all parts, for ``pickle.loads``."""
        return pickle.dumps(Reduced(placed, self.core, self.modules, self.beside), protocol=5)

    @property
    def digest(self) -> str:
        """SHA-256 of its code, in hex: the same whatever file and line its source is on."""
        return hashlib.sha256(self.core + self.modules.encode()).hexdigest()


def parts_of(data: bytes) -> Pickle | None:
    """Return the parts of a function's pickle without loading it; None if it is another pickle.

    Example:
        >>> from runwide.pickling.reproducible import function
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
    except Exception:  # bytes that are not a pickle raise errors of many kinds
        return None
    return made if known else None


def is_same_function(mine: bytes, theirs: bytes) -> bool:
    """Return whether two pickles have the same function, whatever lines its code is on; neither is loaded or trusted.

    Example:
        >>> from runwide.pickling.reproducible import function
        >>> one, other = (function(eval(f"{lines}lambda x: x")).data for lines in ("", chr(10)))
        >>> one == other, is_same_function(one, other), is_same_function(one, function(abs).data)
        (False, True, False)
    """
    if mine == theirs:
        return True
    ours, found = parts_of(mine), parts_of(theirs)
    if ours is None or found is None or (ours.core, ours.modules) != (found.core, found.modules):
        return False
    with suppress(ValueError, TypeError, KeyError, AttributeError):  # the JSON is not trusted
        return _is_harmless(json_of(found.beside), json_of(ours.beside), _words(ours.core))
    return False


def _is_harmless(theirs: Any, mine: Any, words: set[str]) -> bool:
    """Return whether all places have names of source files, and all imports are named by this program's function."""

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
    """Return whether a name is one that `runwide.pickling.places.shown` may return."""
    return file.startswith("<") or (file.endswith(".py") and not os.path.isabs(file) and ".." not in file)  # noqa: PTH117 - a text


def _words(pickled: bytes) -> set[str]:
    """Return the texts in a pickle without loading it."""
    import pickletools  # slow to load

    return {argument for _, argument, _ in pickletools.genops(pickled) if isinstance(argument, str)}


_STRINGS = frozenset({"SHORT_BINUNICODE", "BINUNICODE", "UNICODE"})
_GETS = frozenset({"BINGET", "LONG_BINGET", "GET"})
_PUTS = frozenset({"BINPUT", "LONG_BINPUT", "PUT"})


def modules_named(pickled: bytes) -> set[str]:
    """Return the names of the modules that a pickle refers to, without loading it.

    Example:
        >>> import datetime, pickle
        >>> modules_named(pickle.dumps([datetime.date(2026, 1, 2), "numpy"]))
        {'datetime'}
    """
    import pickletools  # slow to load, and shards do not need it

    found: set[str] = set()
    memo: dict[int, str | None] = {}
    last: list[str | None] = [None, None]  # the texts last put on the stack
    for opcode, argument, _ in pickletools.genops(pickled):
        name = opcode.name
        if name == "GLOBAL":
            found.add(str(argument).partition(" ")[0])
        elif name == "STACK_GLOBAL" and last[0] is not None:
            found.add(last[0])
        if name == "MEMOIZE" or name in _PUTS:
            memo[len(memo) if argument is None else int(argument)] = last[1]
        elif name not in ("FRAME", "PROTO"):
            last = [last[1], _text(name, argument, memo)]
    return found


def _text(opcode: str, argument: Any, memo: Mapping[int, str | None]) -> str | None:
    """Return the text that an opcode puts on the stack; None if it is another value."""
    if opcode in _STRINGS:
        return str(argument)
    return memo.get(int(argument)) if opcode in _GETS else None


T = TypeVar("T")


def function_pickle(function: Any) -> Pickle:
    """Pickle a function for other programs; the same source gives the same digest.

    Example:
        >>> import pickle
        >>> pickle.loads(function_pickle(lambda x: x + 1).data)(1)
        2
    """
    from runwide.pickling import reproducible  # loads cloudpickle

    check(function)
    return dumped(function, reproducible.function)


def dumped(function: Any, dump: Callable[[Any], T]) -> T:
    """Pickle a function; raise `FunctionNotPicklable`, or `PoolClosed` after the interpreter has shut down."""
    interpreter.check_interpreter()
    if not definitions.registry.worker:
        warn_of_generator(function)
    try:
        return dump(function)
    except Exception as error:
        raise FunctionNotPicklable(
            refusal(f"the function {name_of(function)}", error, function),
            hint="create objects that cannot be pickled (clients, locks, files) inside the function",
        ) from error
