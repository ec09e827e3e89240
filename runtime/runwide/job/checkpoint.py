"""A map that runs here and keeps its results in a store meanwhile, so that it goes on where it was killed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from runwide.job import names, plan
from runwide.job.begin import begin
from runwide.job.early import early
from runwide.job.gather import gather
from runwide.job.given import Given
from runwide.job.scatter import prepared
from runwide.job.shard import finished
from runwide.naming import full_name_of
from runwide.pool.feeding import is_at_hand
from runwide.pool.whole import no_items
from runwide.sigterm import leaves_on_sigterm

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from os import PathLike


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The cores of this container with a store behind them, as the place where a map runs.

    Args:
        store: Where the job goes: ``gs://bucket/prefix`` or a folder.
        name: Names the job in the store: a call with the same name goes on with it. None for a new job each time.
        shards: Into how many parts a new job is divided, for components that may go on with it.
        reuse: As for `runwide.map`.

    Example:
        >>> place = Checkpoint("memory://doc-checkpoint", "squares")
        >>> place.map(lambda x: x * x, [1, 2, 3], workers=1)
        [1, 4, 9]
    """

    store: str | PathLike[str]
    name: str | None = None
    shards: int = 1
    reuse: str | None = None

    def map(
        self, function: Callable[[Any], Any], items: Iterable[Any], *, on_error: str = "raise", **options: Any
    ) -> list[Any]:
        """As `runwide.map`; what has succeeded in an earlier call of the same name is not run again.

        What is run is this call's function on this call's items. Of the store, results are all that is unpickled.

        A job names all its items, so results are stored once these are there. Items that take time to come are started as
        they come, unless the store has a job of the name whose results may be theirs.
        """
        from runwide.ended import raise_or_return
        from runwide.pickled import function_pickle

        raise_or_return([], on_error)  # a wrong word is said now, not at the end
        names.check(self.name, self.reuse)
        pickled = function_pickle(function)
        if isinstance(items, Sequence) or is_at_hand(items) or self._is_known():
            with leaves_on_sigterm():
                inputs = items if isinstance(items, Sequence) else list(items)
            if not inputs:
                raise no_items()
            return self._run(full_name_of(function), Given(pickled, inputs, function), on_error, **options)
        plan.bounds(1, self.shards)  # a wrong number is an error now, too
        job_id = prepared(pickled.data, store=self.store)
        with early(function, items, **options) as (inputs, tasks):
            given = Given(pickled, inputs, function)
            return self._run(full_name_of(function), given, on_error, job_id=job_id, early=tasks, **options)

    def _is_known(self) -> bool:
        """Whether the name has a job: which of its items need not be run is not known before all are there."""
        return self.name is not None and self.reuse != names.NOTHING and names.is_known(self.store, self.name)

    def _run(
        self, name: str, given: Given, on_error: str, *, job_id: str | None = None, **options: Any
    ) -> list[Any]:
        job = begin(
            given, store=self.store, shards=self.shards, name=self.name, reuse=self.reuse, function_name=name,
            job_id=job_id,
        ).job  # fmt: skip
        shards = [finished(job, index, given=given, **options) for index in range(job.shards)]
        return gather(job.reference, shards, on_error=on_error)
