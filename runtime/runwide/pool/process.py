"""Worker processes: the only module that knows loky.

loky's process is an ``exec`` of a fresh interpreter that does not import ``__main__`` again and has its environment set
before anything is imported. ``loky.backend`` is semi-private, hence pinned; `tests/unit/pool/test_process.py` holds what
is used of it.
"""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


class WorkerProcess:
    """One running interpreter, started by `start`."""

    def __init__(self, process: Any) -> None:
        self._process = process
        self.pid: int = process.pid
        self._pidfd: int | None = None
        # A pidfd tells the death of exactly this process; loky's sentinel is a pipe that stays open as long as any child
        # of the worker keeps it. It needs Linux 5.3, and some sandboxes refuse it.
        with suppress(OSError, AttributeError):
            self._pidfd = os.pidfd_open(self.pid)

    @property
    def sentinel(self) -> int:
        """A file descriptor that becomes readable when the process has ended."""
        return self._pidfd if self._pidfd is not None else self._process.sentinel

    def exitcode(self) -> int | None:
        """Exit status, negative for a signal; None while it runs."""
        code: int | None = self._process.exitcode
        return code

    def wait(self, seconds: float | None = None) -> int | None:
        """Wait for the end; returns the exit status, or None if it still runs."""
        self._process.join(seconds)
        return self.exitcode()

    def kill_tree(self) -> bool:
        """SIGKILL the process and all that it started, and reap it; returns whether it was alive."""
        if self.exitcode() is not None:
            return False
        kill_tree(self.pid)
        self._process.join()
        return True

    def close(self) -> None:
        """Release descriptors; the process must have ended."""
        if self._pidfd is not None:
            os.close(self._pidfd)
            self._pidfd = None


def start(
    target: Callable[..., object], args: tuple[object, ...], *, name: str, env: Mapping[str, str]
) -> WorkerProcess:
    """Start an interpreter that calls ``target(*args)``.

    Args:
        target: An importable function.
        args: Its arguments; `multiprocessing.connection.Connection` objects are handed over.
        name: Name of the process.
        env: Variables set on top of this process's environment, before the interpreter starts.
    """
    from loky.backend.process import LokyProcess

    process = LokyProcess(
        target=target, args=args, name=name, daemon=False, init_main_module=False, env=dict(env)
    )
    process.start()
    return WorkerProcess(process)


def kill_tree(pid: int) -> None:
    """SIGKILL a process and its descendants, children first stopped so that none escapes by forking."""
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGSTOP)
    for child in children(pid):
        kill_tree(child)
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def children(pid: int) -> list[int]:
    """Process ids of the direct children, from /proc."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError, IndexError):
                # the command, in parentheses, may itself contain spaces and parentheses
                if int((entry / "stat").read_text().rpartition(")")[2].split()[1]) == pid:
                    found.append(int(entry.name))
    return found
