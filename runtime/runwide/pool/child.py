"""A child process, and its exit status, as far as the kernel still has it."""

from __future__ import annotations

import os
import signal
import threading
from contextlib import suppress

UNKNOWN = 1 << 16
"""The exit status if it is unknown: the kernel kept none, or another part of this program has read it."""


class Child:
    """A child process, with the few methods of `subprocess.Popen` that a pool needs.

    If the program ignores SIGCHLD, the kernel keeps no exit status. Popen then returns 0; this returns `UNKNOWN`.

    Args:
        pid: Its process id.
    """

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._exitcode: int | None = None
        self._waiting = threading.Lock()

    def poll(self) -> int | None:
        """Return the exit status, negative for a signal, or `UNKNOWN`; None while the process runs."""
        return self._reaped(os.WNOHANG)

    def wait(self) -> int:
        """Wait for the end, and return the exit status."""
        ended = self._reaped(0)
        assert ended is not None  # noqa: S101 - waitpid has waited for it
        return ended

    def kill(self) -> None:
        """Send SIGKILL, if the process still runs."""
        if self.poll() is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)

    def _reaped(self, options: int) -> int | None:
        with self._waiting:
            if self._exitcode is None:
                try:
                    pid, status = os.waitpid(self.pid, options)
                except ChildProcessError:
                    self._exitcode = UNKNOWN
                else:
                    if pid:
                        self._exitcode = os.waitstatus_to_exitcode(status)
            return self._exitcode
