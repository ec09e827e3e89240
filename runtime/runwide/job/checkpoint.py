"""A map that runs here and keeps its results in a store meanwhile, so that it goes on where it was killed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from runwide.calls import check_reduce, program_of
from runwide.job import chained, names, plan
from runwide.job.begin import begin
from runwide.job.early import early
from runwide.job.gather import gather
from runwide.job.given import Given
from runwide.job.rerun import finished_all
from runwide.job.scatter import prepared
from runwide.naming import full_name_of
from runwide.options import MAP, Options, RunOptions
from runwide.pool.feeding import is_at_hand
from runwide.pool.whole import no_items
from runwide.sigterm import leaves_on_sigterm
from runwide.spill import signing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from os import PathLike

    from typing_extensions import Unpack

    from runwide.job.early import Early
    from runwide.job.streamed import StoredStream


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
        self,
        function: Callable[[Any], Any],
        items: Iterable[Any],
        *,
        on_error: str = "raise",
        reduce: Callable[[Any, Any], Any] | None = None,
        **options: Unpack[Options],
    ) -> Any:
        """As `runwide.map`; what has succeeded in an earlier call of the same name is not run again.

        What is run is this call's function on this call's items. Of the store, results are all that is unpickled.

        A job names all its items, so results are stored once these are there. Items that take time to come are started as
        they come, unless the store has a job of the name whose results may be theirs.
        """
        from runwide.ended import check
        from runwide.pickled import function_pickle

        check(on_error)  # a wrong word is said now, not at the end
        check_reduce(reduce, on_error)
        chosen = RunOptions.on(MAP, options)
        names.check(self.name, self.reuse)
        if isinstance(items, Sequence) or is_at_hand(items) or self._is_known():
            given = self._given(function, items, chosen, reduce)
            return self._run(full_name_of(function), given, on_error, chosen)
        pickled = function_pickle(program_of(function, chosen.initializer, chosen.initargs, reduce))
        plan.shards_of(1, self.shards)  # a wrong number is an error now, too
        job_id = prepared(pickled.data, store=self.store)
        with early(function, items, **options) as (inputs, tasks):
            given = Given(pickled, inputs, function, reduce=reduce)
            return self._run(full_name_of(function), given, on_error, chosen, job_id=job_id, early=tasks)

    def stream(
        self,
        function: Callable[[Any], Any],
        items: Iterable[Any],
        *,
        ordered: bool,
        on_error: str = "raise",
        **options: Unpack[Options],
    ) -> StoredStream:
        """As `map`, but yields results as they are stored.

        All items are taken first. Who stops iterating stops the tasks; what is stored is kept, and with a ``name`` a later
        call goes on with it.

        Args:
            function: As for `map`.
            items: As for `map`.
            ordered: Whether results come in the order of the items.
            on_error: ``"raise"`` a failed item's exception when its turn comes, or ``"return"`` a `runwide.Failure`.
            **options: As in `runwide.options.Options`.

        Example:
            >>> list(Checkpoint("memory://doc-streamed").stream(abs, [-1, -2], ordered=True, workers=1))
            [1, 2]
        """
        from runwide.ended import check
        from runwide.job.streamed import StoredStream

        check(on_error)
        chosen = RunOptions.on(MAP, options)
        given = self._given(function, items, chosen)
        found = begin(
            given, store=self.store, shards=self.shards, name=self.name, reuse=self.reuse,
            function_name=full_name_of(function),
        )  # fmt: skip
        if found.fresh and (run_key := signing.new_run_key()):
            # what this process stores, it knows again when it reads it
            found = replace(found, job=replace(found.job, run_key=signing.of_run(run_key)))
        return StoredStream(found, given, chosen, ordered=ordered, on_error=on_error)

    def _is_known(self) -> bool:
        """Whether the name has a job: which of its items need not be run is not known before all are there."""
        return self.name is not None and self.reuse != names.NOTHING and names.is_known(self.store, self.name)

    def _given(
        self,
        function: Callable[[Any], Any],
        items: Iterable[Any],
        options: RunOptions,
        reduce: Callable[[Any, Any], Any] | None = None,
    ) -> Given:
        from runwide.pickled import function_pickle

        pickled = function_pickle(program_of(function, options.initializer, options.initargs, reduce))
        with leaves_on_sigterm():
            inputs = chained.inputs(items, self.store)
        if not len(inputs):
            raise no_items()
        return Given(pickled, inputs, function, reduce=reduce)

    def _run(
        self,
        name: str,
        given: Given,
        on_error: str,
        options: RunOptions,
        *,
        job_id: str | None = None,
        early: Early | None = None,
    ) -> Any:
        job = begin(
            given, store=self.store, shards=self.shards, name=self.name, reuse=self.reuse, function_name=name,
            job_id=job_id,
        ).job  # fmt: skip
        shards = finished_all(job, options, given=given, early=early)
        return gather(job.reference, shards, on_error=on_error)
