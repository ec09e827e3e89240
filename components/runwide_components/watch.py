"""How far the shards of a job are, from the store alone: one bar for all of them, and the failed items as they come."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any

from runwide.errors import IntegrityError, ObjectNotFound, StoreError
from runwide.job.manifest import read_job, shard_name
from runwide.log import Log
from runwide.spill import open_store, pack

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self

_log = Log("components")
_HEAD = 64 * 1024  # bytes of a chunk that are read at first: the index of some 800 items
_NAMED = 10  # failed items that are logged as they come
_LOG_SECONDS = 60.0


class Watch:
    """Looks at a job's chunks in the store; a context manager that keeps one bar for all shards.

    Each look is one listing, and one read for each chunk that is new. What is seen here is believed as far as it shows
    progress, and no further: nothing is unpickled.

    Args:
        job: The job's reference.
        progress: True for a bar, False for silence, None for a bar on a terminal or in a notebook and log lines elsewhere.
    """

    def __init__(self, job: str, *, progress: bool | None = None) -> None:
        self._job = read_job(job)
        self._store = open_store(self._job.uri)
        self._seen: set[str] = set()
        self._finished: set[int] = set()
        self._ended: dict[int, bool] = {}  # item -> whether it failed
        self._named = 0
        self._bar = _bar(self._job.count) if _wanted(progress) else None
        self._logs = progress is not False
        self._began = self._said = time.monotonic()

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
        return [index for index in range(self._job.shards) if index not in self._finished]

    def look(self) -> None:
        """Look once; a store that does not answer now is asked the next time."""
        try:
            for info in self._store.list("shards/"):
                self._take(info.name)
        except StoreError as error:
            _log.warning("store.silent", cause=str(error))
        self._show()

    def _take(self, name: str) -> None:
        if name in self._seen:
            return
        if name.endswith(".pack"):
            try:
                self._read(name)
            except (ObjectNotFound, IntegrityError) as error:  # the shard itself judges its chunks
                _log.warning("chunk.unreadable", uri=self._store.child_uri(name), cause=str(error))
        elif name.endswith("/shard.json"):
            index = int(name.split("/")[1])
            if name == shard_name(index):
                self._finished.add(index)
        self._seen.add(name)

    def _read(self, name: str) -> None:
        head = self._head(name)
        self._ended.update({entry.item: entry.failed for entry in head.entries})
        for failure in head.note.get("failures", []):
            self._named += 1
            if self._named <= _NAMED and self._logs:
                _log.warning(
                    "item.failed",
                    item=failure["index"],
                    cause=f"{failure['type']}: {failure['message']}"[:500],
                )

    def _head(self, name: str) -> Any:
        bound = {"job": self._job.digest, "slot": name, "uri": self._store.child_uri(name)}
        try:
            return pack.read_head(self._store.read(name, length=_HEAD), **bound)
        except IntegrityError:  # it is shorter than that, or its head is longer
            return pack.read_head(self._store.read(name), **bound)

    def _show(self) -> None:
        if self._bar is not None:
            self._bar.update(self.done - self._bar.n)
            self._bar.set_postfix(
                shards=f"{len(self._finished)}/{self._job.shards}",
                **({"failed": self.failed} if self.failed else {}),
            )
        elif self._logs and time.monotonic() - self._said > _LOG_SECONDS:
            self._said = time.monotonic()
            _log.info(
                "job.progressed",
                job=self._job.id, done=self.done, total=self._job.count, failed=self.failed,
                shards=len(self._finished), seconds=round(self._said - self._began),
            )  # fmt: skip

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.close()
        self._store.close()


def _wanted(progress: bool | None) -> bool:  # noqa: FBT001 - three states, as everywhere
    return progress or (progress is None and (sys.stderr.isatty() or "ipykernel" in sys.modules))


def _bar(total: int) -> Any:
    from tqdm.auto import tqdm

    return tqdm(total=total, unit="item", file=sys.stderr, dynamic_ncols=True)
