"""Worker processes: loky's, one each, which share nothing with this one but the descriptors that they are handed.

loky starts a fresh interpreter, since a fork copies locks, threads and clients in whatever state they are. It does not
import ``__main__`` again, and sets a worker's variables before that interpreter begins. There, `runwide.pool.entry` comes
first.
"""

from __future__ import annotations

import errno
import multiprocessing
import os
import select
import subprocess
import sys
import threading
from contextlib import contextmanager
from functools import cache
from multiprocessing import process
from pathlib import Path
from typing import TYPE_CHECKING

from runwide import origin, settings
from runwide.pool.child import Child
from runwide.pool.entry import Ends, Handed, Program, enter, flags
from runwide.pool.oom import offer_first
from runwide.pool.tree import kill_tree

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from multiprocessing.process import BaseProcess

_DESCRIPTORS = 12  # that loky opens for one process, and some to spare
_WORDS_SECONDS = 10.0
_LINES = 20

_starting = threading.Lock()  # a start may have to leave the directory for a moment


def _renew_lock() -> None:
    global _starting  # noqa: PLW0603 - another thread of the parent may have held it
    _starting = threading.Lock()


os.register_at_fork(after_in_child=_renew_lock)


class WorkerProcess:
    """One running worker, started by `start`.

    Args:
        started: loky's process.
    """

    def __init__(self, started: BaseProcess) -> None:
        self._started = started  # as long as this lives, its sentinel is open
        self._child = Child(started.pid or 0)
        self.pid: int = self._child.pid
        self._pidfd = _pidfd(self.pid)
        self.sentinel: int = started.sentinel if self._pidfd < 0 else self._pidfd
        """Becomes readable when the process has ended."""

    def exitcode(self) -> int | None:
        """Exit status, negative for a signal, or `runwide.pool.child.UNKNOWN`; None while it runs."""
        return self._child.poll()

    def wait(self, seconds: float | None = None) -> int | None:
        """Wait for the end; returns the exit status, or None if it still runs."""
        ended = select.poll()  # select() takes no descriptor above 1023
        ended.register(self.sentinel, select.POLLIN)
        if ended.poll(None if seconds is None else max(0.0, seconds) * 1000):
            return self._child.wait()
        return self.exitcode()

    def kill_tree(self, *, rests: bool = False) -> bool:
        """SIGKILL the process and all that it started, and reap it; returns whether it was alive.

        Args:
            rests: Whether it runs nothing that could start more meanwhile.
        """
        if self.exitcode() is not None:
            return False
        kill_tree(self.pid, rests=rests)
        self._child.wait()
        return True

    def close(self) -> None:
        """Release descriptors; the process must have ended."""
        if self._pidfd >= 0:
            os.close(self._pidfd)
            self._pidfd = -1


def start(name: str, ends: Ends, env: Mapping[str, str]) -> WorkerProcess:
    """Start a process that runs `runwide.pool.worker.main`.

    Args:
        name: Name of the process.
        ends: The worker's ends, which stay open here.
        env: Variables set on top of this process's environment, before the interpreter starts.

    Raises:
        OSError: There are no more descriptors or processes.
    """
    from runwide.pool.loky_process import Process  # which loads loky

    path, for_start = _search_path(), _for_start()
    variables = {"PYTHONHASHSEED": _hash_seed(), **_temporary(), **for_start, **env}
    with _starting, _in_some_directory() as gone:
        _need_interpreter()
        _need_descriptors()
        how = multiprocessing.get_start_method(allow_none=True)
        program = Program(path, how, flags(), tuple(for_start), None if gone is None else Handed(gone))
        started = Process(target=enter, args=(ends, program), name=name, env=variables)
        started.start()
    # Whoever waits for all of this program's processes does not mean workers; and only one may ask for the exit status.
    process._children.discard(started)  # type: ignore[attr-defined]  # noqa: SLF001 - as Process.join does
    offer_first(started.pid or 0)
    try:
        return WorkerProcess(started)
    except BaseException:
        kill_tree(started.pid or 0)
        started.join()
        raise


def last_words(env: Mapping[str, str]) -> str:
    """What an interpreter says that is started like a worker's, and cannot run.

    A worker says so where this program does, before its streams are the pool's.

    Args:
        env: The variables of the worker.

    Example:
        >>> last_words({})
        ''
    """
    try:
        ran = subprocess.run(
            [sys.executable, "-c", "import runwide.pool.entry"],
            env=settings.with_variables(env),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_WORDS_SECONDS,
            check=False,
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return "\n".join(ran.stderr.splitlines()[-_LINES:])


def _pidfd(pid: int) -> int:
    """A descriptor that becomes readable when a child has ended; -1 where the kernel has none for us.

    loky's own sentinel is a pipe, which stays open as long as any child of the worker keeps it.
    """
    try:
        return os.pidfd_open(pid)
    except (
        OSError,
        AttributeError,
    ):  # before Linux 5.3; in some sandboxes; it has ended, and this program ignores SIGCHLD
        return -1


def _need_interpreter() -> None:
    """Make sure that there is one: loky does not say that a program cannot be run."""
    if not os.access(sys.executable, os.X_OK):
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), sys.executable)


def _need_descriptors() -> None:
    """Make sure that loky gets those that it opens: where one is missing in the midst, it leaves the others open."""
    held: list[int] = []
    try:
        while len(held) < _DESCRIPTORS:
            held.append(os.open(os.devnull, os.O_RDONLY))
    finally:
        for descriptor in held:
            os.close(descriptor)


@contextmanager
def _in_some_directory() -> Iterator[int | None]:
    """Be in a directory that has a path, as loky wants; gives a descriptor of the program's own where that was removed."""
    if not _is_gone():
        yield None
        return
    gone = os.open(".", getattr(os, "O_PATH", os.O_RDONLY))
    try:
        os.chdir("/")
        try:
            yield gone
        finally:
            os.fchdir(gone)
    finally:
        os.close(gone)


def _is_gone() -> bool:
    """Whether the directory of this program was removed."""
    try:
        Path.cwd()
    except OSError:
        return True
    return False


def _hash_seed() -> str:
    """One for all workers, so that they agree on ``hash(text)``: on the order of a set, on the part of a table."""
    given = os.environ.get("PYTHONHASHSEED", "random")
    return given if given.isdigit() else _own_hash_seed()


@cache
def _own_hash_seed() -> str:
    return str(int.from_bytes(os.urandom(4), "little"))


def _for_start() -> dict[str, str]:
    """What a worker's interpreter starts with, and its tasks do not see.

    One variable keeps modules of the directory from a program that -I or -P keeps from them, until the flags are set. The
    signing key is blank: a worker is told it in another way (`runwide.pool.station`), and what tasks start is not.
    """
    apart = sys.flags.isolated or getattr(sys.flags, "safe_path", False)
    found = {"PYTHONSAFEPATH": "1"} if apart and "PYTHONSAFEPATH" not in os.environ else {}
    return {**found, settings.SIGNING_KEY: ""} if settings.is_set(settings.SIGNING_KEY) else found


def _temporary() -> dict[str, str]:
    """Tell tasks the place for temporary files, where the system's own ones cannot be written."""
    from runwide.host import space  # which a worker never needs

    found = space.temporary()
    return {"TMPDIR": found} if found == space.SHARED else {}


def _search_path() -> list[str]:
    """Where this program finds modules, and found them before it changed its directory, as notebooks do."""
    if _is_gone():  # only "" may say so without failing each import
        return [path for path in _also_from_origin() if not path or Path(path).is_absolute()]
    return sys.path if origin.DIRECTORY in ("", str(Path.cwd())) else _also_from_origin()


def _also_from_origin() -> list[str]:
    if not origin.DIRECTORY:
        return sys.path
    return [path for entry in sys.path for path in dict.fromkeys((entry, str(Path(origin.DIRECTORY, entry))))]
