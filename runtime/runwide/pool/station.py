"""What a worker process arranges before its first task: its name, its streams, and its end with the pool's."""

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
"""How often a worker looks whether the pool's process still lives; PR_SET_PDEATHSIG would follow a thread instead."""

_forking = threading.local()


class Station(NamedTuple):
    """Where a worker finds what it shares with the pool.

    Args:
        status_path: File of its status words.
        directories: Scratch directories of the pool.
        tag: Start of the names of the payload files that it writes.
        parent: Process id of the pool.
        name: Name of the worker, 15 characters at most.
        fields: What its log lines carry, until a call says otherwise.
        log: How log lines are written.
        signing_key: The user's, which stands in no worker's environment; None where there is none, or not as a variable.
    """

    name: str
    status_path: str
    directories: tuple[str, ...]
    tag: str
    parent: int
    fields: Mapping[str, Any]
    log: log.Configuration
    signing_key: str | None


def arrange(alive: int, station: Station, status: StatusWords, scratch: Scratch) -> tuple[Prefixed, Prefixed]:
    """Become a worker; returns its standard output and error."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    signal.signal(signal.SIGTERM, _stay)
    os.register_at_fork(before=_hold, after_in_parent=_let, after_in_child=_leave_again)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT, signal.SIGTERM])
    _die_with(alive)
    _introduce(station)
    settings.hand_signing_key(station.signing_key)
    log.set_fields(station.fields)
    log.set_task(status.task)
    log.become_worker(station.log)
    sys.stdout, sys.stderr = streams = Prefixed(1, status.task), Prefixed(2, status.task)
    threading.Thread(
        target=_watch, args=(station.parent, status, scratch), name="runwide-watch", daemon=True
    ).start()
    return streams


def leave() -> None:
    """End as a program does, which closes what is open; but wait for no thread that a task has left behind."""
    current = threading.current_thread()
    if all(thread.daemon for thread in threading.enumerate() if thread is not current):
        return
    import atexit

    atexit._run_exitfuncs()  # noqa: SLF001 - as multiprocessing does
    flush_all()
    os._exit(0)


def _die_with(alive: int) -> None:
    """Have the kernel end this process when the pool's is gone, even while native code keeps the GIL.

    When the last writer of the pipe is gone, the kernel sends SIGIO, which ends a process that does not handle it.
    """
    with suppress(OSError):  # some sandboxes have no O_ASYNC: the watching thread is left
        fcntl.fcntl(alive, fcntl.F_SETOWN, os.getpid())
        fcntl.fcntl(alive, fcntl.F_SETFL, fcntl.fcntl(alive, fcntl.F_GETFL) | os.O_ASYNC)


def _introduce(station: Station) -> None:
    """Show in ``ps`` and ``top`` which worker this is."""
    with suppress(OSError):
        Path("/proc/self/comm").write_text(station.name[:15])


def _stay(*_: object) -> None:
    """Go on: where SIGTERM goes to all processes of a container, the pool has it too, and says what is still to be done.

    Not `signal.SIG_IGN`, which programs that a task starts would inherit.
    """


def _hold() -> None:
    """A signal to what a task forks waits until that is itself again."""
    _forking.mask = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])


def _let() -> None:
    signal.pthread_sigmask(signal.SIG_SETMASK, _forking.mask)


def _leave_again() -> None:
    if signal.getsignal(signal.SIGTERM) is _stay:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
    _let()


def _watch(parent: int, status: StatusWords, scratch: Scratch) -> None:
    """Leave with the pool's process, and see that tasks which run in one go do so for a short time only."""
    while os.getppid() == parent:
        status.cut()
        time.sleep(_WATCH_SECONDS)
    scratch.remove()
    from runwide.pool.tree import children, kill_tree

    for child in children(os.getpid()):
        kill_tree(child)
    os._exit(1)
