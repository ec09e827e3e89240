"""A child of this process: how it ended, as far as the kernel still tells."""

from __future__ import annotations

import os
import signal
import threading
from contextlib import suppress

UNKNOWN = 1 << 16
"""In the place of an exit status: the kernel told it to nobody, or to another part of this program."""


class Child:
    """As much of `subprocess.Popen` as a pool needs of a process.

    Popen takes a status that nobody can know for 0: where the program ignores SIGCHLD, the kernel keeps none.

    Args:
        pid: Its process id.
    """

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._exitcode: int | None = None
        self._waiting = threading.Lock()

    def poll(self) -> int | None:
        """Exit status, negative for a signal, or `UNKNOWN`; None while it runs."""
        return self._reaped(os.WNOHANG)

    def wait(self) -> int:
        """Exit status, when it has ended."""
        ended = self._reaped(0)
        assert ended is not None  # noqa: S101 - waitpid has waited for it
        return ended

    def kill(self) -> None:
        """SIGKILL."""
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
