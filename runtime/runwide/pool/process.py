"""Start worker processes through loky. They share only the descriptors that they inherit.

loky starts a fresh interpreter, since a fork copies locks, threads and clients in any state. It does not import
``__main__`` again, and sets a worker's variables before the interpreter begins. `runwide.pool.entry` is the first module
that runs there.
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

_DESCRIPTORS = 12  # the number that loky opens for one process, and some more
_WORDS_SECONDS = 10.0
_LINES = 20

_starting = threading.Lock()  # a start may leave the working directory for a moment


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
        self._started = started  # this reference keeps its sentinel open
        self._child = Child(started.pid or 0)
        self.pid: int = self._child.pid
        self._pidfd = _pidfd(self.pid)
        self.sentinel: int = started.sentinel if self._pidfd < 0 else self._pidfd
        """A descriptor that becomes readable when the process has ended."""

    def exitcode(self) -> int | None:
        """Return the exit status, negative for a signal, or `runwide.pool.child.UNKNOWN`; None while it runs."""
        return self._child.poll()

    def wait(self, seconds: float | None = None) -> int | None:
        """Wait for the end, and return the exit status; None if the process still runs."""
        ended = select.poll()  # select() takes no descriptor above 1023
        ended.register(self.sentinel, select.POLLIN)
        if ended.poll(None if seconds is None else max(0.0, seconds) * 1000):
            return self._child.wait()
        return self.exitcode()

    def kill_tree(self, *, rests: bool = False) -> bool:
        """Send SIGKILL to the process and its descendants, reap it, and return whether it was alive.

        Args:
            rests: Whether the process is idle, and starts no others meanwhile.
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
        ends: The worker's ends of its connections, which stay open here.
        env: Variables that are added to this process's environment before the interpreter starts.

    Raises:
        OSError: There are no more descriptors or processes.
    """
    from runwide.pool.loky_process import Process  # which loads loky

    path, for_start = _search_path(), _for_start()
    variables = {"PYTHONHASHSEED": _hash_seed(), **_temporary(), **for_start, **env}
    with _starting, _in_some_directory() as gone:
        _check_interpreter()
        _check_descriptors()
        how = multiprocessing.get_start_method(allow_none=True)
        program = Program(path, how, flags(), tuple(for_start), None if gone is None else Handed(gone))
        started = Process(target=enter, args=(ends, program), name=name, env=variables)
        started.start()
    # Code that waits for all child processes does not mean workers, and the exit status can be read only once.
    process._children.discard(started)  # type: ignore[attr-defined]  # noqa: SLF001 - as Process.join does
    offer_first(started.pid or 0)
    try:
        return WorkerProcess(started)
    except BaseException:
        kill_tree(started.pid or 0)
        started.join()
        raise


def last_words(env: Mapping[str, str]) -> str:
    """Return the error output of an interpreter that is started like a worker's and fails.

    A worker that fails so early writes to this program's streams, and not to the pool's pipes.

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
    """Return a descriptor that becomes readable when a child has ended; -1 if the kernel gives none.

    loky's own sentinel is a pipe, which stays open while any child of the worker has it open.
    """
    try:
        return os.pidfd_open(pid)
    # Before Linux 5.3; in some sandboxes; or the child has ended, and this program ignores SIGCHLD.
    except (OSError, AttributeError):
        return -1


def _check_interpreter() -> None:
    """Check that the interpreter can be run: loky does not report it."""
    if not os.access(sys.executable, os.X_OK):
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), sys.executable)


def _check_descriptors() -> None:
    """Check that loky's descriptors are available: if one is missing, it leaves the others open."""
    held: list[int] = []
    try:
        while len(held) < _DESCRIPTORS:
            held.append(os.open(os.devnull, os.O_RDONLY))
    finally:
        for descriptor in held:
            os.close(descriptor)


@contextmanager
def _in_some_directory() -> Iterator[int | None]:
    """Change to a directory that has a path, as loky requires; yield a descriptor of a removed one."""
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
    """Return whether the working directory was removed."""
    try:
        Path.cwd()
    except OSError:
        return True
    return False


def _hash_seed() -> str:
    """Return one seed for all workers, so that ``hash(text)`` and the order of sets are the same in all."""
    given = os.environ.get("PYTHONHASHSEED", "random")
    return given if given.isdigit() else _own_hash_seed()


@cache
def _own_hash_seed() -> str:
    return str(int.from_bytes(os.urandom(4), "little"))


def _for_start() -> dict[str, str]:
    """Return variables with which a worker's interpreter starts, and that its tasks do not see.

    If the program has the flag -I or -P, one variable has the same effect until the worker's flags are set. The signing
    key is blank: a worker gets it in a message (`runwide.pool.station`), and programs that tasks start do not get it.
    """
    apart = sys.flags.isolated or getattr(sys.flags, "safe_path", False)
    found = {"PYTHONSAFEPATH": "1"} if apart and "PYTHONSAFEPATH" not in os.environ else {}
    return {**found, settings.SIGNING_KEY: ""} if settings.is_set(settings.SIGNING_KEY) else found


def _temporary() -> dict[str, str]:
    """Return the variable for temporary files, if the system's own directories cannot be written."""
    from runwide.host import space  # no worker needs it

    found = space.temporary()
    return {"TMPDIR": found} if found == space.SHARED else {}


def _search_path() -> list[str]:
    """Return the search path of modules, also relative to the directory in which the program was started."""
    if _is_gone():  # relative entries would fail each import, except ""
        return [path for path in _also_from_origin() if not path or Path(path).is_absolute()]
    return sys.path if origin.DIRECTORY in ("", str(Path.cwd())) else _also_from_origin()


def _also_from_origin() -> list[str]:
    if not origin.DIRECTORY:
        return sys.path
    return [path for entry in sys.path for path in dict.fromkeys((entry, str(Path(origin.DIRECTORY, entry))))]
