"""Write a shard's results: chunks in the background, and the manifest at the end."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from runwide.errors import ObjectExists
from runwide.job import manifest, model, plan
from runwide.job.reference import Reference
from runwide.log import Log
from runwide.store.buffers import sha256

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import TracebackType

    from typing_extensions import Self

    from runwide.job.chunk_log import ChunkLog, Ended
    from runwide.job.model import Job, Shard
    from runwide.store.base import Store

log = Log("job")

_WAITING_BYTES = 2 * plan.CHUNK_BYTES  # above this, `Writer.put` waits until some results are written


def finish_shard(store: Store, job: Job, chunks: ChunkLog, index: int) -> str:
    """Write the manifest and return its reference, unless an earlier run or a copy of the shard wrote a valid one.

    A manifest is never replaced. If the last one is damaged, or names a damaged chunk or a superseded end, a new one gets
    the next number.
    """
    least = 0  # lower numbers have objects that are not valid manifests
    while True:
        found = chunks.manifest()
        reference, number = _earlier(store, job, found, chunks.manifests)
        if reference is None:
            number = max(least, number)
            name, data = model.shard_name(index, number), manifest.shard_bytes(found, job)
            try:
                store.create(name, data)
            except ObjectExists:
                chunks.resume()  # the other writer may have stored newer chunks
                least = number + 1
                continue
            reference = str(Reference(store.child_uri(name), sha256(data)))
        log.info(
            "shard.finished", job=job.id, shard=index, chunks=len(found.chunks), failed=len(found.failures)
        )
        return reference


def _earlier(store: Store, job: Job, ours: Shard, numbers: Sequence[int]) -> tuple[str | None, int]:
    """Find the last valid manifest, if it names only chunks that were verified here.

    Returns:
        Its reference and number; or None, and the number for a new manifest.
    """
    found = manifest.trusted_shard(store, job, ours.index, numbers)
    if found is None:
        return None, 0
    if set(ours.chunks).issuperset(found.shard.chunks):
        return str(found.reference), found.number
    log.warning("manifest.superseded", uri=found.reference.uri)
    return None, found.number + 1


class Writer:
    """A thread that writes finished results in chunks, by size and by age; a context manager.

    At the end of the block, also when the shard is interrupted, the results that wait are written.

    Args:
        stored: Called on that thread when results were written, with the number of failures among them.
    """

    def __init__(self, chunks: ChunkLog, *, stored: Callable[[int], None] | None = None) -> None:
        self._chunks = chunks
        self._stored = stored
        self._waiting: list[Ended] = []
        self._bytes = 0
        self._oldest = 0.0
        self._most_seconds = plan.flush_after(chunks.uri)
        self._closing = False
        self._error: BaseException | None = None
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    def put(self, end: Ended) -> None:
        """Queue the end of an item; wait while too many bytes are queued, and raise the error of an earlier write."""
        if self._thread is None:  # started now, so that the first task need not wait for it
            thread = threading.Thread(target=self._run, name="runwide-writer", daemon=True)
            thread.start()
            self._thread = thread
        with self._changed:
            self._changed.wait_for(lambda: self._bytes < _WAITING_BYTES or self._error is not None)
            self._raise()
            if not self._waiting:
                self._oldest = time.monotonic()
            self._waiting.append(end)
            self._bytes += end.member.value.size
            self._changed.notify_all()

    def _run(self) -> None:
        try:
            while batch := self._batch():
                self._chunks.append(batch)
                if self._stored is not None:
                    self._stored(sum(end.failure is not None for end in batch))
        except BaseException as error:
            with self._changed:
                self._error = error
                self._changed.notify_all()

    def _batch(self) -> list[Ended]:
        """Wait until results should be written and return them; at the end, return an empty list."""
        with self._changed:
            while not self._closing and self._bytes < plan.CHUNK_BYTES:
                patience = self._patience()
                if patience is not None and patience <= 0:
                    break
                self._changed.wait(patience)
            batch = self._waiting[: plan.chunk_of([end.member.value.size for end in self._waiting])]
            self._waiting = self._waiting[len(batch) :]
            self._bytes -= sum(end.member.value.size for end in batch)
            self._changed.notify_all()
            return batch

    def _patience(self) -> float | None:
        if not self._waiting:
            return None
        now = time.monotonic()
        return self._oldest + self._most_seconds - now

    def _raise(self) -> None:
        if self._error is not None:
            raise self._error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join()
        if error is None:
            self._raise()
        elif self._error is not None:
            log.error("results.lost", cause=str(self._error), items=len(self._waiting))
