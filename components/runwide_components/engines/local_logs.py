"""Logs of runs on this machine: kept where a run has failed, and shown as the user has asked for."""

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

from runwide.writing import write

RUNS = 20
"""Failed runs whose logs are kept; with the next one, the oldest go."""
BYTES = 2**30
"""Room for these logs; beyond it the oldest go, but for the newest."""

_JOIN_SECONDS = 10.0
_telling = threading.Lock()  # a pipe takes at most PIPE_BUF bytes in one piece


def kept_folder() -> Path:
    """Return the folder with the logs of this user's failed runs; make it if it is missing.

    Another user could have made a folder of that name in a temporary folder that all share. A new one is made then.
    """
    folder = Path(tempfile.gettempdir()) / f"runwide-logs-{os.getuid()}"
    with suppress(OSError):
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
        if stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid():
            return folder
    return Path(tempfile.mkdtemp(prefix="runwide-logs-"))


def keep(logs: Path, run: str) -> Path:
    """Move the logs of a run to where they stay, and remove those of the oldest runs beyond the limits.

    Args:
        logs: Folder of the logs.
        run: Name of the run.

    Returns:
        The folder in which they are now.
    """
    there = kept_folder()
    kept = there / run
    shutil.move(logs, kept)
    os.utime(kept)
    for old in _beyond([one for one in there.iterdir() if one.name != run]):
        shutil.rmtree(old, ignore_errors=True)
    return kept


def _beyond(others: list[Path]) -> list[Path]:
    """Return the runs that leave no room for the newest one, which is not among them."""
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
    r"""Return the end of a step's log as the user sees it.

    Args:
        step: Name of the step.
        log: Last lines of its log.
        path: Path of the whole log.

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
    """The lines of all steps, read from a pipe and written to standard error as they come."""

    def __init__(self) -> None:
        self._read, self.descriptor = os.pipe()
        self._thread = threading.Thread(target=self._copy, name="runwide-logs", daemon=True)

    def start(self) -> None:
        """Begin, once the run has its end of the pipe."""
        os.close(self.descriptor)
        self._thread.start()

    def join(self) -> None:
        """Wait until all that a run has written is shown, but not for what does not end with it."""
        self._thread.join(_JOIN_SECONDS)

    def _copy(self) -> None:
        with os.fdopen(self._read, "r", errors="replace") as lines:
            for line in lines:
                write(sys.stderr, line)


class Teller:
    """Writes the lines of one step, with the step's name in front, to the pipe of a `Followed`.

    Args:
        follow: Descriptor of the pipe; None where nobody follows.
        name: Name of the step.
    """

    def __init__(self, follow: int | None, name: str) -> None:
        self._follow = follow
        self._name = name.encode()
        self._rest = b""

    @property
    def follows(self) -> bool:
        """Whether lines are read there."""
        return self._follow is not None

    def tell(self, data: bytes) -> None:
        """Write the lines that are complete now; that nobody reads them any more does not matter."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        self._write(b"".join(b"%s: %s\n" % (self._name, line.rstrip(b"\r")) for line in lines))

    def end(self) -> None:
        """Write what is left of the last line."""
        if self._rest:
            self.tell(b"\n")

    def _write(self, data: bytes) -> None:
        if self._follow is None:
            return
        with suppress(OSError), _telling:
            while data:
                data = data[os.write(self._follow, data) :]


def copy(source: IO[bytes], log: IO[bytes], teller: Teller) -> None:
    """Write what a step prints to its log, and tell it, until the step closes it.

    Args:
        source: What the step writes.
        log: Its log.
        teller: Of the step.
    """
    while data := os.read(source.fileno(), 65536):
        log.write(data)
        log.flush()
        teller.tell(data)
    teller.end()
