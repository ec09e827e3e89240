"""An interpreter that is started before it is known what for, and loads what a worker needs while its parent does so too."""

from __future__ import annotations

import os
import pickle
import signal
import socket
import subprocess
import sys
from contextlib import contextmanager, suppress
from importlib import import_module
from typing import TYPE_CHECKING, Any

from runwide.pool.oom import offer_first

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_BOOT = """
import sys
sys.path[:] = {path!r}
from runwide.pool.spare import wait
wait({line}, {modules!r})
"""
_ORDER = 1 << 16  # bytes, so that it is sent and received in one go
_DESCRIPTORS = 5

_spare: Spare | None = None


class Spare:
    """The interpreter, which waits for its order.

    Args:
        modules: What it imports meanwhile; nothing that heeds the variables of a worker.
    """

    def __init__(self, modules: Sequence[str]) -> None:
        self._line, theirs = socket.socketpair()
        program = _BOOT.format(path=sys.path, line=theirs.fileno(), modules=modules)
        # As those of a pool are: signals strike a worker when it knows what to do with them.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM))
        try:
            with theirs:
                self._process = subprocess.Popen(
                    [sys.executable, "-c", program], pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL
                )
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        offer_first(self._process.pid)

    def become(self, order: tuple[Any, ...], descriptors: Sequence[int]) -> subprocess.Popen[bytes] | None:
        """Have it become a worker; None, and its end, where it cannot.

        Args:
            order: Variables to set, name, search path, arguments, and what `runwide.pool.worker.main` is told.
            descriptors: Its ends of the line, of what ends with the pool, of standard output and of standard error; and
                the line to multiprocessing's tracker, where there is one.
        """
        data = pickle.dumps(order)
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
        self._process.kill()
        self._process.wait()


@contextmanager
def started(modules: Sequence[str]) -> Iterator[None]:
    """Have an interpreter wait while the block runs, for the first worker that is started in it.

    Args:
        modules: As for `Spare`.
    """
    global _spare  # noqa: PLW0603 - a process starts its workers from one place
    _spare = Spare(modules)
    try:
        yield
    finally:
        left = taken()
        if left is not None:
            left.close()


def taken() -> Spare | None:
    """The interpreter that waits, which then does so for the caller."""
    global _spare
    found, _spare = _spare, None
    return found


def wait(descriptor: int, modules: Sequence[str]) -> None:
    """Be that interpreter."""
    with socket.socket(fileno=descriptor) as line:
        os.set_inheritable(descriptor, False)
        for module in modules:
            import_module(module)
        order, handed, *_ = socket.recv_fds(line, _ORDER, _DESCRIPTORS)
    if not handed:  # the parent has ended, or needs nobody
        return
    env, name, *told = pickle.loads(order)
    os.environ.update(env)
    sys.path[:], sys.argv[:], shared = told
    messages, alive, stdout, stderr, *tracker = handed
    for end, stream in ((stdout, 1), (stderr, 2)):
        os.dup2(end, stream)
        os.close(end)
    from runwide.pool.worker import main

    main(name, messages, alive, {**shared, "tracker": tracker[0] if tracker else None})
