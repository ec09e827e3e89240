"""`Components`: the value of ``on=`` that runs a map as parallel components of one run."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from runwide import outcomes
from runwide.api.functions import check_reduce, program_of
from runwide.cli.requirements import text_of
from runwide.job import gather, status
from runwide.job.lookup import find_job
from runwide.job.manifest import read_job
from runwide.job.named_jobs import scatter_or_find
from runwide.log import Log
from runwide.options.record import COMPONENTS, SUBMIT, Options, RunOptions, TaskOptions
from runwide.options.signatures import taking
from runwide.store import signing
from runwide_components import streaming
from runwide_components.checks import checked_count, checked_store, shared_store, warn_of_secrets
from runwide_components.configuration import StepConfiguration
from runwide_components.engines.base import checked_engine
from runwide_components.engines.local import Local
from runwide_components.engines.step_options import StepOptions, check_step_options
from runwide_components.image import checked_image
from runwide_components.recorded import Place, last_record
from runwide_components.resources import Resources
from runwide_components.runs import ended, rejoin, start, still_going
from runwide_components.steps import JobOptions
from runwide_components.streaming import Streamed, Submitted

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from typing_extensions import Unpack

    from runwide_components.engines.base import Run, ShardRunner

_log = Log("components")


class Components:
    """Parallel components of one run, which run a map.

    The client spills the items, the engine runs the shards at the same time, and the client reads the results. Finished work
    is never lost: an error names the job and how to continue it, and after a client was killed or lost its connection,
    ``runwide.attach(job)`` follows the job.

    Args:
        components: The number of components.
        store: Store for the job: ``gs://bucket/prefix`` or a folder that all components can write; None for
            ``RUNWIDE_STORE``.
        engine: The engine that runs the components; None for `Local`.
        image: Image of the components; None for `base_image`.
        parallelism: The largest number of components at the same time; None for all.
        cpu: CPUs of each component, such as ``"8"``; None for the engine's default.
        memory: Memory of each component, such as ``"32G"``.
        accelerator: Type and number of accelerators of each component, such as ``("NVIDIA_L4", 1)``.
        machine_type: Machine of each component by its name, on `Vertex`; see `fan_out`.
        spot: True for Spot capacity.
        shard_retries: The number of restarts of a component that failed; see `fan_out`.
        as_step: Function that turns the step of a shard into another step.
        env: Variables of the components, texts and numbers; see `fan_out` for this and the following.
        secrets: Variables that are read from Secret Manager, or from Kubernetes secrets.
        labels: Labels of the run, of CustomJobs and of pods.
        node_selector: Labels that nodes must have, on `Kubeflow`.
        tolerations: Taints that nodes may have, on `Kubeflow`.
        service_account: The service account of the components.
        code: Code of the program that travels besides the modules that the function imports; see `fan_out`.
        progress: True for a bar over all items, False for none, None for a bar on a terminal or in a notebook and log
            lines elsewhere.
        requirements: Packages that each component installs with pip before it starts; see `fan_out`.

    Raises:
        InputError: An option is invalid, or there is no store.

    Example:
        >>> import tempfile, runwide
        >>> with tempfile.TemporaryDirectory() as store:
        ...     place = Components(2, store=store, engine=Local("subprocess"))
        ...     runwide.map(lambda x: x * x, [1, 2, 3], on=place)
        [1, 4, 9]
    """

    def __init__(
        self,
        components: int,
        *,
        store: str | os.PathLike[str] | None = None,
        engine: ShardRunner | None = None,
        image: str | None = None,
        parallelism: int | None = None,
        cpu: str | None = None,
        memory: str | None = None,
        accelerator: tuple[str, int] | None = None,
        machine_type: str | None = None,
        spot: bool = False,
        shard_retries: int = 0,
        as_step: Callable[[Any], Any] | None = None,
        env: Mapping[str, Any] | None = None,
        secrets: Mapping[str, Any] | None = None,
        labels: Mapping[str, str] | None = None,
        node_selector: Mapping[str, str] | None = None,
        tolerations: Iterable[Mapping[str, Any]] | None = None,
        service_account: str | None = None,
        code: Sequence[str] = (),
        progress: bool | None = None,
        requirements: Any = None,
    ) -> None:
        self.components = checked_count(components)
        self.store = shared_store(checked_store(store))
        resources = Resources(
            cpu=cpu, memory=memory, accelerator=accelerator, machine_type=machine_type, spot=spot,
            retries=shard_retries, as_step=as_step,
        )  # fmt: skip
        self.configuration = StepConfiguration.of(
            env=env, secrets=secrets, labels=labels, node_selector=node_selector, tolerations=tolerations,
            service_account=service_account,
        )  # fmt: skip
        warn_of_secrets("env", env or {})
        warn_of_secrets("label", labels or {})
        self.place = Place(checked_engine(engine) or Local(), checked_image(image), parallelism, resources)
        self.code = code
        self.progress = progress
        self.requirements = text_of(requirements)

    def __repr__(self) -> str:
        return f"Components({self.components}, store={self.store!r}, engine={self.place.engine!r})"

    def check(self) -> None:
        """Check that the engine can run the components. `map` and `submit` do so before they write anything.

        Raises:
            InputError: The engine cannot pull the image, reach the store or support an option; or code that ``code=`` names
                is missing.
        """
        from runwide.code.finding import asked_for  # slow to load

        asked_for(self.code)
        self.place.resources.check(self.configuration)
        custom_job = self.place.resources.machine_type is not None
        check_step_options(
            self.place.engine, StepOptions.of_configuration(self.configuration, custom_job=custom_job)
        )
        if (examine := getattr(self.place.engine, "examine", None)) is not None:
            examine(None, {}, stores=[self.store], images=[self.place.image])

    @taking(Options, COMPONENTS)
    def map(
        self,
        function: Callable[[Any], Any],
        items: Iterable[Any],
        *,
        on_error: str = "raise",
        name: str | None = None,
        reuse: str | None = None,
        reduce: Callable[[Any, Any], Any] | None = None,
        **options: Unpack[Options],
    ) -> Any:
        """Run a map, as `runwide.map` does, whose ``on=`` calls this.

        On a terminal, Ctrl-C asks whether to cancel the components or to let them continue. With ``on_error="return"``, a
        component that failed permanently gives a `runwide.Failure` for each result that it did not store. With a ``name``,
        the same call again runs only failed and unfinished items. With ``reuse``, a run that an earlier call started is not
        stopped.

        ``on_event`` is called on this thread as the components store parts of their logs: after some 30 seconds, or 5 % of
        their running time if that is more, and at their end. An item gives a single event at the end if its component was
        killed, or if its job has more than 10⁶ items, which are not logged one by one: with its index, name, kind, detail
        and attempts; its worker, pid and seconds are 0. Results of an earlier run give no events.

        Args:
            function: A function of one item.
            items: At least one.
            on_error: As for `runwide.map`.
            name: As for `runwide.map`.
            reuse: As for `runwide.map`.
            reduce: Associative function that combines two results into one. The components combine their results, then those
                of each other, and one value is returned.
            **options: As in `runwide.options.record.Options`.

        Raises:
            FunctionChanged: The job of that name has another function, and ``reuse`` is None.
            InputError: The job of that name has other items.
            StepFailed: A component ended with an error that is not an item's.
            TooManyFailures: More than ``max_failures`` items failed; the other components were cancelled.
            EngineError: The engine cannot be reached, or refused.
        """
        chosen = RunOptions.on(COMPONENTS, options)
        submitted = self.submitted(
            function, items, chosen, name=name, reuse=reuse, on_error=on_error, reduce=reduce
        )
        shards = self.manifests(submitted, chosen, on_error)
        return gather(submitted.job, shards, on_error=on_error, run_key=submitted.run_key)

    def manifests(self, submitted: Submitted, options: RunOptions, on_error: str) -> list[str] | None:
        """Wait for a run, and return the manifests of its shards, if all shards ran now and the engine reports them.

        Args:
            submitted: The job and its run.
            options: Options of the map.
            on_error: As for `map`.
        """
        job, run = submitted.job, submitted.run
        if run is None:
            return None
        found = ended(
            job, run, on_error=on_error, run_key=submitted.run_key, fresh=submitted.fresh, limit=submitted.limit,
            progress=self.progress if options.progress is None else options.progress, on_event=options.on_event,
        )  # fmt: skip
        return found if found and len(found) == read_job(job).shards else None

    @taking(Options, COMPONENTS)
    def stream(
        self,
        function: Callable[[Any], Any],
        items: Iterable[Any],
        *,
        ordered: bool = True,
        on_error: str = "raise",
        name: str | None = None,
        reuse: str | None = None,
        **options: Unpack[Options],
    ) -> Streamed:
        """Run a map, and yield each result as soon as a component stored it.

        This call spills all items and starts the components, so the input must end, and items may not depend on results.
        Results are looked for every 2 to 30 seconds, more often in a folder. They are read a few chunks at a time, while the
        loop waits for them. Leaving the loop, closing the iterator, Ctrl-C or SIGTERM cancels the components, unless there
        is a ``name``: then the same call again yields stored results at once, and runs no successful item again.

        Args:
            function: As for `map`.
            items: As for `map`.
            ordered: True to yield results in the order of the items. Results that wait for an earlier one are in memory up
                to 256 MiB, and beyond that in temporary files (``RUNWIDE_SCRATCH``).
            on_error: ``"raise"`` the exception of a failed item when its turn comes, which ends the iteration; or
                ``"return"`` a `runwide.Failure` instead of its result.
            name: As for `map`.
            reuse: As for `map`.
            **options: As in `runwide.options.record.Options`.

        Raises:
            StepFailed: A component ended with an error that is not an item's; stored results come first.
            EngineError: As for `map`.
            JobIncomplete: Results were removed from the store.

        Example:
            >>> import tempfile
            >>> with tempfile.TemporaryDirectory() as store:
            ...     place = Components(2, store=store, engine=Local("subprocess"))
            ...     for square in place.stream(lambda x: x * x, [1, 2, 3]):
            ...         print(square)
            1
            4
            9
        """
        chosen = RunOptions.on(COMPONENTS, options)
        return streaming.stream(
            self, function, items, chosen, ordered=ordered, on_error=on_error, name=name, reuse=reuse
        )

    @taking(TaskOptions, SUBMIT)
    def submit(
        self,
        function: Callable[[Any], Any],
        items: Iterable[Any],
        *,
        name: str | None = None,
        reuse: str | None = None,
        on_error: str = "raise",
        **options: Unpack[TaskOptions],
    ) -> tuple[str, Run | None]:
        """Spill a map and start its shards; of a job that exists already, shards that are not finished or have failures.

        Args:
            function: As for `map`.
            items: As for `map`.
            name: As for `runwide.map`.
            reuse: As for `runwide.map`.
            on_error: As for `map`, for the later gather.
            **options: As in `runwide.options.record.TaskOptions`.

        Returns:
            The job's reference, and the run of its shards; None if no shard is left to run.
        """
        chosen = RunOptions.on(SUBMIT, options)
        submitted = self.submitted(function, items, chosen, name=name, reuse=reuse, on_error=on_error)
        return submitted.job, submitted.run

    def submitted(
        self,
        function: Callable[[Any], Any],
        items: Iterable[Any],
        options: RunOptions,
        *,
        name: str | None,
        reuse: str | None,
        on_error: str,
        reduce: Callable[[Any, Any], Any] | None = None,
    ) -> Submitted:
        """Spill a map and start its shards, as `submit` does; return the job with its run."""
        outcomes.check_on_error(on_error)
        check_reduce(reduce, on_error)
        self.check()
        program = program_of(function, options.initializer, options.initargs, reduce)
        found = scatter_or_find(
            program, items, store=self.store, shards=self.components, name=name, reuse=reuse, whole=self.code
        )
        job, engine = found.job.reference, self.place.engine
        chosen = JobOptions(
            options.but(initializer=None, initargs=(), progress=None, on_event=None),
            on_error=on_error, configuration=self.configuration, requirements=self.requirements,
        ).for_new_attempt()  # fmt: skip
        if name is not None and (going := still_going(job, engine)) is not None:
            theirs = last_record(job).options
            if theirs.run != chosen.run:
                cause = "its options are those of the call that started it"
                _log.warning("run.joined", job=job, run=going.id, cause=cause)
            return Submitted(job, going, None, fresh=False, limit=theirs.accepted)
        limit = chosen.accepted
        if found.fresh:
            run_key = signing.new_run_key()
            run = start(job, range(found.job.shards), self.place, chosen, run_key)
            return Submitted(job, run, run_key, fresh=True, limit=limit)
        # earlier results were signed with the key of another run, which is gone
        shards = status(job).shards
        wanted = [shard.index for shard in shards if shard.failed or not shard.finished]
        # a shard that was killed may have stored failures, which only its chunks show
        again = any(shard.failed or (shard.chunks and not shard.finished) for shard in shards)
        chosen = replace(chosen, rerun_failed=again)
        run_again = start(job, wanted, self.place, chosen) if wanted else None
        return Submitted(job, run_again, None, fresh=False, limit=limit)


def attach(
    job: str,
    *,
    engine: ShardRunner | None = None,
    image: str | None = None,
    on_error: str = "raise",
    progress: bool | None = None,
    timeout: float | None = None,
    requirements: Any = None,
    store: str | None = None,
) -> list[Any]:
    """Return the results of a job that this or another client started; see `runwide.attach`."""
    found = find_job(job, store)
    shards = rejoin(
        found.reference, vouched=found.vouched, engine=engine, image=image, progress=progress, timeout=timeout,
        on_error=on_error, requirements=requirements,
    )  # fmt: skip
    return gather(found.reference, shards, on_error=on_error)
