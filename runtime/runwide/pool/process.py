"""Worker processes: fresh interpreters that share nothing with this one but the descriptors that they are handed.

They are started by ``exec``, since a fork copies locks, threads and clients in whatever state they are; ``__main__`` is not
imported again, and the environment is set before anything is imported. The one exception is a worker that was forked where
there was nothing of that yet (`runwide.pool.spare`). loky's processes are started so too; but loky, its tracker of resources
and multiprocessing's take longer to start than all of ours.
"""

from __future__ import annotations

import multiprocessing
import os
import select
import signal
import sys
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from runwide import origin
from runwide.pool import spare
from runwide.pool.child import Child
from runwide.pool.oom import offer_first

if TYPE_CHECKING:
    from collections.abc import Mapping

    from runwide.pool.channel import Channel

_BOOT = str(Path(__file__).with_name("boot.py"))
_TRACKED = ("multiprocessing.resource_tracker", "multiprocessing.shared_memory")


class WorkerProcess:
    """One running interpreter, started by `start`.

    Args:
        process: The interpreter.
        ended: A descriptor that becomes readable when it has ended.
    """

    def __init__(self, process: Child, ended: int) -> None:
        self._process = process
        self.pid: int = process.pid
        self.sentinel = ended

    def exitcode(self) -> int | None:
        """Exit status, negative for a signal, or `runwide.pool.child.UNKNOWN`; None while it runs."""
        return self._process.poll()

    def wait(self, seconds: float | None = None) -> int | None:
        """Wait for the end; returns the exit status, or None if it still runs."""
        ended = select.poll()  # select() takes no descriptor above 1023
        ended.register(self.sentinel, select.POLLIN)
        if ended.poll(None if seconds is None else max(0.0, seconds) * 1000):
            return self._process.wait()
        return self.exitcode()

    def kill_tree(self, *, rests: bool = False) -> bool:
        """SIGKILL the process and all that it started, and reap it; returns whether it was alive.

        Args:
            rests: Whether it runs nothing that could start more meanwhile.
        """
        if self.exitcode() is not None:
            return False
        kill_tree(self.pid, rests=rests)
        self._process.wait()
        return True

    def close(self) -> None:
        """Release descriptors; the process must have ended."""
        if self.sentinel >= 0:
            os.close(self.sentinel)
            self.sentinel = -1


class Ends(NamedTuple):
    """The worker's ends of what lies between it and the pool.

    Args:
        line: Of the socket for messages.
        alive: Of the pipe that ends with the pool's process.
        stdout: Of what is read of its standard output.
        stderr: Of what is read of its standard error.
    """

    line: int
    alive: int
    stdout: int
    stderr: int


def start(name: str, channel: Channel, ends: Ends, env: Mapping[str, str]) -> WorkerProcess:
    """Start an interpreter that runs `runwide.pool.worker.main`.

    Args:
        name: Name of the process.
        channel: The pool's end of the line.
        ends: The worker's ends, which stay open here.
        env: Variables set on top of this process's environment, before the interpreter starts.
    """
    tracker = _tracker()
    told = (_search_path(), sys.argv, _shared(tracker))
    ended, ending = _end_of_process()
    waiting = spare.taken() if ended is None else None
    if waiting is not None:
        descriptors = [
            ends.line,
            ends.alive,
            ends.stdout,
            ends.stderr,
            *([] if tracker is None else [tracker]),
        ]
        became = waiting.become((dict(env), name, *told), descriptors)
        if became is not None:
            return WorkerProcess(became, _end_of(became.pid))
    handed = [ends.line, ends.alive, *(fd for fd in (tracker, ending) if fd is not None)]
    child: Child | None = None
    try:
        child = _interpreter([_BOOT, name, *map(str, handed)], handed, ends, env)
        offer_first(child.pid)
        channel.send(told)
        return WorkerProcess(child, _end_of(child.pid) if ended is None else ended)
    except BaseException:
        if child is not None:
            child.kill()
            child.wait()
        if ended is not None:
            os.close(ended)
        raise
    finally:
        if ending is not None:
            os.close(ending)


def _interpreter(words: list[str], handed: list[int], ends: Ends, env: Mapping[str, str]) -> Child:
    """Start an interpreter with the flags of this one."""
    import subprocess  # a shard's first worker does not wait for it

    # One thread of the pool starts all workers, and signals that it blocks stay blocked in them.
    flags = _flags()
    started = subprocess.Popen(
        [sys.executable, *flags, *words],
        pass_fds=handed,
        stdin=subprocess.DEVNULL,
        stdout=ends.stdout,
        stderr=ends.stderr,
        env={**os.environ, "PYTHONHASHSEED": _hash_seed(), **env},
    )
    started.returncode = 0  # not asked any more: where nobody knows the status, Popen would say 0 as well
    return Child(started.pid)


def _hash_seed() -> str:
    """One for all workers, so that they agree on ``hash(text)``: on the order of a set, on the part of a table."""
    given = os.environ.get("PYTHONHASHSEED", "random")
    return given if given.isdigit() else _own_hash_seed()


@cache
def _own_hash_seed() -> str:
    return str(int.from_bytes(os.urandom(4), "little"))


def _shared(tracker: int | None) -> dict[str, Any]:
    """What makes a worker one of this program's processes for multiprocessing, as `runwide.pool.station.join` takes it."""
    current: Any = multiprocessing.current_process()
    return {
        "authkey": bytes(current.authkey),
        "tracker": tracker,
        "identity": (*current._identity, next(multiprocessing.process._process_counter)),  # type: ignore[attr-defined]  # noqa: SLF001 - as Process does
        "parent": current.name,
    }


def _end_of(pid: int) -> int:
    """A descriptor that becomes readable when a child has ended."""
    try:
        return os.pidfd_open(pid)
    except ProcessLookupError:  # it has, and this program ignores SIGCHLD
        ended, ending = os.pipe()
        os.close(ending)
        return ended


def _flags() -> list[str]:
    """The flags of this interpreter, as multiprocessing hands them on, and the other ``-X`` options."""
    import subprocess  # slow to load

    found: list[str] = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]  # noqa: SLF001 - as multiprocessing does
    for name, value in sys._xoptions.items():  # noqa: SLF001 - its name in the documentation
        option = name if value is True else f"{name}={value}"
        if option not in found:
            found += ["-X", option]
    return found


def _search_path() -> list[str]:
    """Where this program finds modules, and found them before it changed its directory, as notebooks do."""
    try:
        if origin.DIRECTORY in ("", str(Path.cwd())):
            return sys.path
    except FileNotFoundError:  # this directory is gone, and only "" may say so without failing each import
        return [path for path in _also_from_origin() if not path or Path(path).is_absolute()]
    return _also_from_origin()


def _also_from_origin() -> list[str]:
    if not origin.DIRECTORY:
        return sys.path
    return [path for entry in sys.path for path in dict.fromkeys((entry, str(Path(origin.DIRECTORY, entry))))]


def _end_of_process() -> tuple[int | None, int | None]:
    """A pipe that ends with the worker, where no pidfd tells of that: before Linux 5.3, and in some sandboxes.

    A pidfd tells the death of exactly one process; a pipe stays open as long as any child of the worker keeps it.
    """
    try:
        os.close(os.pidfd_open(os.getpid()))
    except (OSError, AttributeError):
        return os.pipe()
    return None, None


def _tracker() -> int | None:
    """The line to multiprocessing's tracker of shared memory, where this program may use it.

    Workers must have the same: one of their own would, before Python 3.13, remove at their end what they were only shown.
    """
    if sys.modules.keys().isdisjoint(_TRACKED):
        return None
    from multiprocessing import resource_tracker

    return resource_tracker.getfd()


def kill_tree(pid: int, *, rests: bool = False) -> None:
    """SIGKILL a process and its descendants, each stopped for a moment before so that none escapes by forking.

    It is a short moment, and none for a process that rests: one that stands still would do so for ever if this process
    were killed meanwhile.

    Args:
        pid: The process.
        rests: Whether it starts no others now.
    """
    below = children(pid)
    if not rests:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGSTOP)
        below = [child for child in dict.fromkeys(below + _children_now(pid)) if _parent(child) == pid]
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    for child in below:
        kill_tree(child)


def children(pid: int) -> list[int]:
    """Process ids of the direct children, from /proc; none where that cannot be read, as without a free descriptor."""
    try:
        names = os.listdir("/proc")  # noqa: PTH208 - names are wanted
    except OSError:
        return []
    return [child for child in map(int, filter(str.isdigit, names)) if _parent(child) == pid]


def _children_now(pid: int) -> list[int]:
    """The same from where the kernel lists them, which takes no time, but may miss one while another one ends."""
    found: list[int] = []
    try:
        for thread in Path(f"/proc/{pid}/task").iterdir():
            found += map(int, (thread / "children").read_text().split())
    except OSError:  # a kernel without such lists; or the process is gone
        return children(pid)
    return found


def _parent(pid: int) -> int | None:
    try:
        # the command, in parentheses, may itself contain spaces and parentheses
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except (OSError, IndexError):  # it has ended
        return None
