"""Pass on what workers print through this program's own streams: as it is, with the item's index, or as entries of JSON."""

from __future__ import annotations

import codecs
import io
import os
import re
import selectors
import sys
import threading
import time
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from runwide import log
from runwide.redaction import Lines
from runwide.writing import escaped, has_bars, write, write_all

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_READ = 1 << 16
_LINE = 1 << 16  # longer lines are passed on in pieces
_JSON_LINE = 1 << 20  # unless they may be one of the worker's own lines of JSON
_HEAD = 100  # characters, of which a frame is less
_KEPT = 20
_UNFINISHED_SECONDS = 0.05

STDOUT, STDERR = 1, 2
_OPEN, _CLOSE = "\x1e", "\x1f"  # record and unit separator: no text has them
_FRAME = re.compile(f"{_OPEN}(?:item=(-?[0-9]+),attempt=([0-9]+)){_CLOSE}")
_CUT = re.compile(f"{_OPEN}[^{_CLOSE}\n]{{0,60}}$")


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
            super().write((_framed(self._task()) if self._named and self._at_start else "") + line)
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


def _framed(task: Mapping[str, int]) -> str:
    return f"{_OPEN}item={task['item']},attempt={task['attempt']}{_CLOSE}" if task else ""


def _unframed(line: str) -> tuple[str, dict[str, int]]:
    """A line without frames, and the task of the first one; native code may have begun the line.

    Example:
        >>> _unframed(_framed({"item": 3, "attempt": 1}) + "hello")
        ('hello', {'item': 3, 'attempt': 1})
        >>> _unframed("hello")
        ('hello', {})
    """
    found = _FRAME.search(line)
    if found is None:
        return line, {}
    return _FRAME.sub("", line), {"item": int(found[1]), "attempt": int(found[2])}


class Output:
    """One thread that passes on what the workers of a pool write, and keeps the last lines of each.

    It is started with the first worker, on the pool's own thread, which no Ctrl-C interrupts.
    """

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._lock = threading.Lock()
        self._stop = self._stopped = -1
        self._thread: threading.Thread | None = None

    def _begin(self) -> None:
        self._stop, self._stopped = os.pipe()
        self._selector.register(self._stop, selectors.EVENT_READ, None)
        self._thread = threading.Thread(target=self._main, name="runwide-output", daemon=True)
        self._thread.start()

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
            if pipe.descriptor >= 0:
                pipe.read()
                if whole:
                    pipe.end()
                else:
                    pipe.show_unfinished()

    def finish(self, pipe: Pipe) -> None:
        """Pass on what is left in the pipe of a worker that has ended, and close it."""
        with self._lock:
            if pipe.descriptor >= 0:
                while pipe.read():
                    pass
                pipe.end()
                with suppress(KeyError):
                    self._selector.unregister(pipe.descriptor)
                pipe.close()

    def close(self) -> None:
        """End the thread; the pipes have been finished."""
        if self._thread is not None:
            os.close(self._stopped)
            self._thread.join()
            os.close(self._stop)
        self._selector.close()

    def _main(self) -> None:
        log.follow_cells()
        unfinished: set[Pipe] = set()
        while True:
            for key, _ in self._selector.select(_UNFINISHED_SECONDS if unfinished else None):
                if key.data is None:
                    return
                with self._lock:
                    pipe = key.data
                    if pipe.descriptor >= 0 and pipe.read() is False:
                        self._selector.unregister(pipe.descriptor)
                unfinished.add(pipe)
            with self._lock:
                unfinished = {pipe for pipe in unfinished if pipe.descriptor >= 0 and pipe.waits()}


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
        self.last: deque[str] = deque(maxlen=_KEPT)
        self._decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
        self._rest = ""  # of the line that is not finished, as far as it is not passed on
        self._begun = ""  # the end of what is passed on of that line
        self._hidden = Lines()
        self._collected = self._names = False
        self._came = 0.0  # when the last of it was read, in Unix seconds

    def read(self) -> bool | None:
        """Pass on what is there; None when there is nothing now, False at the end."""
        try:
            data = os.read(self.descriptor, _READ)
        except BlockingIOError:
            return None
        except OSError:  # the program has closed it
            return False
        if not data:
            return False
        text = self._decoder.decode(data)
        try:
            self._pass_on(text)
        except Exception:  # whatever it is, the pool goes on, and the text is there
            self._write(text)
        return True

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
        if time.time() - self._came < _UNFINISHED_SECONDS:
            return True
        self.show_unfinished()
        return False

    def show_unfinished(self) -> bool:
        """Pass on what is there of an unfinished line, unless something is to be put before it; whether it has been."""
        if not self._is_plain():
            return False
        text, _ = _unframed(self._rest)
        self._rest, self._begun = "", (self._begun + text)[-_LINE:]
        self._write(text)
        return True

    def _pass_on(self, text: str) -> None:
        self._came = time.time()
        self._collected, self._names = log.is_collected(), log.names_items(self._stream)
        *lines, self._rest = (self._rest + text).split("\n")
        found = []
        for line in lines:
            found.append(self._rendered(line, "\n"))
            self._begun = ""
        self._write("".join(found))
        longest = _JSON_LINE if _unframed(self._rest[:_HEAD])[0].startswith("{") else _LINE
        if len(self._rest) > longest and not self.show_unfinished():
            line, self._rest = self._rest, ""
            self._write(self._rendered(line, "\n"))

    def _is_plain(self) -> bool:
        """Whether an unfinished line can be passed on as it is."""
        if self._collected or has_bars() or _CUT.search(self._rest):
            return False
        return bool(self._begun) or not self._names or not _FRAME.search(self._rest)

    @property
    def _stream(self) -> Any:
        return sys.stdout if self.target == STDOUT else sys.stderr

    def _rendered(self, line: str, end: str) -> str:
        """A line as it is passed on; of one whose beginning is already, the rest."""
        text, task = _unframed(line)
        hidden = self._hidden(escaped(self._begun + text))
        self.last.append(hidden)
        if self._collected:
            severity = "INFO" if self.target == STDOUT else "WARNING"
            known = {**self.known, **task}
            return log.print_line(
                escaped(text), severity=severity, known=known, hidden=hidden, came=self._came
            )
        item = task.get("item")
        named = item is not None and self._names and not self._begun and not text.startswith("{")
        return (f"[{item}] " if named else "") + text + end

    def _write(self, text: str) -> None:
        if text:
            write(self._stream, text)
