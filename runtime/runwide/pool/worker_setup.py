"""Set up a worker process, and keep it in order between calls."""

from __future__ import annotations

import ctypes
import fcntl
import gc
import io
import os
import signal
import sys
import threading
import time
import weakref
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from runwide import log, settings
from runwide.pool.entry import descriptors
from runwide.pool.output import Prefixed

if TYPE_CHECKING:
    from collections.abc import Mapping

    from runwide.pool.channel import StatusWords
    from runwide.pool.scratch import Scratch


class Opened:
    """The files that tasks have opened in this process and not closed."""

    def __init__(self) -> None:
        self._known = descriptors()
        self._files: list[weakref.ref[Any]] = []
        self._library = ctypes.CDLL(None)

    def flush(self) -> None:
        """Flush the files of tasks, and the output of C libraries."""
        self._library.fflush(None)
        files = [file() for file in self._files]
        now = descriptors()
        if now != self._known or any(file is None or file.closed for file in files):
            files = [file for file in _found() if not file.closed]
            self._files = [weakref.ref(file) for file in files]
            self._known = now
        flush(*files)


def flush_all() -> None:
    """Flush all files of this process."""
    flush(*_found())


def _found() -> list[Any]:
    """Return all files of this process. This looks at every object, and takes some milliseconds."""
    return [one for one in gc.get_objects() if isinstance(one, io.IOBase)]


def flush(*files: Any) -> None:
    """Flush these files, and ignore all errors."""
    for file in files:
        with suppress(Exception):  # a file may be closed, full or broken, or no file at all
            file.flush()


_OTHERS = tuple(os.path.dirname(path) for path in (os.__file__, os.path.dirname(__file__)))  # noqa: PTH120 - pathlib is slow to load
"""The folders of the standard library and of runwide."""

_INSTALLED = ("site-packages", "dist-packages")
"""Folders of installed packages."""


_COARSE_SECONDS = 0.05
"""The time by which a file's time may lag behind the clock: some file systems count in ticks."""


class Sources:
    """The source files of modules that are not installed, with their states at the time of loading.

    A file that was written after `begin` may have been loaded before or after that, so it counts as changed.

    Example:
        >>> sources = Sources()
        >>> sources.begin()
        >>> sources.note()
        >>> sources.look()
        False
    """

    def __init__(self) -> None:
        self.changed = False
        self._seen: set[str] = set()
        self._states: dict[str, tuple[int, int]] = {}
        self._loaded = 0  # number of modules at the last call of `note`
        self._began = time.time()
        self._doubtful = False

    def begin(self) -> None:
        """Note that code begins that may load modules."""
        self._began = time.time()

    def note(self) -> None:
        """Note the files of modules that this code has loaded."""
        if len(sys.modules) == self._loaded:
            return
        self._loaded = len(sys.modules)
        for name in sys.modules.keys() - self._seen:
            self._seen.add(name)
            path = getattr(sys.modules.get(name), "__file__", None)
            if isinstance(path, str) and not _is_installed(path) and (state := _state(path)) is not None:
                self._states[path] = state
                self._doubtful |= state[0] / 1e9 > self._began - _COARSE_SECONDS

    def look(self) -> bool:
        """Return whether a file has changed, or is gone."""
        self.changed |= self._doubtful or any(_state(path) != state for path, state in self._states.items())
        return self.changed


def _is_installed(path: str) -> bool:
    return path.startswith(_OTHERS) or any(f"{os.sep}{folder}{os.sep}" in path for folder in _INSTALLED)


def _state(path: str) -> tuple[int, int] | None:
    try:
        found = os.stat(path)  # noqa: PTH116 - faster than pathlib
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size


_WATCH_SECONDS = 0.5
"""Interval at which a worker checks whether the pool's process lives; PR_SET_PDEATHSIG would follow a thread instead."""

_forking = threading.local()


class Setup(NamedTuple):
    """The first message to a worker.

    Args:
        name: Name of the worker, at most 15 characters.
        tag: Start of the names of the payload files that it writes.
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
    from runwide.pool.process import children, kill_tree

    for child in children(os.getpid()):
        kill_tree(child)
    os._exit(1)
