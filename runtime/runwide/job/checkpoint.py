"""A map that runs in this container and stores its results, so that a later call resumes it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from runwide.calls import check_reduce, program_of
from runwide.job import chained, names, plan
from runwide.job._gather import gather
from runwide.job._rerun import finish_all
from runwide.job._scatter import prepare
from runwide.job.begin import open_job
from runwide.job.early import start_early
from runwide.job.given import Given
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
    """A place where a map runs: the cores of this container, with its results in a store.

    Args:
        store: The store for the job: ``gs://bucket/prefix`` or a folder.
        name: The job's name in the store; a later call with the same name resumes it. None for a new job each time.
        shards: Number of shards of a new job, for components that may resume it.
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
        """Map as `runwide.map` does, without items that have succeeded in an earlier call with the same name.

        This call's function runs on this call's items; only results are unpickled from the store.

        A job lists all its items, so results are stored after the last item has arrived. If items arrive slowly, their tasks
        start as they arrive, unless the store has a job of this name, which may have their results.
        """
        from runwide.ended import check
        from runwide.pickled import function_pickle

        check(on_error)  # an invalid value raises now and not at the end
        check_reduce(reduce, on_error)
        chosen = RunOptions.on(MAP, options)
        names.check(self.name, self.reuse)
        if isinstance(items, Sequence) or is_at_hand(items) or self._is_known():
            given = self._given(function, items, chosen, reduce)
            return self._run(full_name_of(function), given, on_error, chosen)
        pickled = function_pickle(program_of(function, chosen.initializer, chosen.initargs, reduce))
        plan.shards_of(1, self.shards)  # so does an invalid number
        job_id = prepare(pickled.data, store=self.store)
        with start_early(function, items, **options) as (inputs, tasks):
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
        """Map as `map` does, and yield results as they are stored.

        All items are read first. If the caller stops iterating, the tasks stop; stored results are kept, and with a ``name``
        a later call resumes the job.

        Args:
            function: As for `map`.
            items: As for `map`.
            ordered: Whether to yield results in the order of the items.
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
        opened = open_job(
            given, store=self.store, shards=self.shards, name=self.name, reuse=self.reuse,
            function_name=full_name_of(function),
        )  # fmt: skip
        if opened.fresh and (run_key := signing.new_run_key()):
            # so that this process can verify the results that it has stored itself
            opened = replace(opened, job=replace(opened.job, run_key=signing.of_run(run_key)))
        return StoredStream(opened, given, chosen, ordered=ordered, on_error=on_error)

    def _is_known(self) -> bool:
        """Return whether the name has a job; then all items must be there to know which of them have results."""
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
        job = open_job(
            given, store=self.store, shards=self.shards, name=self.name, reuse=self.reuse, function_name=name,
            job_id=job_id,
        ).job  # fmt: skip
        shards = finish_all(job, options, given=given, early=early)
        return gather(job.reference, shards, on_error=on_error)
