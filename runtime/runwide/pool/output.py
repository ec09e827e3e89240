"""Pass lines that workers print on to this program's streams: unchanged, with the item's index, or as JSON."""

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
from runwide.pool.channel import Bell
from runwide.pool.prints import Tail, frame_of, is_cut, is_framed, unframed
from runwide.redaction import Lines
from runwide.streams import escaped, has_bars, write, write_all

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_READ = 1 << 16
_LINE = 1 << 16  # longer lines are passed on in pieces
_JSON_LINE = 1 << 20  # the same for lines that may be the worker's own JSON
_HEAD = 100  # characters; a frame is shorter
_MOST = 1 << 22  # bytes that may wait for the thread; more are left in their pipes
_UNFINISHED_SECONDS = 0.05

STDOUT, STDERR = 1, 2


class _Whole(io.FileIO):
    """A file that is written completely, also if a signal interrupts a write."""

    def write(self, data: Any) -> int:
        """Write all bytes."""
        write_all(self.fileno(), data)
        return len(data)


class Prefixed(io.TextIOWrapper):
    """A text stream that marks each line with its task; `Pipe` replaces or removes the mark.

    Args:
        task: Returns the item and the attempt that run now; an empty mapping between tasks.
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
        """Write text, with the task at the start of each line."""
        for line in text.splitlines(keepends=True) if self._named else (text,):
            super().write((frame_of(self._task()) if self._named and self._at_start else "") + line)
            self._at_start = line.endswith("\n") if line else self._at_start
        return len(text)

    def begin(self, *, named: bool) -> None:
        """Begin a call on a new line, also if the last line of the call before is not finished.

        Args:
            named: Whether lines start with the task; lines for a log collector always do.
        """
        self._at_start = True
        self._named = named or self._collected

    def begin_line(self) -> None:
        """End an unfinished line."""
        if not self._at_start:
            self.write("\n")


def are_named() -> bool:
    """Return whether one of this program's streams shows printed lines with their items."""
    return log.names_items(sys.stdout) or log.names_items(sys.stderr)


class Output:
    """A thread that passes on the lines that the workers of a pool print.

    The first worker starts it, on the pool's own thread, which no Ctrl-C interrupts. If a log collector reads, only this
    thread makes the entries: removing secrets may take seconds, and a processor of the user's any time. The pool's thread
    also reads pipes, and leaves the rest of the work to this thread. If no collector reads, each thread passes on the
    lines that it has read.
    """

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._lock = threading.Lock()  # guards reading, and the steps
        self._turn = threading.Lock()  # held while lines are passed on, which may take long
        self._steps: deque[tuple[Callable[[], object], int]] = deque()
        self._owed = 0  # bytes, and other steps, that the thread has to do
        self._bell: Bell | None = None
        self._thread: threading.Thread | None = None
        self._closing = False

    def _begin(self) -> None:
        self._bell = self._bell or Bell(self._selector)
        thread = threading.Thread(target=self._main, args=(self._bell,), name="runwide-output", daemon=True)
        thread.start()
        self._thread = thread

    def pipe(self) -> tuple[Pipe, int]:
        """Return a new pipe: the end that is read here, and the descriptor for a worker's output."""
        ours, theirs = os.pipe()
        os.set_blocking(ours, False)
        return Pipe(ours), theirs

    def watch(self, pipe: Pipe, target: int) -> None:
        """Pass lines from a pipe on to this program's standard output or error."""
        pipe.target = target
        with self._lock:
            self._selector.register(pipe.descriptor, selectors.EVENT_READ, pipe)
        if self._thread is None:
            self._begin()

    def catch_up(self, pipe: Pipe, *, whole: bool) -> None:
        """Pass on the present contents of a pipe; with ``whole``, also an unfinished last line."""
        with self._lock:
            if pipe.descriptor < 0 or self._owed > _MOST:
                return
            self._read(pipe)
            self._pause(pipe, whole=whole)
        self._leave_or_pass_on()

    def finish(self, pipe: Pipe) -> None:
        """Pass on the rest of the pipe of a worker that has ended, and close it."""
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
        """Let the thread call a function after its present work; return False if it has no work."""
        with self._lock:
            if not self._owed:
                return False
            self._put(then, 1)
        self._leave_or_pass_on()
        return True

    def close(self) -> None:
        """Write everything, and end the thread. The caller has finished the pipes."""
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
        """Read once; return True for data, None if there is none yet, False at the end. The caller holds the lock."""
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
        """Run the steps that this thread may run."""
        with self._turn:
            while (found := self._next()) is not None:
                step, owed = found
                with suppress(BaseException):  # such as an error of the user's stream; no Ctrl-C comes here
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
    """The bytes of one read.

    Args:
        came: Time of the read, in Unix seconds.
        collected: Whether a log collector reads the output.
        known: The fields of the entries of its lines.
    """

    data: bytes
    came: float
    collected: bool
    known: Mapping[str, Any]


class Pipe:
    """The reading end of one stream of one worker.

    Whole lines are passed on, so that lines of several workers do not mix. An unfinished line is passed on after a moment,
    if nothing must be written before it.

    Args:
        descriptor: The end, non-blocking.
    """

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self.target = STDOUT
        self.known: Mapping[str, Any] = {}
        self.tail = Tail()
        self.is_open = False  # whether the last read ended within a line
        self.collected = False  # whether a log collector reads the output
        self._decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
        self._rest = ""  # the part of an unfinished line that is not passed on
        self._begun = ""  # the end of the part that is passed on
        self._hidden = Lines()
        self._names = False
        self._last = _Piece(b"", 0.0, collected=False, known={})

    def read(self) -> bytes | None:
        """Return the bytes in the pipe; None if there are none now, empty bytes at the end."""
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
        """Pass on the bytes of one read."""
        self._last = piece
        text = self._decoder.decode(piece.data)
        try:
            self._pass_on(text)
        except Exception:  # after any error, the text itself is written
            self._write(text)

    def end(self) -> None:
        """Pass on the rest of an unfinished last line."""
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
        """Return whether an unfinished line has not been passed on; after a moment, pass it on."""
        if not self._rest or not self._is_plain():
            return False
        if time.time() - self._last.came < _UNFINISHED_SECONDS:
            return True
        self.show_unfinished()
        return False

    def show_unfinished(self) -> bool:
        """Pass on the present part of an unfinished line if possible, and return whether it was."""
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
            at = self._rest.rfind(" ")  # a secret and the word before it stay together
            at = at if at > len(self._rest) // 2 else len(self._rest)
            line, self._rest = self._rest[:at], self._rest[at:]
            self._write(self._rendered(line, "\n"))

    def _is_plain(self) -> bool:
        """Return whether an unfinished line can be passed on unchanged."""
        if self._last.collected or has_bars() or is_cut(self._rest):
            return False
        return bool(self._begun) or not self._names or not is_framed(self._rest)

    @property
    def _stream(self) -> Any:
        return sys.stdout if self.target == STDOUT else sys.stderr

    def _rendered(self, line: str, end: str) -> str:
        """Return a line as it is written; the rest of a line whose beginning is written."""
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
