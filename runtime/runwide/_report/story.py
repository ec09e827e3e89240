"""The facts from which a report is made."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from runwide.job.machines import Ran

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from runwide.events.model import Attempt
    from runwide.events.reading import RunLog
    from runwide.records import Failure


@dataclass(frozen=True, slots=True)
class Story:
    """The facts about a job or a map.

    Args:
        title: Id of the job, or a name.
        function: Name of the function.
        items: Number of items.
        shards: Number of shards.
        finished: Number of shards that have finished.
        runs: Events of the runs, by shard and time.
        failures: Failed items of the shards that have finished, with tracebacks.
        uri: URI of the job; empty for a map.
        reference: Reference of the job; empty for a map.
        ran: Machines on which the shards ran, if known.
        created: Time at which the job was made; empty if unknown.
        environment: Versions of the program that made the job.
        unreadable: Number of lines of events that could not be read.
        name: Name that the call gave the job; empty if none.
        inputs: Failed items as text, by index, as far as they are small and plain data.
        previous: The last job of the same name before this one, if there is one.
    """

    title: str
    function: str
    items: int
    shards: int
    finished: int
    runs: tuple[RunLog, ...]
    failures: tuple[Failure, ...] = ()
    uri: str = ""
    reference: str = ""
    ran: Ran = Ran()  # noqa: RUF009 - frozen
    created: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)
    unreadable: int = 0
    name: str = ""
    inputs: Mapping[int, str] = field(default_factory=dict)
    previous: Story | None = None


def last_attempts(runs: Iterable[RunLog]) -> dict[int, Attempt]:
    """Return the last attempt at each item that events record singly."""
    last: dict[int, Attempt] = {}
    for log in runs:
        for attempt in log.attempts:
            before = last.get(attempt.item)
            if before is None or attempt.time >= before.time:
                last[attempt.item] = attempt
    return last
