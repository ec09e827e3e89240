"""Results and failures that a worker has not sent yet."""

from __future__ import annotations

import threading
import time
import traceback
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runwide.causes import Cause
from runwide.errors import ScratchFull
from runwide.naming import text_of
from runwide.pool import transfer

if TYPE_CHECKING:
    from runwide.events.measure import Meter
    from runwide.pool.channel import StatusWords, WorkerChannel
    from runwide.pool.scratch import Scratch


NO_EXCEPTION = b""
"""The pickle of KeyboardInterrupt and the like. They are not passed on: in the caller, they would mean something else."""

_OURS = str(Path(__file__).parent)


def failed(
    cause: Cause, error: BaseException, message: str | None = None, value: str = ""
) -> tuple[Any, ...]:
    """Return an entry for a failure: text that always arrives, and the exception itself if it can be pickled.

    Args:
        message: The error's text; None for its own text.
        value: The result that could not be pickled, as text.
    """
    text = ""
    with suppress(BaseException):  # the code of the user's classes runs here
        text = "".join(traceback.format_exception(type(error), error, _without_own_frames(error)))
    said = text_of(error) if message is None else message
    pickled: bytes | None = NO_EXCEPTION
    if isinstance(error, Exception):
        pickled, why = _pickled(error)
        said = f"{said}; {why}" if why and said else said or why
    name = type(error).__qualname__
    module = type(error).__module__
    qualified = name if module in ("builtins", "__main__") else f"{module}.{name}"
    exited = error.code if isinstance(error, SystemExit) else None
    exitcode = exited if isinstance(exited, int) else None
    return (
        transfer.FAILED,
        cause.name,
        qualified,
        said,
        text,
        pickled,
        exitcode,
        value,
    )


def _pickled(error: Exception) -> tuple[bytes | None, str]:
    """Return the pickle of an exception, and an empty text; or None, and the reason why it has none."""
    try:
        body, buffers = transfer.dump_by_reference_first(error)
    except BaseException as reason:  # the code of the user's classes runs here
        from runwide.pickling.unpicklable import located

        return None, located(text_of(reason), error)
    return (None, "it has large buffers") if buffers else (body, "")


def _without_own_frames(error: BaseException) -> Any:
    """Return the traceback without its first frames, if they are runwide's own."""
    trace = error.__traceback__
    while (
        trace is not None
        and trace.tb_next is not None
        and trace.tb_frame.f_code.co_filename.startswith(_OURS)
    ):
        trace = trace.tb_next
    return trace


RESULTS, SCALARS, WAITING = "results", "scalars", "waiting"

_STREAM_SECONDS = 0.05
"""Finished results leave a running chunk at this interval, so that the death of a later task loses little."""

_STREAM_BYTES = 1 << 20

_SHORTEST, _LONGEST = 0.01, 0.1
"""Seconds between two checks whether there is room."""


class Outbox:
    """A buffer of results. A thread sends them, so that a long task does not delay earlier results.

    Args:
        status: The status words, in which the pool gives up a result that waits for room.
    """

    def __init__(self, channel: WorkerChannel, scratch: Scratch, status: StatusWords) -> None:
        self._channel = channel
        self._scratch = scratch
        self._status = status
        self._lock = threading.Lock()
        self._filled = threading.Event()
        self._entries: list[Any] = []
        self._are_scalars = True
        self.meter: Meter | None = None  # set if the pool has a listener to events
        self.mapped = False  # whether items of the chunk are in scratch
        self._bytes = 0
        self._since = 0.0
        threading.Thread(target=self._stream, name="runwide-stream", daemon=True).start()

    def extend(self, entries: list[Any], started: float, ended: float) -> None:
        """Add results of tasks that ran one after another.

        Args:
            entries: At least one; the list is emptied.
            started: When the first of them started, on the monotonic clock, in seconds.
            ended: When the last of them ended, just now.
        """
        are_scalars = isinstance(entries, transfer.Scalars)
        size = 0 if are_scalars else transfer.payload_size(entries)
        with self._lock:
            self._are_scalars = are_scalars and self._are_scalars
            first = not self._entries
            self._entries += entries
            number = len(entries)
            entries.clear()  # a result that has been sent must not keep its memory
            self._bytes += size
            if self.meter is not None:
                self.meter.add(number, started, ended)
        if size and self._bytes > _STREAM_BYTES:
            self.flush()
        elif first:
            self._since = ended
            self._filled.set()
        elif ended - self._since > _STREAM_SECONDS:
            self.flush()

    def flush(self, *last: object) -> None:
        """Send all results, and then these messages."""
        with self._lock:
            entries, plain = self._entries, not self._bytes  # then no entry has bytes to seal
            if entries and plain:
                last = (self._posted(None, entries), *last)
            elif entries:
                self._send(entries)
            self._entries, self._are_scalars, self._bytes = [], True, 0
            if last:
                self._channel.send(*last)

    def _send(self, entries: list[Any]) -> None:
        whole = self._attempt(entries)
        if not isinstance(whole, OSError):
            self._post(*whole)
            return
        while entries:  # one by one: each may make room for the next
            self._post(*self._first_sealed(entries))

    def _posted(self, path: str | None, sealed: list[Any]) -> tuple[Any, ...]:
        report = None if self.meter is None else self.meter.report(len(sealed))
        if self._are_scalars:
            return SCALARS, sealed, report
        return RESULTS, path, sealed, report

    def _post(self, path: str | None, sealed: list[Any]) -> None:
        self._channel.send(self._posted(path, sealed))

    def _attempt(self, entries: list[Any]) -> tuple[str | None, list[Any]] | OSError:
        try:
            return transfer.seal(entries, self._scratch)
        except OSError as error:
            return error.with_traceback(None)  # its frames would keep the buffers

    def _first_sealed(self, entries: list[Any]) -> tuple[str | None, list[Any]]:
        """Seal the first result when there is room; if there will be none, return a failure instead."""
        entry = entries.pop(0)
        found = self._attempt([entry])
        if isinstance(found, ScratchFull):
            if self.mapped:  # it may be a view of its item, whose room must become free
                entry = transfer.detached(entry)
            self._status.begin_waiting()
            self._channel.send((WAITING,))
        pause = _SHORTEST
        while isinstance(found, ScratchFull) and not self._status.given_up:
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST)
            with self._scratch.turn() as mine:
                if mine and self._scratch.has_room(transfer.entry_size(entry)):
                    self._status.writing = True
                    found = self._attempt([entry])
                    self._status.writing = not isinstance(found, OSError)
        return (None, [failed(Cause.PAYLOAD, found)]) if isinstance(found, OSError) else found

    def _stream(self) -> None:
        while True:
            self._filled.wait()
            self._filled.clear()
            time.sleep(_STREAM_SECONDS)
            with suppress(OSError):
                self.flush()
