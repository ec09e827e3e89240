"""Find the modules that a pickle refers to, without loading it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

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
