"""Results that are finished and not yet sent."""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from runwide.pool import transfer
from runwide.pool.failed import failed
from runwide.records import FailureKind

if TYPE_CHECKING:
    from runwide.pool.channel import WorkerChannel

RESULTS = "results"

_STREAM_SECONDS = 0.05
"""Finished results leave a running chunk at this interval, so that the death of a later task loses little."""

_STREAM_BYTES = 1 << 20


class Outbox:
    """Streams results from a thread of its own, so that a long task delays none that was finished before it.

    Args:
        channel: Where they go.
        scratch: Where large ones go.
    """

    def __init__(self, channel: WorkerChannel, scratch: transfer.Scratch) -> None:
        self._channel = channel
        self._scratch = scratch
        self._lock = threading.Lock()
        self._filled = threading.Event()
        self._entries: list[Any] = []
        self._times: list[tuple[float, float]] = []
        self._bytes = 0
        self._since = 0.0
        threading.Thread(target=self._stream, name="runwide-stream", daemon=True).start()

    def add(self, entry: Any, started: float, ended: float) -> None:
        """Keep one result for sending."""
        size = transfer.entry_size(entry)
        with self._lock:
            self._entries.append(entry)
            self._times.append((started, ended))
            self._bytes += size
            first = len(self._entries) == 1
        if size and self._bytes > _STREAM_BYTES:
            self.flush()
        elif first:
            self._since = ended
            self._filled.set()
        elif ended - self._since > _STREAM_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Send what there is."""
        with self._lock:
            if self._entries:
                self._send(self._entries, self._times)
                self._entries, self._times, self._bytes = [], [], 0

    def _send(self, entries: list[Any], times: list[tuple[float, float]]) -> None:
        try:
            path, sealed = transfer.seal(entries, self._scratch)
        except OSError as error:
            path, sealed = None, [failed(FailureKind.PICKLING, error) for _ in entries]
        self._channel.send((RESULTS, path, sealed, times))

    def _stream(self) -> None:
        while True:
            self._filled.wait()
            self._filled.clear()
            time.sleep(_STREAM_SECONDS)
            with suppress(OSError):
                self.flush()
