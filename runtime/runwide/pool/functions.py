"""The pickled functions of a pool's calls, and the pace of their tasks."""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING

from runwide.pool import transfer
from runwide.pool.call import Payload

if TYPE_CHECKING:
    from runwide.pool.call import Call
    from runwide.pool.policy import Pace
    from runwide.pool.scratch import Kept, Scratch

_REMEMBERED = 64  # paces


class Functions:
    """The functions of one scheduler.

    Args:
        scratch: The directories for large functions.
        kept: Restores the files of large functions.
    """

    def __init__(self, scratch: Scratch, kept: Kept) -> None:
        self._scratch = scratch
        self._kept = kept
        self._numbers = count()
        self._paces: dict[str, Pace] = {}  # by key; the pace of the last call is at the end

    def payload(self, dumped: transfer.Dumped) -> Payload:
        """Return a function as workers receive it: in the message, or in a file that all map. Any thread may call it.

        Raises:
            ScratchError: The file cannot be written.
        """
        tag = f"function-{next(self._numbers)}"
        path, entries = transfer.seal([(transfer.FRAME, *dumped)], self._scratch.tagged(tag))
        if path is None:
            return Payload(transfer.digest(dumped), None, entries[0])
        self._kept.add(path)
        return Payload(tag, path, entries[0])  # a large function is kept for its call only

    def begin(self, call: Call) -> None:
        """Begin a call with the pace of the last call of the same function, if all its items are there."""
        if call.source.at_hand:
            call.pace = self._paces.get(call.function.key, call.pace)

    def end(self, call: Call) -> None:
        """Remember the pace of a call that has ended, and remove the file of its function."""
        key, path = call.function.key, call.function.path
        if path is not None:
            self._kept.remove(path)
        elif call.pace.seconds is not None:
            self._paces.pop(key, None)
            self._paces[key] = call.pace._replace(is_of_before=True)
            if len(self._paces) > _REMEMBERED:
                del self._paces[next(iter(self._paces))]
