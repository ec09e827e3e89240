"""What workers print: line by line, each with its item's index, through this program's own streams."""

from __future__ import annotations

import io
import os
import selectors
import sys
import threading
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from collections.abc import Callable

_READ = 1 << 16
_LINE = 1 << 16  # longer lines are passed on in pieces
_KEPT = 20

STDOUT, STDERR = 1, 2


class Prefixed(io.TextIOWrapper):
    """A line-buffered text stream that starts each line with the index of the running item.

    A line that is a JSON object is left as it is, since a log collector reads it.

    Args:
        descriptor: Where to write.
        index: The index of the running item, or None between tasks.
    """

    def __init__(self, descriptor: int, index: Callable[[], int | None]) -> None:
        super().__init__(
            io.FileIO(descriptor, "w", closefd=False),
            encoding="utf-8",
            errors="backslashreplace",
            line_buffering=True,
        )
        self._index = index
        self._at_start = True

    def write(self, text: str) -> int:
        """Write text, with the prefix where a line starts."""
        for line in text.splitlines(keepends=True):
            item = self._index()
            prefix = f"[{item}] " if self._at_start and item is not None and not line.startswith("{") else ""
            super().write(prefix + line)
            self._at_start = line.endswith(("\n", "\r"))
        return len(text)


class Output:
    """One thread that passes on what the workers of a pool write, and keeps the last lines of each."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._lock = threading.Lock()
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
        os.close(self._stopped)
        self._thread.join()
        self._selector.close()
        os.close(self._stop)

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
        self.last: deque[str] = deque(maxlen=_KEPT)
        self._partial = b""

    def read(self) -> bool | None:
        """Pass on what is there; None when there is nothing now, False at the end."""
        try:
            data = os.read(self.descriptor, _READ)
        except BlockingIOError:
            return None
        if not data:
            return False
        *lines, self._partial = (self._partial + data).split(b"\n")
        if len(self._partial) > _LINE:
            lines.append(self._partial)
            self._partial = b""
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
        texts = [line.decode(errors="backslashreplace") for line in lines]
        self.last.extend(texts)
        stream: TextIO | Any = sys.stdout if self.target == STDOUT else sys.stderr
        with suppress(Exception):  # closed or broken: nobody wants to read it
            stream.write("\n".join(texts) + "\n")
            stream.flush()
