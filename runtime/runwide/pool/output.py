"""What workers print: line by line, each with its item's index, through this program's own streams."""

from __future__ import annotations

import codecs
import io
import os
import selectors
import sys
import threading
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING

from runwide import log
from runwide.redaction import Lines
from runwide.writing import write

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_READ = 1 << 16
_LINE = 1 << 16  # longer lines are passed on in pieces
_KEPT = 20

STDOUT, STDERR = 1, 2
_OPEN, _CLOSE = "\x1e", "\x1f"  # record and unit separator: no text has them


class Prefixed(io.TextIOWrapper):
    """A line-buffered text stream that starts each line with the index of the running item.

    A line that is a JSON object is left as it is, since a log collector reads it.

    Args:
        descriptor: Where to write.
        index: The index of the running item, or None between tasks.
        task: The item and the attempt that run now, where lines are to become JSON: then they start with these, for
            `Pipe`, which makes it.
    """

    def __init__(
        self,
        descriptor: int,
        index: Callable[[], int | None],
        task: Callable[[], Mapping[str, int]] | None = None,
    ) -> None:
        super().__init__(
            io.FileIO(descriptor, "w", closefd=False),
            encoding="utf-8",
            errors="backslashreplace",
            line_buffering=True,
        )
        self._index = index
        self._task = task
        self._at_start = True

    def write(self, text: str) -> int:
        """Write text, with the prefix where a line starts."""
        for line in text.splitlines(keepends=True):
            super().write((self._prefix() if self._at_start and not line.startswith("{") else "") + line)
            self._at_start = line.endswith(("\n", "\r"))
        return len(text)

    def begin(self) -> None:
        """A call begins: what the one before has printed stands on lines of its own, finished or not."""
        self._at_start = True

    def _prefix(self) -> str:
        if self._task is not None:
            return _framed(self._task())
        item = self._index()
        return "" if item is None else f"[{item}] "


def _framed(task: Mapping[str, int]) -> str:
    return _OPEN + ",".join(f"{name}={value}" for name, value in task.items()) + _CLOSE if task else ""


def _unframed(line: str) -> tuple[str, dict[str, int]]:
    """A line without its frame, and the task in it.

    Example:
        >>> _unframed(_framed({"item": 3, "attempt": 1}) + "hello")
        ('hello', {'item': 3, 'attempt': 1})
        >>> _unframed("hello")
        ('hello', {})
    """
    head, found, text = line.partition(_CLOSE)
    if not found or not line.startswith(_OPEN):
        return line, {}
    try:
        return text, {
            name: int(value) for name, _, value in (one.partition("=") for one in head[1:].split(","))
        }
    except ValueError:  # the task itself printed these characters
        return line, {}


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
        while True:
            for key, _ in self._selector.select():
                if key.data is None:
                    return
                with self._lock:
                    pipe = key.data
                    if pipe.descriptor >= 0 and pipe.read() is False:
                        self._selector.unregister(pipe.descriptor)


class Pipe:
    """The reading end of one stream of one worker.

    Args:
        descriptor: The end, non-blocking.
    """

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self.target = STDOUT
        self.known: Mapping[str, int] = {}
        self._collected = log.is_collected()
        self.last: deque[str] = deque(maxlen=_KEPT)
        self._partial = b""
        self._hidden = Lines()

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
        *lines, self._partial = (self._partial + data).split(b"\n")
        if len(self._partial) > _LINE:
            _, end = codecs.utf_8_decode(self._partial, "replace", False)  # what may go on is left
            lines.append(self._partial[:end])
            self._partial = self._partial[end:]
        self._pass_on(lines)
        return True

    def end(self) -> None:
        """Pass on an unfinished last line."""
        if self._partial:
            self._pass_on([self._partial])
            self._partial = b""

    def close(self) -> None:
        """Close the end."""
        os.close(self.descriptor)
        self.descriptor = -1

    def _pass_on(self, lines: list[bytes]) -> None:
        if not lines:
            return
        read = [_unframed(line.decode(errors="backslashreplace")) for line in lines]
        texts = [text for text, _ in read]
        hidden = [self._hidden(text) for text in texts]
        self.last.extend(hidden)
        if self._collected:
            texts = [
                self._collectable(text if text.startswith("{") else shown, task)
                for (text, task), shown in zip(read, hidden, strict=True)
                if text
            ]
        if texts:
            write(sys.stdout if self.target == STDOUT else sys.stderr, "\n".join(texts) + "\n")

    def _collectable(self, text: str, task: Mapping[str, int]) -> str:
        severity = "INFO" if self.target == STDOUT else "WARNING"
        return log.print_line(text, severity=severity, known={**self.known, **task})
