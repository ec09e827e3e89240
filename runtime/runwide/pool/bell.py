"""Wakes a thread that waits in a selector, from any other."""

from __future__ import annotations

import selectors
import socket
from contextlib import suppress
from threading import get_ident


class Bell:
    """Rung by any thread, heard by the one that waits.

    Args:
        selector: Where that one waits; the bell's event has no data.
    """

    def __init__(self, selector: selectors.BaseSelector) -> None:
        self._rope, self._end = socket.socketpair()
        self._rope.setblocking(False)
        self._end.setblocking(False)
        selector.register(self._end, selectors.EVENT_READ, None)
        self._hearer: int | None = None
        self._rung = False

    def ring(self) -> None:
        """Have the other thread look; that one itself is about to."""
        if get_ident() == self._hearer:
            self._rung = True
            return
        with suppress(OSError):  # full: it will look anyway; closed: there is nobody to look
            self._rope.send(b"!")

    def rung(self) -> bool:
        """Whether the thread that hears it has rung it since it was last asked."""
        self._hearer = get_ident()
        rung, self._rung = self._rung, False
        return rung

    def hear(self) -> None:
        """Take note of all rings so far, or of the first thousands of them."""
        with suppress(BlockingIOError):
            self._end.recv(4096)

    def close(self) -> None:
        """Close both ends."""
        self._rope.close()
        self._end.close()
