"""The logs of runs, put together from their parts."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from runwide.events import lines, parts
from runwide.events.model import WorkerSums

if TYPE_CHECKING:
    from runwide.events.model import Attempt, ObjectEvent, Run
    from runwide.store.base import Store


@dataclass(slots=True)
class RunLog:
    """The events of one run, from all its parts.

    Args:
        ended: End of the run; None if it was killed.
        sums: Exact sums of each worker.
        attempts: The attempts that were written one by one.
        objects: The operations on the store.
        memory: Samples of the bytes in use in its container, each with its time.
    """

    run: Run
    ended: float | None = None
    sums: dict[int, WorkerSums] = field(default_factory=lambda: defaultdict(WorkerSums))
    attempts: list[Attempt] = field(default_factory=list)
    objects: list[ObjectEvent] = field(default_factory=list)
    memory: list[tuple[float, int]] = field(default_factory=list)

    @property
    def last(self) -> float:
        """End of the last task."""
        return max((row.last for row in self.sums.values()), default=self.run.started)

    @property
    def end(self) -> float:
        """End of the run, or its last known moment."""
        return max(self.ended or 0.0, self.last, self.run.started)

    @property
    def workers(self) -> int:
        """Number of workers."""
        return max(int(self.run.host.get("workers") or 0), len(self.sums), 1)

    def add(self, about: dict[str, Any]) -> None:
        """Add the event of one line; ignore an unknown kind, and raise one of `lines.MALFORMED` for a malformed line."""
        name = about["name"]
        if name == lines.SUMMED:
            for worker, sums in lines.read_sums(about):
                self.sums[worker].merge(sums)
        elif name == lines.SAMPLED:
            self.memory.append((lines.number(about["time"]), lines.count(about["memory"])))
        elif name == lines.RUN_ENDED:
            self.ended = lines.number(about["time"])
        elif "object" in about:
            self.objects.append(lines.read_object(about))
        else:
            self.attempts += lines.read_attempts(about, self.run.shard)


class Reader:
    """Puts parts together; malformed lines are counted and left out."""

    def __init__(self) -> None:
        self._logs: dict[tuple[int, str], RunLog] = {}
        self.unreadable = 0

    def take(self, store: Store, name: str, *, shard: int) -> None:
        """Read one part in a store; a part that cannot be read counts as one malformed line."""
        part = parts.read_part(store, name)
        if part is None:
            self.unreadable += 1
        else:
            self.read(part, shard=shard)

    def read(self, text: bytes, *, shard: int = 0) -> None:
        """Read one part. Its content is not trusted to say which shard it is of."""
        log: RunLog | None = None
        for line in text.splitlines():
            try:
                about = lines.read_line(line)
                if about["name"] == lines.RUN_STARTED:
                    run = lines.read_run(about, shard)
                    log = self._logs.setdefault((shard, run.id), RunLog(run))
                elif log is not None:
                    log.add(about)
            except lines.MALFORMED:
                self.unreadable += 1

    def runs(self) -> tuple[RunLog, ...]:
        """Return the logs by shard and time."""
        return tuple(sorted(self._logs.values(), key=lambda log: (log.run.shard, log.run.started)))
