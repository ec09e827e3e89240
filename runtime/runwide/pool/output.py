"""Pass on what workers print through this program's own streams: as it is, with the item's index, or as entries of JSON."""

from __future__ import annotations

import codecs
import io
import os
import selectors
import sys
import threading
import time
from collections import deque
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from runwide import log
from runwide.pool.bell import Bell
from runwide.pool.frames import framed, is_cut, is_framed, unframed
from runwide.pool.tail import Tail
from runwide.redaction import Lines
from runwide.writing import escaped, has_bars, write, write_all

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_READ = 1 << 16
_LINE = 1 << 16  # longer lines are passed on in pieces
_JSON_LINE = 1 << 20  # unless they may be one of the worker's own lines of JSON
_HEAD = 100  # characters, of which a frame is less
_MOST = 1 << 22  # bytes that wait for the thread, before more are left in their pipes
_UNFINISHED_SECONDS = 0.05

STDOUT, STDERR = 1, 2


class _Whole(io.FileIO):
    """A file to which a write is whole, also where a signal comes in between."""

    def write(self, data: Any) -> int:
        """Write all bytes."""
        write_all(self.fileno(), data)
        return len(data)


class Prefixed(io.TextIOWrapper):
    """A line-buffered text stream that can start each line with the task that runs, for `Pipe`, which may show it.

    Args:
        descriptor: Where to write.
        task: Returns the item and the attempt that run now, or nothing between tasks.
    """

    def __init__(self, descriptor: int, task: Callable[[], Mapping[str, int]]) -> None:
        super().__init__(
            _Whole(descriptor, "w", closefd=False),
            encoding="utf-8",
            errors="backslashreplace",
            line_buffering=True,
        )
        self._task = task
        self._named = self._collected = log.is_collected()
        self._at_start = True

    def write(self, text: str) -> int:
        """Write text, with the task where a line starts."""
        for line in text.splitlines(keepends=True) if self._named else (text,):
            super().write((framed(self._task()) if self._named and self._at_start else "") + line)
            self._at_start = line.endswith("\n") if line else self._at_start
        return len(text)

    def begin(self, *, named: bool) -> None:
        """A call begins: what the one before has printed stands on lines of its own, finished or not.

        Args:
            named: Whether lines start with the task; in lines of JSON it is always said.
        """
        self._at_start = True
        self._named = named or self._collected

    def begin_line(self) -> None:
        """End a line that is not finished."""
        if not self._at_start:
            self.write("\n")


def are_named() -> bool:
    """Whether what tasks print is shown with their items, on one of this program's streams."""
    return log.names_items(sys.stdout) or log.names_items(sys.stderr)


class Output:
    """One thread that passes on what the workers of a pool write.

    The first worker starts it, on the pool's own thread, which no Ctrl-C interrupts. Where a log collector reads, it alone
    makes the entries: taking secrets out of a line may take seconds, and a processor of the user's any time. The pool's
    thread reads too, and leaves to it what it has read. Elsewhere the thread that reads passes on.
    """

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._lock = threading.Lock()  # of reading, and of what was read
        self._turn = threading.Lock()  # of passing on, which may take long
        self._steps: deque[tuple[Callable[[], object], int]] = deque()
        self._owed = 0  # bytes, and other steps, that are left to the thread
        self._bell: Bell | None = None
        self._thread: threading.Thread | None = None
        self._closing = False

    def _begin(self) -> None:
        self._bell = self._bell or Bell(self._selector)
        thread = threading.Thread(target=self._main, args=(self._bell,), name="runwide-output", daemon=True)
        thread.start()
        self._thread = thread

    def pipe(self) -> tuple[Pipe, int]:
        """A new pipe: the end that is read here, and the descriptor to hand to a worker as its output."""
        ours, theirs = os.pipe()
        os.set_blocking(ours, False)
        return Pipe(ours), theirs

    def watch(self, pipe: Pipe, target: int) -> None:
        """Pass on what comes from a pipe to this program's standard output or error."""
        pipe.target = target
        with self._lock:
            self._selector.register(pipe.descriptor, selectors.EVENT_READ, pipe)
        if self._thread is None:
            self._begin()

    def catch_up(self, pipe: Pipe, *, whole: bool) -> None:
        """Pass on what is in a pipe now, with an unfinished last line if nobody is to finish it."""
        with self._lock:
            if pipe.descriptor < 0 or self._owed > _MOST:
                return
            self._read(pipe)
            self._pause(pipe, whole=whole)
        self._leave_or_pass_on()

    def finish(self, pipe: Pipe) -> None:
        """Pass on what is left in the pipe of a worker that has ended, and close it."""
        with self._lock:
            if pipe.descriptor < 0:
                return
            while self._read(pipe):
                pass
            self._pause(pipe, whole=True)
            with suppress(KeyError):
                self._selector.unregister(pipe.descriptor)
            pipe.close()
        self._leave_or_pass_on()

    def after(self, then: Callable[[], object]) -> bool:
        """Have the thread call something when all that was left to it is written; whether anything was."""
        with self._lock:
            if not self._owed:
                return False
            self._put(then, 1)
        self._leave_or_pass_on()
        return True

    def close(self) -> None:
        """End the thread, which writes everything first; the pipes have been finished."""
        self._closing = True
        if self._thread is not None and self._bell is not None:
            self._bell.ring()
            self._thread.join()
            self._thread = None
        self._pass_on()
        if self._bell is not None:
            self._bell.close()
        self._selector.close()

    def _read(self, pipe: Pipe) -> bool | None:
        """Take a step of what is there; None when there is nothing now, False at the end. The lock is held."""
        data = pipe.read()
        if not data:
            return None if data is None else False
        pipe.collected = log.is_collected()
        piece = _Piece(data, time.time(), pipe.collected, pipe.known)
        self._put(partial(pipe.take, piece), len(data) * pipe.collected)
        return True

    def _pause(self, pipe: Pipe, *, whole: bool) -> None:
        if pipe.is_open:
            pipe.is_open = not whole
            self._put(pipe.end if whole else pipe.show_unfinished, int(pipe.collected))

    def _put(self, step: Callable[[], object], owed: int) -> None:
        self._steps.append((step, owed))
        self._owed += owed

    def _leave_or_pass_on(self) -> None:
        if not self._owed:
            self._pass_on()
        elif self._bell is not None:
            self._bell.ring()

    def _pass_on(self) -> None:
        """Take the steps that are this thread's to take."""
        with self._turn:
            while (found := self._next()) is not None:
                step, owed = found
                with suppress(BaseException):  # of the user's stream, say; no Ctrl-C comes here
                    step()
                with self._lock:
                    self._owed -= owed

    def _next(self) -> tuple[Callable[[], object], int] | None:
        with self._lock:
            if not self._steps or (
                self._steps[0][1] and self._thread not in (None, threading.current_thread())
            ):
                return None
            return self._steps.popleft()

    def _main(self, bell: Bell) -> None:
        log.follow_cells()
        unfinished: set[Pipe] = set()
        while not self._closing:
            for key, _ in self._selector.select(_UNFINISHED_SECONDS if unfinished else None):
                if key.data is None:
                    bell.hear()
                    continue
                with self._lock:
                    pipe = key.data
                    if pipe.descriptor >= 0 and self._read(pipe) is False:
                        self._selector.unregister(pipe.descriptor)
                unfinished.add(pipe)
            self._pass_on()
            with self._turn:
                unfinished = {pipe for pipe in unfinished if pipe.descriptor >= 0 and pipe.waits()}
        self._pass_on()


class _Piece(NamedTuple):
    """What was read at once.

    Args:
        data: The bytes.
        came: When, in Unix seconds.
        collected: Whether a log collector reads what comes of it.
        known: What entries of its lines carry.
    """

    data: bytes
    came: float
    collected: bool
    known: Mapping[str, Any]


class Pipe:
    """The reading end of one stream of one worker.

    Whole lines are passed on, so that those of several workers do not mix; an unfinished one after a moment, where nothing
    is to be put before it.

    Args:
        descriptor: The end, non-blocking.
    """

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self.target = STDOUT
        self.known: Mapping[str, Any] = {}
        self.tail = Tail()
        self.is_open = False  # whether what was read ends within a line
        self.collected = False  # whether a log collector reads what comes of that
        self._decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
        self._rest = ""  # of the line that is not finished, as far as it is not passed on
        self._begun = ""  # the end of what is passed on of that line
        self._hidden = Lines()
        self._names = False
        self._last = _Piece(b"", 0.0, collected=False, known={})

    def read(self) -> bytes | None:
        """Return what is there; None when there is nothing now, nothing at the end."""
        try:
            data = os.read(self.descriptor, _READ)
        except BlockingIOError:
            return None
        except OSError:  # the program has closed it
            return b""
        if data:
            self.is_open = not data.endswith(b"\n")
            if self.target == STDERR:
                self.tail.add(data)
        return data

    def take(self, piece: _Piece) -> None:
        """Pass on what was read."""
        self._last = piece
        text = self._decoder.decode(piece.data)
        try:
            self._pass_on(text)
        except Exception:  # whatever it is, the text is there
            self._write(text)

    def end(self) -> None:
        """Pass on what is left of an unfinished last line."""
        if text := self._decoder.decode(b"", final=True):
            self._pass_on(text)
        if self._rest or self._begun:
            end = "" if self._is_plain() else "\n"
            self._write(self._rendered(self._rest, end))
            self._rest = self._begun = ""

    def close(self) -> None:
        """Close the end."""
        os.close(self.descriptor)
        self.descriptor = -1

    def waits(self) -> bool:
        """Whether there is an unfinished line that has not been passed on; after a moment it is."""
        if not self._rest or not self._is_plain():
            return False
        if time.time() - self._last.came < _UNFINISHED_SECONDS:
            return True
        self.show_unfinished()
        return False

    def show_unfinished(self) -> bool:
        """Pass on what is there of an unfinished line, unless something is to be put before it; whether it has been."""
        if not self._is_plain():
            return False
        text, _ = unframed(self._rest)
        self._rest, self._begun = "", (self._begun + text)[-_LINE:]
        self._write(text)
        return True

    def _pass_on(self, text: str) -> None:
        self._names = log.names_items(self._stream)
        *lines, self._rest = (self._rest + text).split("\n")
        found = []
        for line in lines:
            found.append(self._rendered(line, "\n"))
            self._begun = ""
        self._write("".join(found))
        longest = _JSON_LINE if unframed(self._rest[:_HEAD])[0].startswith("{") else _LINE
        if len(self._rest) > longest and not self.show_unfinished():
            at = self._rest.rfind(" ")  # which parts no secret from what gives it away
            at = at if at > len(self._rest) // 2 else len(self._rest)
            line, self._rest = self._rest[:at], self._rest[at:]
            self._write(self._rendered(line, "\n"))

    def _is_plain(self) -> bool:
        """Whether an unfinished line can be passed on as it is."""
        if self._last.collected or has_bars() or is_cut(self._rest):
            return False
        return bool(self._begun) or not self._names or not is_framed(self._rest)

    @property
    def _stream(self) -> Any:
        return sys.stdout if self.target == STDOUT else sys.stderr

    def _rendered(self, line: str, end: str) -> str:
        """A line as it is passed on; of one whose beginning is already, the rest."""
        text, task = unframed(line)
        if self._last.collected:
            severity = "INFO" if self.target == STDOUT else "WARNING"
            known = {**self._last.known, **task}
            hidden = self._hidden(escaped(self._begun + text))
            return log.print_line(
                escaped(text), severity=severity, known=known, hidden=hidden, came=self._last.came
            )
        item = task.get("item")
        named = item is not None and self._names and not self._begun and not text.startswith("{")
        return (f"[{item}] " if named else "") + text + end

    def _write(self, text: str) -> None:
        if text:
            write(self._stream, text)
