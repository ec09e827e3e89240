"""How far the shards of a job are, item by item, from the store alone."""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING, Any

from runwide.errors import FormatTooNew, FrameCorrupt, IntegrityError, StoreError
from runwide.job.failed import failure_from_json
from runwide.job.manifest import read_job, shard_name
from runwide.log import Log
from runwide.spill import pack
from runwide.spill.store import open_inside
from runwide.spill.verified import ABSENT

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self

    from runwide.records import Failure

log = Log("job")

_MANIFEST = re.compile(r"shards/(\d{1,9})/shard\.json")
_LARGEST_HEAD = 64 << 20  # bytes
_HEAD = 64 * 1024  # bytes of a chunk that are read at first: the index of some 800 items


class Progress:
    """Looks at a job's chunks in the store; a context manager.

    Each look is one listing, and one read for each chunk that is new. What is seen here is believed as far as it shows
    progress, and no further: nothing is unpickled.

    Args:
        job: The job's reference.
        run_key: As for `runwide.job.shard`.

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
        """How many items have ended."""
        return len(self._ended)

    @property
    def failed(self) -> int:
        """How many of them have failed."""
        return sum(self._ended.values())

    @property
    def unfinished(self) -> list[int]:
        """The shards that have not finished."""
        return [index for index in range(self.about.shards) if index not in self._finished]

    def by_shard(self) -> list[tuple[int, int]]:
        """How many items have ended in each shard that has not finished, and how many it has."""
        ended = Counter(map(self.about.shard_of, self._ended))
        return [(ended[index], len(self.about.items_of(index))) for index in self.unfinished]

    def look(self) -> list[Failure]:
        """Look once; a store that does not answer now is asked the next time.

        Returns:
            The failures that are new.
        """
        found: list[Failure] = []
        try:
            for info in self._store.list("shards/"):
                found += self._take(info.name)
        except (StoreError, IntegrityError) as error:
            log.warning("store.silent", cause=str(error))
        return found

    def _take(self, name: str) -> list[Failure]:
        if name in self._seen:
            return []
        found: list[Failure] = []
        if name.endswith(".pack"):
            try:
                found = self._read(name)
            except (
                *ABSENT,
                IntegrityError,
                FormatTooNew,
            ) as error:  # the shard itself judges its chunks
                log.warning("chunk.unreadable", uri=self._store.child_uri(name), cause=str(error))
        elif match := _MANIFEST.fullmatch(name):
            index = int(match[1])
            if name == shard_name(index):
                self._finished.add(index)
        self._seen.add(name)
        return found

    def _read(self, name: str) -> list[Failure]:
        head = self._head(name)
        try:
            failures = [failure_from_json(row) for row in head.note["failures"]]
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise FrameCorrupt(f"the chunk's notes make no sense ({error})") from error
        self._ended.update(
            {entry.item: entry.failed for entry in head.entries if 0 <= entry.item < self.about.count}
        )
        return failures

    def _head(self, name: str) -> pack.Head:
        wanted: dict[str, Any] = {
            "job": self.about.digest, "slot": name, "uri": self._store.child_uri(name),
            "run_key": self.about.run_key, "vouched": True,
        }  # fmt: skip
        try:
            data = self._store.read(name, length=_HEAD)
        except IntegrityError:  # it is shorter than that
            return pack.read_head(self._store.read(name, most=_HEAD), **wanted)
        size = pack.head_size(data, uri=wanted["uri"])
        if size > _LARGEST_HEAD:
            raise FrameCorrupt(f"the chunk's head has {size} bytes, more than any", uri=wanted["uri"])
        return pack.read_head(data if size <= _HEAD else self._store.read(name, length=size), **wanted)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._store.close()
