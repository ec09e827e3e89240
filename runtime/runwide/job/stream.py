"""Read the results of a job while its shards run, as they are stored."""

from __future__ import annotations

from typing import TYPE_CHECKING

from runwide.job import code, environment
from runwide.job.arriving import Arrivals
from runwide.job.decoded import outcome
from runwide.job.turns import Turns
from runwide.spill.store import open_inside

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import TracebackType

    from typing_extensions import Self

    from runwide.job.chunk_reads import Loaded
    from runwide.job.model import Job
    from runwide.records import Outcome

_BUDGET = 256 << 20  # bytes of chunks with results of later items in memory; more are in files


class Stream:
    """The outcomes of a job's items as they are stored, each once; a context manager.

    Args:
        job: The job, with the run's key, if it has one.
        ordered: Whether to yield outcomes in the order of the items.
        again: Whether shards may run failed items again. Then a failed item is yielded when its shard has finished.
        on_log: As for `Arrivals`.
        budget: Bytes of chunks with results of later items in memory; more are in temporary files.

    Example:
        >>> from runwide.job.manifest import read_job
        >>> job = runwide.scatter(abs, [-1, -2, -3], store="memory://doc-stream", shards=2)
        >>> with Stream(read_job(job)) as stream:
        ...     nothing = list(stream.look())
        ...     references = [runwide.shard(job, index, workers=1) for index in range(2)]
        ...     sorted(one.value for one in stream.look())
        [1, 2, 3]
    """

    def __init__(
        self,
        job: Job,
        *,
        ordered: bool = False,
        again: bool = False,
        on_log: Callable[[str], None] | None = None,
        budget: int = _BUDGET,
    ) -> None:
        environment.warn(job.environment, uri=job.uri)
        self.job = job
        self.store = open_inside(job.uri)
        self.arrivals = Arrivals(self.store, job, again=again, on_log=on_log)
        self._late = code.Late(self.store, job)
        self._turns = Turns(budget) if ordered else None

    def look(self, *, over: bool = False) -> Iterator[Outcome]:
        """Look at the store once, and yield the outcomes that are new; see `Arrivals.look`."""
        for loaded in self.arrivals.look(over=over):
            if self._turns is None:
                yield from self._outcomes(loaded)
            else:
                self._turns.put(loaded)
                del loaded
                yield from self._due(self._turns)

    def _outcomes(self, loaded: Loaded) -> Iterator[Outcome]:
        view = memoryview(loaded.data)
        for entry in loaded.entries:
            frame, failure = view[entry.offset : entry.stop], loaded.failures.get(entry.item)
            yield outcome(frame, entry.item, self.job, failure, loaded.uri, late=self._late)
            del frame

    def _due(self, turns: Turns) -> Iterator[Outcome]:
        for one in turns.due():
            yield outcome(one.frame, one.item, self.job, one.failure, one.uri, late=self._late)
            del one

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._turns is not None:
            self._turns.close()
        self.store.close()
