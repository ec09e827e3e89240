"""Wakes a thread that waits in a selector, from any other."""

from __future__ import annotations

import selectors
import socket
from contextlib import suppress


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

    def ring(self) -> None:
        """Have the other thread look."""
        with suppress(OSError):  # full: it will look anyway; closed: there is nobody to look
            self._rope.send(b"!")

    def hear(self) -> None:
        """Take note of all rings so far."""
        with suppress(BlockingIOError):
            while self._end.recv(4096):
                pass

    def close(self) -> None:
        """Close both ends."""
        self._rope.close()
        self._end.close()
