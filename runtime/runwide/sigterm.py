"""Leave in order when SIGTERM comes."""

from __future__ import annotations

import signal
import threading
from contextlib import contextmanager
from contextvars import Context, ContextVar, copy_context
from typing import TYPE_CHECKING, Any

from runwide.errors import Preempted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@contextmanager
def leaves_on_sigterm() -> Iterator[None]:
    """Make SIGTERM raise `runwide.errors.Preempted` while the block runs, so that it is left in order.

    A pool that runs inside the block is drained first.
    """
    with handled(leave):
        yield


def leave(*_: Any) -> None:
    """Raise `runwide.errors.Preempted`, as a handler of SIGTERM."""
    raise Preempted("stopped by SIGTERM; finished results are kept", hint="run it again to go on")


class Relay:
    """A handler of SIGTERM on the main thread for pools that run on other threads."""

    def __init__(self) -> None:
        self._handlers: list[Callable[..., None]] = []
        self._came = False

    def __call__(self, *_: Any) -> None:
        """Pass SIGTERM on to the handlers."""
        self._came = True
        for handler in list(self._handlers):
            handler()

    @contextmanager
    def to(self, handler: Callable[..., None]) -> Iterator[None]:
        """Call this handler at SIGTERM while the block runs, or at once if SIGTERM has come before."""
        self._handlers.append(handler)
        try:
            if self._came:
                handler()
            yield
        finally:
            self._handlers.remove(handler)

    def context(self) -> Context:
        """Return a copy of this thread's context for another thread, whose pools then get SIGTERM."""
        made = copy_context()
        made.run(_relay.set, self)
        return made


_relay: ContextVar[Relay | None] = ContextVar("relay", default=None)


@contextmanager
def handled(handler: Callable[..., None]) -> Iterator[None]:
    """Make SIGTERM call a handler while the block runs, if the program has none and this is the main thread.

    On another thread, the `Relay` in its context calls the handler, if there is one.

    Args:
        handler: Called with the arguments of a signal handler.
    """
    relay = _relay.get()
    if relay is not None and threading.current_thread() is not threading.main_thread():
        with relay.to(handler):
            yield
        return
    in_main = threading.current_thread() is threading.main_thread()
    before = _still_wanted(signal.getsignal(signal.SIGTERM))
    if not in_main or not (before == signal.SIG_DFL or _handler_of(before) is leave):
        yield
        return
    installed = _Installed(handler, before)
    signal.signal(signal.SIGTERM, installed)
    try:
        yield
    finally:
        # The garbage collector may close an iterator on another thread, and blocks may end in any order.
        installed.is_over = True
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, _still_wanted(signal.getsignal(signal.SIGTERM)))


class _Installed:
    """An installed handler, with the handler before it, and whether its block has ended."""

    def __init__(self, handler: Callable[..., None], before: Any) -> None:
        self.handler = handler
        self.before = before
        self.is_over = False

    def __call__(self, *given: Any) -> None:
        if not self.is_over:
            self.handler(*given)
            return
        signal.signal(signal.SIGTERM, _still_wanted(self))
        signal.raise_signal(signal.SIGTERM)


def _still_wanted(handler: Any) -> Any:
    """Return a handler; instead of one of ours whose block has ended, the one before it."""
    while isinstance(handler, _Installed) and handler.is_over:
        handler = handler.before
    return handler


def _handler_of(installed: Any) -> Any:
    return installed.handler if isinstance(installed, _Installed) else installed


class Draining:
    """A handler of SIGTERM that drains a pool and ends the wait for items.

    Args:
        drain: Lets running tasks finish, and then ends all calls with `runwide.errors.Preempted`.
        grace: Seconds that running tasks may take.
    """

    def __init__(self, drain: Callable[[float], None], grace: float) -> None:
        self._drain = drain
        self._grace = grace
        self._came = False
        self._leaves = False

    def __call__(self, *_: Any) -> None:
        """Handle SIGTERM."""
        self._came = True
        self._drain(self._grace)
        if self._leaves:
            leave()

    def interrupt(self, action: Callable[[], None]) -> None:
        """Call a function that may wait in the user's code, and let SIGTERM end it there."""
        try:
            try:
                self._leaves = True
                if not self._came:
                    action()
            finally:
                self._leaves = False
        except Preempted:
            if not self._came:
                raise


@contextmanager
def drains_on_sigterm(drain: Callable[[float], None], grace: float) -> Iterator[Draining]:
    """Make SIGTERM drain a pool while the block runs.

    A handler of the program's own stays in place. Only the main thread can have a handler.

    Args:
        grace: As for `Draining`; Kubernetes and Vertex AI send SIGKILL 30 seconds after SIGTERM.
    """
    draining = Draining(drain, grace)
    with handled(draining):
        yield draining
