"""The first worker of a command, forked where that begins: it loads what it needs while the command does so too.

A fork copies locks, threads and clients in whatever state they are, so all other workers are started by exec. Here there is
one thread, and nothing has been opened or asked for yet: multiprocessing's forkserver rests on the same.
"""

from __future__ import annotations

import gc
import os
import pickle
import signal
import socket
import sys
from contextlib import contextmanager, suppress
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

from runwide.pool.child import Child
from runwide.pool.oom import offer_first
from runwide.writing import keep_standard_descriptors

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

_ORDER = 1 << 16  # bytes, so that it is sent and received in one go
_DESCRIPTORS = 5
_STDERR = 2
_PATIENCE = 1.0  # seconds after which what was to be found is looked for here

_spare: Spare | None = None


class Spare:
    """The process that waits for its order, as its parent has it.

    Args:
        process: The process.
        line: Where it gets its order.
        answers: Where it says what it has found.
    """

    def __init__(self, process: Child, line: socket.socket, answers: socket.socket) -> None:
        self._process = process
        self._line = line
        # Not on the line: where an answer came late, closing it unread would break off the order.
        self._answers = answers
        self._asked = False
        self._answer: Any = None
        answers.settimeout(_PATIENCE)

    def answer(self) -> Any:
        """What it has found, which it is about to if it has not; None where it could not."""
        if not self._asked:
            self._asked = True  # nobody waits again
            with suppress(OSError, EOFError, pickle.UnpicklingError):  # too late; it could not; too much
                self._answer = pickle.loads(self._answers.recv(_ORDER))
        return self._answer

    def become(self, order: tuple[Any, ...], descriptors: Sequence[int]) -> Child | None:
        """Have it become a worker; None, and its end, where it cannot.

        Args:
            order: Variables to set, name, search path, arguments, and what `runwide.pool.worker.main` is told.
            descriptors: Its ends of the line, of what ends with the pool, of standard output and of standard error; and
                the line to multiprocessing's tracker, where there is one.
        """
        data = pickle.dumps(order)
        self._answers.close()
        with suppress(OSError):  # it is gone
            if len(data) <= _ORDER:
                socket.send_fds(self._line, [data], descriptors)
                self._line.close()
                return self._process
        self.close()
        return None

    def close(self) -> None:
        """End it; nobody needed it."""
        self._line.close()
        self._answers.close()
        self._process.kill()
        self._process.wait()


@contextmanager
def forked(modules: Sequence[str], meanwhile: Callable[[], Any]) -> Iterator[bool]:
    """Have a copy of this process wait while the block runs, for the first worker that is started in it.

    Where this process has other threads, nobody waits, and the first worker is started as all are.

    Args:
        modules: What both need, imported before.
        meanwhile: What the copy finds out while it waits, for `answer`; nothing that heeds the variables of a worker.

    Yields:
        Whether this is the copy. It has been a worker then, and is to end.
    """
    global _spare  # noqa: PLW0603 - a process starts its workers from one place
    if len(os.listdir("/proc/self/task")) > 1:  # noqa: PTH208 - the faster
        yield False
        return
    keep_standard_descriptors()
    (line, its_line), (answers, its_answers) = socket.socketpair(), socket.socketpair()
    pid = _fork(modules)
    if pid == 0:
        line.close()
        answers.close()
        _wait(its_line, its_answers, meanwhile)
        yield True
        return
    its_line.close()
    its_answers.close()
    if pid is None:
        line.close()
        answers.close()
    else:
        offer_first(pid)
        _spare = Spare(Child(pid), line, answers)
    try:
        yield False
    finally:
        left = taken()
        if left is not None:
            left.close()


def _fork(modules: Sequence[str]) -> int | None:
    """As `os.fork`, with modules loaded that are for both; None where no further process may be started."""
    collects = gc.isenabled()
    gc.disable()  # as its documentation has it: what both have is garbage in neither, and collecting would copy it
    for module in modules:
        import_module(module)
    gc.freeze()
    # As in those that a pool starts: signals strike a worker when it knows what to do with them.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM))
    pid = None
    try:
        with suppress(OSError):  # the pool says so if it can start none either
            pid = os.fork()
    finally:
        if pid != 0:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
    if collects:
        gc.enable()
    return pid


def taken() -> Spare | None:
    """The process that waits, which then does so for the caller."""
    global _spare
    found, _spare = _spare, None
    return found


def answer() -> Any:
    """What the process that waits has found; None where nobody waits any more, or it could not."""
    return None if _spare is None else _spare.answer()


def _wait(line: socket.socket, answers: socket.socket, meanwhile: Callable[[], Any]) -> None:
    """Be that process."""
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    # What the command was handed down, as by a shell, is not for what tasks start.
    _keep(int(name) for name in os.listdir("/proc/self/fd"))  # noqa: PTH208 - as above
    sys.modules["__main__"] = ModuleType("__main__")  # the command is nothing that a task could mean
    with line:
        # What goes wrong does so again where it is asked for, and is told there.
        with answers, suppress(Exception):
            answers.send(pickle.dumps(meanwhile()))
        import_module("runwide.pool.pickling")  # which a function needs that came by value

        order, handed, *_ = socket.recv_fds(line, _ORDER, _DESCRIPTORS)
    if not handed:  # the parent has ended, or needs nobody
        return
    _keep(handed)  # Python asks for no MSG_CMSG_CLOEXEC
    env, name, *told = pickle.loads(order)
    os.environ.update(env)
    sys.path[:], sys.argv[:], shared = told
    messages, alive, stdout, stderr, *tracker = handed
    for end, stream in ((stdout, 1), (stderr, 2)):
        os.dup2(end, stream)
        os.close(end)
    from runwide.pool.worker import main

    main(name, messages, alive, {**shared, "tracker": tracker[0] if tracker else None})


def _keep(descriptors: Iterable[int]) -> None:
    """Have programs that this process starts not inherit them, but for standard input, output and error."""
    for descriptor in descriptors:
        if descriptor > _STDERR:
            with suppress(OSError):  # it was that of a listing
                os.set_inheritable(descriptor, False)
