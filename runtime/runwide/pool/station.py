"""Set up a worker process before its first task: its name, its streams, and its end with the pool's process."""

from __future__ import annotations

import fcntl
import os
import signal
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from runwide import log, settings
from runwide.pool.opened import flush_all
from runwide.pool.output import Prefixed

if TYPE_CHECKING:
    from collections.abc import Mapping

    from runwide.pool.scratch import Scratch
    from runwide.pool.status import StatusWords

_WATCH_SECONDS = 0.5
"""Interval at which a worker checks whether the pool's process lives; PR_SET_PDEATHSIG would follow a thread instead."""

_forking = threading.local()


class Setup(NamedTuple):
    """The first message to a worker.

    Args:
        name: Name of the worker, at most 15 characters.
        status_path: File of its status words.
        directories: Scratch directories of the pool.
        tag: Start of the names of the payload files that it writes.
        parent: Process id of the pool.
        fields: The fields of its log lines, until a call sends others.
        log: The configuration of log lines.
        signing_key: The user's signing key, which is in no worker's environment; None if no variable has one.
    """

    name: str
    status_path: str
    directories: tuple[str, ...]
    tag: str
    parent: int
    fields: Mapping[str, Any]
    log: log.Configuration
    signing_key: str | None


def set_up(alive: int, setup: Setup, status: StatusWords, scratch: Scratch) -> tuple[Prefixed, Prefixed]:
    """Set up this process as a worker, and return its standard output and error."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles Ctrl-C
    signal.signal(signal.SIGTERM, _ignore)
    os.register_at_fork(
        before=_block_sigterm, after_in_parent=_unblock_sigterm, after_in_child=_restore_sigterm
    )
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT, signal.SIGTERM])
    _die_with(alive)
    _set_name(setup)
    settings.hand_signing_key(setup.signing_key)
    log.set_fields(setup.fields)
    log.set_task(status.task)
    log.become_worker(setup.log)
    sys.stdout, sys.stderr = streams = Prefixed(1, status.task), Prefixed(2, status.task)
    threading.Thread(
        target=_watch, args=(setup.parent, status, scratch), name="runwide-watch", daemon=True
    ).start()
    return streams


def leave() -> None:
    """End like a program, which closes its files; but do not wait for threads that tasks have left."""
    current = threading.current_thread()
    if all(thread.daemon for thread in threading.enumerate() if thread is not current):
        return
    import atexit

    atexit._run_exitfuncs()  # noqa: SLF001 - as multiprocessing does
    flush_all()
    os._exit(0)


def _die_with(alive: int) -> None:
    """Let the kernel end this process when the pool's process is gone, even while native code keeps the GIL.

    When the last writer of the pipe is gone, the kernel sends SIGIO, which ends a process that does not handle it.
    """
    with suppress(OSError):  # some sandboxes have no O_ASYNC; then the watching thread does it
        fcntl.fcntl(alive, fcntl.F_SETOWN, os.getpid())
        fcntl.fcntl(alive, fcntl.F_SETFL, fcntl.fcntl(alive, fcntl.F_GETFL) | os.O_ASYNC)


def _set_name(setup: Setup) -> None:
    """Set the name that ``ps`` and ``top`` show."""
    with suppress(OSError):
        Path("/proc/self/comm").write_text(setup.name[:15])


def _ignore(*_: object) -> None:
    """Ignore SIGTERM: if all processes of a container get it, the pool does too, and decides which tasks still run.

    This is not `signal.SIG_IGN`, which programs that a task starts would inherit.
    """


def _block_sigterm() -> None:
    """Delay a signal to a process that a task forks until its handler is restored."""
    _forking.mask = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])


def _unblock_sigterm() -> None:
    signal.pthread_sigmask(signal.SIG_SETMASK, _forking.mask)


def _restore_sigterm() -> None:
    if signal.getsignal(signal.SIGTERM) is _ignore:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
    _unblock_sigterm()


def _watch(parent: int, status: StatusWords, scratch: Scratch) -> None:
    """Leave with the pool's process, and limit the time of tasks that run in one go."""
    while os.getppid() == parent:
        status.cut()
        time.sleep(_WATCH_SECONDS)
    scratch.remove()
    from runwide.pool.tree import children, kill_tree

    for child in children(os.getpid()):
        kill_tree(child)
    os._exit(1)
