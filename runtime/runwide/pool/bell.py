"""Wake a thread that waits in a selector."""

from __future__ import annotations

import selectors
import socket
from contextlib import suppress
from threading import get_ident


class Bell:
    """A bell that any thread may ring, to wake the thread that waits in a selector.

    Args:
        selector: The selector; the bell's event has no data.
    """

    def __init__(self, selector: selectors.BaseSelector) -> None:
        self._ringing, self._heard = socket.socketpair()
        self._ringing.setblocking(False)
        self._heard.setblocking(False)
        selector.register(self._heard, selectors.EVENT_READ, None)
        self._waiting: int | None = None
        self._rung = False

    def ring(self) -> None:
        """Wake the thread that waits; if this is that thread, note the ring for `rung`."""
        if get_ident() == self._waiting:
            self._rung = True
            return
        with suppress(OSError):  # full: the thread wakes anyway; closed: no thread waits
            self._ringing.send(b"!")

    def rung(self) -> bool:
        """Return whether the waiting thread has rung the bell itself since the last call."""
        self._waiting = get_ident()
        rung, self._rung = self._rung, False
        return rung

    def hear(self) -> None:
        """Read the rings that have come, or the first thousands of them."""
        with suppress(BlockingIOError):
            self._heard.recv(4096)

    def close(self) -> None:
        """Close both ends."""
        self._ringing.close()
        self._heard.close()
