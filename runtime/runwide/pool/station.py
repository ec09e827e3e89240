"""What a worker process arranges before its first task: its name, its streams, and its end with the pool's."""

from __future__ import annotations

import fcntl
import os
import signal
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runwide import log
from runwide.pool.output import Prefixed

if TYPE_CHECKING:
    from collections.abc import Mapping
    from multiprocessing.connection import Connection

    from runwide.pool.status import StatusWords
    from runwide.pool.transfer import Scratch

_PARENT_SECONDS = 0.5
"""How often a worker looks whether the pool's process still lives; PR_SET_PDEATHSIG would follow a thread instead."""

_OOM_SCORE = 500


@dataclass(frozen=True, slots=True)
class Station:
    """Where a worker finds what it shares with the pool.

    Args:
        status_path: File of its status words.
        directories: Scratch directories of the pool.
        tag: Start of the names of the payload files that it writes.
        parent: Process id of the pool.
        name: Name of the worker, 15 characters at most.
        fields: What every line of its log carries.
    """

    name: str
    status_path: str
    directories: tuple[str, ...]
    tag: str
    parent: int
    fields: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Lines:
    """The descriptors that a worker is handed.

    Args:
        messages: The worker's end of the line to the pool.
        alive: A pipe that ends with the pool's process.
        stdout: Where standard output goes.
        stderr: Where standard error goes.
    """

    messages: Connection
    alive: Connection
    stdout: Connection
    stderr: Connection


def arrange(lines: Lines, station: Station, status: StatusWords, scratch: Scratch) -> None:
    """Become a worker."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
    _die_with(lines.alive)
    _introduce(station)
    _redirect(lines, status)
    log.become_worker(station.fields, status.task)
    threading.Thread(
        target=_leave_with, args=(station.parent, scratch), name="runwide-watch", daemon=True
    ).start()


def _die_with(alive: Connection) -> None:
    """Have the kernel end this process when the pool's is gone, even while native code keeps the GIL.

    When the last writer of the pipe is gone, the kernel sends SIGIO, which ends a process that does not handle it.
    """
    with suppress(OSError):  # some sandboxes have no O_ASYNC: the watching thread is left
        descriptor = os.dup(alive.fileno())
        fcntl.fcntl(descriptor, fcntl.F_SETOWN, os.getpid())
        fcntl.fcntl(descriptor, fcntl.F_SETFL, fcntl.fcntl(descriptor, fcntl.F_GETFL) | os.O_ASYNC)
    alive.close()


def _introduce(station: Station) -> None:
    """Show in ``ps`` and ``top`` which worker this is, and let the kernel's OOM killer take it before the pool."""
    with suppress(OSError):
        Path("/proc/self/comm").write_text(station.name[:15])
    with suppress(OSError, ValueError):
        score = Path("/proc/self/oom_score_adj")
        score.write_text(str(min(1000, int(score.read_text()) + _OOM_SCORE)))


def _redirect(lines: Lines, status: StatusWords) -> None:
    for connection, descriptor in ((lines.stdout, 1), (lines.stderr, 2)):
        os.dup2(connection.fileno(), descriptor)
        connection.close()
    task = status.task if log.is_collected() else None
    sys.stdout = Prefixed(1, status.item, task)
    sys.stderr = Prefixed(2, status.item, task)


def _leave_with(parent: int, scratch: Scratch) -> None:
    while os.getppid() == parent:
        time.sleep(_PARENT_SECONDS)
    scratch.remove()
    from runwide.pool.process import children, kill_tree

    for child in children(os.getpid()):
        kill_tree(child)
    os._exit(1)
