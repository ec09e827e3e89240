"""Start worker processes, wait for them, and kill them with all that they started.

loky starts a fresh interpreter, since a fork copies locks, threads and clients in any state. It does not import
``__main__`` again, and sets a worker's variables before the interpreter begins. `runwide.pool.entry` is the first module
that runs there.
"""

from __future__ import annotations

import errno
import multiprocessing
import os
import select
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager, suppress
from functools import cache
from multiprocessing import process
from pathlib import Path
from typing import TYPE_CHECKING

from runwide import origin, settings
from runwide.pool.entry import Ends, Handed, Program, enter, flags

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from multiprocessing.process import BaseProcess


UNKNOWN = 1 << 16
"""The exit status if it is unknown: the kernel kept none, or another part of this program has read it."""


class Child:
    """A child process, with the few methods of `subprocess.Popen` that a pool needs.

    If the program ignores SIGCHLD, the kernel keeps no exit status. Popen then returns 0; this returns `UNKNOWN`.
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


def kill_tree(pid: int, *, rests: bool = False) -> None:
    """Send SIGKILL to a process and its descendants. Each is stopped briefly before, so that none escapes by forking.

    The stop is brief, and an idle process is not stopped: it would stay stopped if this process were killed meanwhile.

    Args:
        rests: Whether it is idle, and starts no other processes now.
    """
    below = children(pid)
    if not rests:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGSTOP)
        below = _still_below(pid, below)
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    for child in below:
        kill_tree(child)


def children(pid: int) -> list[int]:
    """Return the process ids of the direct children; none if they cannot be read, as without a free descriptor.

    Example:
        >>> import subprocess
        >>> with subprocess.Popen(["sleep", "60"]) as process:
        ...     found = children(os.getpid())
        ...     process.kill()
        >>> process.pid in found
        True
    """
    try:
        listed = _listed()
    except OSError:
        return []
    return _children_elsewhere(pid) if listed is None else [one for one in listed if _parent(one) == pid]


def _listed() -> list[int] | None:
    """Return all processes from /proc; None if it lists none, as on a Mac.

    Raises:
        OSError: /proc cannot be read now.
    """
    try:
        names = os.listdir("/proc")  # noqa: PTH208 - names are wanted
    except FileNotFoundError:
        return None
    return [int(name) for name in names if name.isdigit()] or None


def _still_below(pid: int, before: list[int]) -> list[int]:
    """Return the children of a stopped process, some of which were known before."""
    found: list[int] = []
    try:
        # The kernel's own list is fast, but may miss a child while another one ends.
        for thread in Path(f"/proc/{pid}/task").iterdir():
            found += map(int, (thread / "children").read_text().split())
    except OSError:  # a kernel without such lists; or the process is gone
        return children(pid)
    return [child for child in dict.fromkeys(before + found) if _parent(child) == pid]


def _parent(pid: int) -> int | None:
    try:
        # The command, in parentheses, may itself contain spaces and parentheses.
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except (OSError, IndexError):  # it has ended
        return None


def _children_elsewhere(pid: int) -> list[int]:
    from runwide.host import without_proc  # which no worker on Linux loads

    return without_proc.children(pid)


_SCORE = 500  # thousandths of the limit; a pool never needs as much


def offer_first(pid: int) -> None:
    """Make the OOM killer choose a process before this one, from its start on.

    The process itself could do so only when its interpreter is up. The kernel may kill again while it still frees the
    memory of its first victim, and would then choose the pool.
    """
    with suppress(OSError, ValueError):  # it has ended, or /proc is incomplete
        ours = int(Path("/proc/self/oom_score_adj").read_text())
        Path(f"/proc/{pid}/oom_score_adj").write_text(str(min(1000, ours + _SCORE)))


_DESCRIPTORS = 12  # the number that loky opens for one process, and some more
_WORDS_SECONDS = 10.0
_LINES = 20

_starting = threading.Lock()  # a start may leave the working directory for a moment


def _renew_lock() -> None:
    global _starting  # noqa: PLW0603 - another thread of the parent may have held it
    _starting = threading.Lock()


os.register_at_fork(after_in_child=_renew_lock)


class WorkerProcess:
    """One running worker, started by `start`."""

    def __init__(self, started: BaseProcess) -> None:
        self._started = started  # this reference keeps its sentinel open
        self._child = Child(started.pid or 0)
        self.pid: int = self._child.pid
        self._pidfd = _pidfd(self.pid)
        self.sentinel: int = started.sentinel if self._pidfd < 0 else self._pidfd
        """A descriptor that becomes readable when the process has ended."""

    def exitcode(self) -> int | None:
        """Return the exit status, negative for a signal, or `runwide.pool.process.UNKNOWN`; None while it runs."""
        return self._child.poll()

    def wait(self, seconds: float | None = None) -> int | None:
        """Wait for the end, and return the exit status; None if the process still runs."""
        ended = select.poll()  # select() takes no descriptor above 1023
        ended.register(self.sentinel, select.POLLIN)
        if ended.poll(None if seconds is None else max(0.0, seconds) * 1000):
            return self._child.wait()
        return self.exitcode()

    def kill_tree(self, *, rests: bool = False) -> bool:
        """Send SIGKILL to the process and its descendants, reap it, and return whether it was alive."""
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
        ends: The worker's ends of its connections, which stay open here.
        env: Variables that are added to this process's environment before the interpreter starts.
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
    """Return the error output of an interpreter that is started with the variables of a worker, and fails.

    A worker that fails so early writes to this program's streams, and not to the pool's pipes.

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
    key is blank: a worker gets it in a message (`runwide.pool.worker_setup`), and programs that tasks start do not get it.
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
