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
    from runwide.pool.meter import Meter

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
        self.meter: Meter | None = None  # set where somebody listens to events
        self._bytes = 0
        self._since = 0.0
        threading.Thread(target=self._stream, name="runwide-stream", daemon=True).start()

    def extend(self, entries: list[Any], started: float, ended: float) -> None:
        """Keep results of tasks that ran one after another, for sending.

        Args:
            entries: At least one.
            started: When the first of them started, on the monotonic clock, in seconds.
            ended: When the last of them ended, just now.
        """
        size = transfer.payload_size(entries)
        with self._lock:
            first = not self._entries
            self._entries += entries
            self._bytes += size
            if self.meter is not None:
                self.meter.add(len(entries), started, ended)
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
                self._send(self._entries)
                self._entries, self._bytes = [], 0

    def _send(self, entries: list[Any]) -> None:
        path, sealed = self._seal(entries)
        report = None if self.meter is None else self.meter.report()
        self._channel.send((RESULTS, path, sealed, report))

    def _seal(self, entries: list[Any]) -> tuple[str | None, list[Any]]:
        """Make a message of entries; where there is no room for all, the largest become failures, one by one."""
        while True:
            try:
                return transfer.seal(entries, self._scratch)
            except OSError as error:
                sizes = [transfer.entry_size(entry) for entry in entries]
                entries[sizes.index(max(sizes))] = failed(FailureKind.PICKLING, error)

    def _stream(self) -> None:
        while True:
            self._filled.wait()
            self._filled.clear()
            time.sleep(_STREAM_SECONDS)
            with suppress(OSError):
                self.flush()
