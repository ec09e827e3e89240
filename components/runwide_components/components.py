"""`Components`: the place for ``runwide.map(on=…)`` where each shard is a component of a pipeline run."""

from __future__ import annotations

import operator
import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from runwide import settings
from runwide.calls import check_reduce, program_of
from runwide.cli.requirements import text_of
from runwide.ended import check as ended_check
from runwide.errors import InputError
from runwide.job import gather, status
from runwide.job.begin import begun_or_found
from runwide.job.found import found as found_job
from runwide.job.manifest import read_job
from runwide.log import Log
from runwide.options import COMPONENTS, SUBMIT, Options, RunOptions, TaskOptions
from runwide.redaction import shortened
from runwide.signatures import taking
from runwide.spill import signing
from runwide.spill.store import without_fields
from runwide_components import streaming
from runwide_components.configuration import StepConfiguration
from runwide_components.engines.asked import Asked, check_asked
from runwide_components.engines.local import Local
from runwide_components.image import base_image
from runwide_components.recorded import Place, last_record
from runwide_components.resources import Resources
from runwide_components.runs import ended, rejoin, start, still_going
from runwide_components.secret_warning import warn_of_secrets
from runwide_components.steps import JobOptions
from runwide_components.streaming import Streamed, Submitted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from typing_extensions import Unpack

    from runwide_components.engines.base import Engine, Run


def checked_count(components: Any) -> int:
    """Return a number of components as an int.

    Args:
        components: What was given.

    Raises:
        InputError: It is not a whole number of 1 or more.

    Example:
        >>> checked_count(4)
        4
        >>> checked_count("4")
        Traceback (most recent call last):
        runwide.errors.InputError: components='4' is a str, not a whole number; give it without quotes, such as Components(4)
    """
    try:
        count = None if isinstance(components, bool) else operator.index(components)
    except TypeError:
        count = None
    if count is None:
        text = isinstance(components, str)
        quotes = "without quotes, such as Components(4)" if text else "as an int, such as Components(4)"
        raise InputError(
            f"components={shortened(repr(components), 100)} is a {type(components).__name__}, not a whole number",
            hint=f"give it {quotes}",
        )
    if count < 1:
        raise InputError(f"invalid components={count}: expected 1 or more", hint="give 1 or more")
    return count


_log = Log("components")


class Components:
    """Parallel components of one pipeline run, as the place where a map runs.

    The items are spilled here, the shards run through the engine at the same time, and the results are read back
    here. Nothing that finished is lost: an error names the job and how to go on with it, and a client that was killed, or
    lost its connection, is followed by ``runwide.attach(job)``.

    Args:
        components: How many.
        store: Where the job goes: ``gs://bucket/prefix`` or a folder that all components see; ``RUNWIDE_STORE``
            where None.
        engine: What runs the pipeline; `Local` where None.
        image: Image of the steps; `base_image` where None.
        parallelism: How many may run at the same time; None for all.
        cpu: CPUs of each component, such as ``"8"``; None for the engine's default.
        memory: Memory of each component, such as ``"32G"``.
        accelerator: Type and number of accelerators of each component, such as ``("NVIDIA_L4", 1)``.
        machine_type: Machine of each component by its name, on `Vertex`; see `fan_out`.
        spot: Whether these are Spot capacity.
        shard_retries: How often the engine starts a component again that failed; see `fan_out`.
        as_step: Makes another step of the one that runs a shard.
        env: Variables of the components, texts and numbers; this and the following are as for `fan_out`.
        secrets: Variables that are read from Secret Manager, or from Kubernetes secrets.
        labels: Labels of the run, of CustomJobs and of pods.
        node_selector: Labels that nodes must have, on `Kubeflow`.
        tolerations: Taints that nodes may have, on `Kubeflow`.
        service_account: The account that the components run as.
        code: Own code that travels beside the modules that the function imports; see `fan_out`.
        progress: True for a bar over all items, False for silence, None for a bar on a terminal or in a notebook and log
            lines elsewhere.
        requirements: What each component installs with pip before it begins; see `fan_out`.

    Raises:
        InputError: The number is not a whole number of 1 or more, or there is no store.

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
        engine: Engine | None = None,
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
        self.store = without_fields(os.fspath(store or settings.read().store or ""))
        if not self.store:
            raise InputError("there is no store", hint='give store="gs://bucket/runs", or set RUNWIDE_STORE')
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
        self.place = Place(engine or Local(), image or base_image(), parallelism, resources)
        self.code = code
        self.progress = progress
        self.requirements = text_of(requirements)

    def __repr__(self) -> str:
        return f"Components({self.components}, store={self.store!r}, engine={self.place.engine!r})"

    def check(self) -> None:
        """Make sure that the engine can run the components: `map` and `submit` do so before they write anything.

        Raises:
            InputError: Its machines cannot pull the image, or do not see the store; or it does not have what the
                components ask for; or own code that is named is not there.
        """
        from runwide import own_asked  # slow to load

        own_asked.read(self.code)
        self.place.resources.check(self.configuration)
        custom_job = self.place.resources.machine_type is not None
        check_asked(self.place.engine, Asked.of_configuration(self.configuration, custom_job=custom_job))
        self.place.engine.examine(None, {}, stores=[self.store], images=[self.place.image])

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
        """As `runwide.map`, whose ``on=`` calls this.

        On a terminal, Ctrl-C asks whether the components should be cancelled or go on without this client. With
        ``on_error="return"``, a component that failed for good has a `runwide.Failure` in the place of each result that
        it had not stored. With a ``name``, the same call again runs what has failed or was not finished, and nothing else.
        With ``reuse``, a run that an earlier call has started is not stopped.

        ``on_event`` is called on this thread as the components store parts of their logs: after some 30 seconds, 5 % of the
        time that they have run if that is more, and at their end. Of an item whose component was killed, or is one of many
        of a job of more than 10⁶ items that are not logged one by one, there is one event at the end with its index, name,
        kind, detail and attempts; its worker, pid and seconds are 0. There are none of what an earlier run has stored.

        Args:
            function: Takes one item.
            items: At least one.
            on_error: As for `runwide.map`.
            name: As for `runwide.map`.
            reuse: As for `runwide.map`.
            reduce: Makes one result of two, and is associative: the components fold their results, and each other's, and one
                value is returned.
            **options: As in `runwide.options.Options`.

        Raises:
            FunctionChanged: The job of that name has another function, and ``reuse`` is None.
            InputError: The job of that name has other items.
            StepFailed: A shard ended with an error that is not that of an item.
            TooManyFailures: ``max_failures`` was passed; the other components were cancelled.
            EngineError: The engine is not there, or refused.
        """
        chosen = RunOptions.on(COMPONENTS, options)
        submitted = self.submitted(
            function, items, chosen, name=name, reuse=reuse, on_error=on_error, reduce=reduce
        )
        shards = self.manifests(submitted, chosen, on_error)
        return gather(submitted.job, shards, on_error=on_error, run_key=submitted.run_key)

    def manifests(self, submitted: Submitted, options: RunOptions, on_error: str) -> list[str] | None:
        """Wait for a run; what the shards returned, where all of them ran now and the engine tells it.

        Args:
            submitted: The job and its run.
            options: How items are run.
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
        """As `map`, but yields each result as soon as a component has stored it.

        All items are spilled and the components started by this call: it takes no endless input, and items may not wait for
        results. Results are looked for every 2 to 30 seconds, sooner in a folder. They are read a few chunks at a time, and
        not read while the loop is busy. Leaving the loop, closing the iterator, Ctrl-C or SIGTERM cancels the components,
        unless there is a ``name``: then the same call gives all results, those that are stored at once, and runs no
        successful item again.

        Args:
            function: As for `map`.
            items: As for `map`.
            ordered: Whether results come in the order of the items. Those that have to wait for an earlier one lie in memory
                up to 256 MiB, and beyond that in temporary files (``RUNWIDE_SCRATCH``).
            on_error: ``"raise"`` the exception of a failed item when its turn comes, which ends the iteration; or
                ``"return"`` a `runwide.Failure` instead of its result.
            name: As for `map`.
            reuse: As for `map`.
            **options: As in `runwide.options.Options`.

        Raises:
            StepFailed: A shard ended with an error that is not that of an item; results that are there come first.
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
        """Spill a map and start its shards; of a job that is there already, those that are not finished or have failures.

        Args:
            function: As for `map`.
            items: As for `map`.
            name: As for `runwide.map`.
            reuse: As for `runwide.map`.
            on_error: As for `map`, for whoever gathers it.
            **options: As in `runwide.options.TaskOptions`.

        Returns:
            The job's reference, and the run of its shards; None where there is nothing left to run.
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
        """Do as `submit`, and return what is known of the run."""
        ended_check(on_error)
        check_reduce(reduce, on_error)
        self.check()
        program = program_of(function, options.initializer, options.initargs, reduce)
        found = begun_or_found(
            program, items, store=self.store, shards=self.components, name=name, reuse=reuse, whole=self.code
        )
        job, engine = found.job.reference, self.place.engine
        chosen = JobOptions(
            options.but(initializer=None, initargs=(), progress=None, on_event=None),
            on_error=on_error, configuration=self.configuration, requirements=self.requirements,
        ).anew()  # fmt: skip
        if name is not None and (going := still_going(job, engine)) is not None:
            theirs = last_record(job).options
            if theirs.run != chosen.run:
                said = "its options are those of the call that has started it"
                _log.warning("run.joined", job=job, run=going.id, cause=said)
            return Submitted(job, going, None, fresh=False, limit=theirs.accepted)
        limit = chosen.accepted
        if found.fresh:
            run_key = signing.new_run_key()
            run = start(job, range(found.job.shards), self.place, chosen, run_key)
            return Submitted(job, run, run_key, fresh=True, limit=limit)
        # what another run has stored is signed with a key that nobody has any more
        shards = status(job).shards
        wanted = [shard.index for shard in shards if shard.failed or not shard.finished]
        # One that was killed may have stored failures, too, which its chunks alone know.
        again = any(shard.failed or (shard.chunks and not shard.finished) for shard in shards)
        chosen = replace(chosen, rerun_failed=again)
        run_again = start(job, wanted, self.place, chosen) if wanted else None
        return Submitted(job, run_again, None, fresh=False, limit=limit)


def attach(
    job: str,
    *,
    engine: Engine | None = None,
    image: str | None = None,
    on_error: str = "raise",
    progress: bool | None = None,
    timeout: float | None = None,
    requirements: Any = None,
    store: str | None = None,
) -> list[Any]:
    """The results of a job that this or another client has started; see `runwide.attach`."""
    found = found_job(job, store)
    job, vouched = found.reference, found.vouched
    shards = rejoin(
        job,
        vouched=vouched,
        engine=engine,
        image=image,
        progress=progress,
        timeout=timeout,
        on_error=on_error,
        requirements=requirements,
    )
    return gather(job, shards, on_error=on_error)
