"""Logs of runs on this machine: kept after a failure, and shown as ``Local(logs=)`` says."""

from __future__ import annotations

import os
import shutil
import stat
import sys
import tempfile
import threading
from contextlib import suppress
from pathlib import Path
from typing import IO

from runwide.streams import write

RUNS = 20
"""The number of failed runs whose logs are kept."""
BYTES = 2**30
"""The size of these logs together; the oldest are removed first, and the newest is always kept."""

_JOIN_SECONDS = 10.0
_writing = threading.Lock()  # a pipe writes at most PIPE_BUF bytes at once without mixing


def kept_folder() -> Path:
    """Return the folder with the logs of this user's failed runs; create it if it is missing.

    Another user could have created a folder of that name in the shared temporary folder. Then a new one is created.
    """
    folder = Path(tempfile.gettempdir()) / f"runwide-logs-{os.getuid()}"
    with suppress(OSError):
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
        if stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid():
            return folder
    return Path(tempfile.mkdtemp(prefix="runwide-logs-"))


def keep(logs: Path, run: str) -> Path:
    """Move the logs of a run to the folder where they are kept, and remove the oldest logs beyond the limits.

    Returns:
        Their new folder.
    """
    there = kept_folder()
    kept = there / run
    shutil.move(logs, kept)
    os.utime(kept)
    for old in _beyond([one for one in there.iterdir() if one.name != run]):
        shutil.rmtree(old, ignore_errors=True)
    return kept


def _beyond(others: list[Path]) -> list[Path]:
    """Return the runs whose logs are beyond the limits, given that the newest run, which is not listed, is kept."""
    aged = []
    for one in others:
        with suppress(OSError):  # another client may have removed it
            aged.append((one.stat().st_mtime, one))
    gone, room = [], BYTES
    for number, (_, one) in enumerate(sorted(aged, reverse=True), start=2):
        room -= sum(_size(path) for path in one.rglob("*"))
        if number > RUNS or room < 0:
            gone.append(one)
    return gone


def _size(path: Path) -> int:
    with suppress(OSError):
        return path.lstat().st_size
    return 0


def shown(step: str, log: str, path: str | None) -> str:
    r"""Return the end of a step's log as shown to the user.

    Example:
        >>> print(shown("load", "Traceback …\nValueError: no", "/tmp/0001-load.log"), end="")
        load: the last 2 lines of /tmp/0001-load.log
        | Traceback …
        | ValueError: no
    """
    lines = log.splitlines()
    if not lines:
        return f"{step}: its log is empty\n"
    of = f" of {path}" if path else ""
    return "\n".join([f"{step}: the last {len(lines)} lines{of}", *(f"| {line}" for line in lines)]) + "\n"


class Followed:
    """The lines of all steps, read from a pipe and written to standard error at once."""

    def __init__(self) -> None:
        self._read, self.descriptor = os.pipe()
        self._thread = threading.Thread(target=self._copy, name="runwide-logs", daemon=True)

    def start(self) -> None:
        """Start reading, once the run has its end of the pipe."""
        os.close(self.descriptor)
        self._thread.start()

    def join(self) -> None:
        """Wait until all lines of a run are shown, but not for a process that outlives the run and holds the pipe."""
        self._thread.join(_JOIN_SECONDS)

    def _copy(self) -> None:
        with os.fdopen(self._read, "r", errors="replace") as lines:
            for line in lines:
                write(sys.stderr, line)


class StepLines:
    """Writes the lines of one step, after the step's name, to the pipe of a `Followed`.

    Args:
        follow: Descriptor of the pipe; None to write nothing.
    """

    def __init__(self, follow: int | None, name: str) -> None:
        self._follow = follow
        self._name = name.encode()
        self._rest = b""

    @property
    def follows(self) -> bool:
        """True if the lines are read."""
        return self._follow is not None

    def add(self, data: bytes) -> None:
        """Add output, and write its complete lines; a closed pipe is ignored."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        self._write(b"".join(b"%s: %s\n" % (self._name, line.rstrip(b"\r")) for line in lines))

    def end(self) -> None:
        """Write the rest of the last line."""
        if self._rest:
            self.add(b"\n")

    def _write(self, data: bytes) -> None:
        if self._follow is None:
            return
        with suppress(OSError), _writing:
            while data:
                data = data[os.write(self._follow, data) :]


def copy(source: IO[bytes], log: IO[bytes], lines: StepLines) -> None:
    """Copy the output of a step to its log and to its followed lines, until the step closes it."""
    while data := os.read(source.fileno(), 65536):
        log.write(data)
        log.flush()
        lines.add(data)
    lines.end()
