"""Follow the progress of a job's shards, item by item, from the store alone."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from runwide.errors import FormatTooNew, FrameCorrupt, IntegrityError, StoreError
from runwide.job.fields import failure_from_json
from runwide.job.manifest import read_job
from runwide.job.model import manifests_in
from runwide.job.reading import read_head
from runwide.log import Log
from runwide.store.base import open_inside
from runwide.store.records import ABSENT

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self

    from runwide.records import Failure

log = Log("job")


class Progress:
    """Looks at a job's chunks in the store; a context manager.

    Each look takes one listing, and one read for each new chunk. The chunks are only used to show progress, and nothing is
    unpickled.

    Example:
        >>> job = runwide.scatter(abs, [-1, -2, -3, -4], store="memory://doc-progress", shards=2)
        >>> reference = runwide.shard(job, 0, workers=1)
        >>> with Progress(job) as progress:
        ...     failures = progress.look()
        ...     progress.done, progress.unfinished
        (2, [1])
    """

    def __init__(self, job: str, *, run_key: str | None = None) -> None:
        self.about = read_job(job, run_key=run_key)
        self._store = open_inside(self.about.uri)
        self._seen: set[str] = set()
        self._finished: set[int] = set()
        self._ended: dict[int, bool] = {}  # item -> whether it failed

    @property
    def done(self) -> int:
        """Number of items that have ended."""
        return len(self._ended)

    @property
    def failed(self) -> int:
        """Number of items that have failed."""
        return sum(self._ended.values())

    @property
    def unfinished(self) -> list[int]:
        """The shards that have not finished."""
        return [index for index in range(self.about.shards) if index not in self._finished]

    def by_shard(self) -> list[tuple[int, int]]:
        """Return for each unfinished shard how many of its items have ended, and how many items it has."""
        ended = Counter(map(self.about.shard_of, self._ended))
        return [(ended[index], len(self.about.items_of(index))) for index in self.unfinished]

    def look(self) -> list[Failure]:
        """Look at the store once, and return the new failures; if it does not answer, the next look asks again."""
        found: list[Failure] = []
        try:
            names = [info.name for info in self._store.list("shards/")]
            for name in names:
                found += self._take(name)
            self._finished |= manifests_in(names).keys()
        except (StoreError, IntegrityError) as error:
            log.warning("store.silent", cause=str(error))
        return found

    def _take(self, name: str) -> list[Failure]:
        """Read an object if it is a new chunk, and return the failures in it."""
        if name in self._seen:
            return []
        found = self._read(name) if name.endswith(".pack") else []
        self._seen.add(name)
        return found

    def _read(self, name: str) -> list[Failure]:
        try:
            head = read_head(self._store, self.about, name)
            try:
                failures = [failure_from_json(row) for row in head.note["failures"]]
            except (KeyError, TypeError, ValueError, AttributeError) as error:
                raise FrameCorrupt(f"the chunk's record of failures is invalid ({error})") from error
        except (*ABSENT, IntegrityError, FormatTooNew) as error:  # the shard itself decides about its chunks
            log.warning("chunk.unreadable", uri=self._store.child_uri(name), cause=str(error))
            return []
        self._ended.update(
            {entry.item: entry.failed for entry in head.entries if 0 <= entry.item < self.about.count}
        )
        return failures

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._store.close()
