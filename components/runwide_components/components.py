"""`Components`: the place for ``runwide.map(on=…)`` where each shard is a component of a pipeline run."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from runwide import settings
from runwide.cli.requirements import text_of
from runwide.errors import InputError
from runwide.job import gather, status
from runwide.job.begin import begun_or_found
from runwide.job.manifest import read_job
from runwide.spill import signing
from runwide.spill.store import without_fields
from runwide_components.configuration import StepConfiguration
from runwide_components.engines.asked import Asked, check_asked
from runwide_components.engines.local import Local
from runwide_components.image import base_image
from runwide_components.recorded import Place
from runwide_components.resources import Resources
from runwide_components.runs import ended, rejoin, resolved, start, still_going
from runwide_components.secret_warning import warn_of_secrets
from runwide_components.steps import JobOptions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from runwide_components.engines.base import Engine, Run


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
        InputError: The number cannot be meant, or there is no store.

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
        if components < 1:
            raise InputError(f"{components} components cannot be meant", hint="give 1 or more")
        self.components = components
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

    def map(
        self,
        function: Callable[[Any], Any],
        items: Iterable[Any],
        *,
        on_error: str = "raise",
        workers: int | None = None,
        timeout: float | None = None,
        retries: int = 0,
        name: str | None = None,
        reuse: str | None = None,
    ) -> list[Any]:
        """As `runwide.map`, whose ``on=`` calls this.

        On a terminal, Ctrl-C asks whether the components should be cancelled or go on without this client. With
        ``on_error="return"``, a component that failed for good has a `runwide.Failure` in the place of each result that
        it had not stored. With a ``name``, the same call again runs what has failed or was not finished, and nothing else.
        With ``reuse``, a run that an earlier call has started is not stopped.

        Raises:
            FunctionChanged: The job of that name has another function, and ``reuse`` is None.
            InputError: The job of that name has other items.
            StepFailed: A shard ended with an error that is not that of an item.
            EngineError: The engine is not there, or refused.
        """
        job, run, run_key = self._submitted(
            function, items, workers=workers, timeout=timeout, retries=retries, name=name, reuse=reuse,
            on_error=on_error,
        )  # fmt: skip
        shards = self._manifests(job, run, on_error, run_key)
        return gather(job, shards, on_error=on_error, run_key=run_key)

    def _manifests(
        self, job: str, run: Run | None, on_error: str, run_key: str | None = None
    ) -> list[str] | None:
        """What the shards returned, where all of them ran now and the engine tells it."""
        if run is None:
            return None
        found = ended(job, run, progress=self.progress, on_error=on_error, run_key=run_key)
        return found if found and len(found) == read_job(job).shards else None

    def submit(
        self,
        function: Callable[[Any], Any],
        items: Iterable[Any],
        *,
        workers: int | None = None,
        timeout: float | None = None,
        retries: int = 0,
        name: str | None = None,
        reuse: str | None = None,
        on_error: str = "raise",
    ) -> tuple[str, Run | None]:
        """Spill a map and start its shards; of a job that is there already, those that are not finished or have failures.

        Args:
            function: As for `map`.
            items: As for `map`.
            workers: As for `map`.
            timeout: As for `map`.
            retries: As for `map`.
            name: As for `runwide.map`.
            reuse: As for `runwide.map`.
            on_error: As for `map`, for whoever gathers it.

        Returns:
            The job's reference, and the run of its shards; None where there is nothing left to run.
        """
        job, run, _ = self._submitted(
            function, items, workers=workers, timeout=timeout, retries=retries, name=name, reuse=reuse,
            on_error=on_error,
        )  # fmt: skip
        return job, run

    def _submitted(
        self,
        function: Callable[[Any], Any],
        items: Iterable[Any],
        *,
        name: str | None,
        reuse: str | None,
        **options: Any,
    ) -> tuple[str, Run | None, str | None]:
        """As `submit`, with the key that the run has made for itself."""
        self.check()
        found = begun_or_found(
            function, items, store=self.store, shards=self.components, name=name, reuse=reuse, whole=self.code
        )
        job = found.job.reference
        if going := name and still_going(job, self.place.engine):
            return job, going, None
        if found.fresh:
            run_key = signing.new_run_key()
            chosen = JobOptions(configuration=self.configuration, requirements=self.requirements, **options)
            return job, start(job, range(found.job.shards), self.place, chosen, run_key), run_key
        # what another run has stored is signed with a key that nobody has any more
        shards = status(job).shards
        wanted = [shard.index for shard in shards if shard.failed or not shard.finished]
        # One that was killed may have stored failures, too, which its chunks alone know.
        again = any(shard.failed or (shard.chunks and not shard.finished) for shard in shards)
        chosen = JobOptions(
            rerun_failed=again, configuration=self.configuration, requirements=self.requirements, **options
        )
        return job, start(job, wanted, self.place, chosen) if wanted else None, None


def attach(
    job: str,
    *,
    engine: Engine | None = None,
    image: str | None = None,
    on_error: str = "raise",
    progress: bool | None = None,
    timeout: float | None = None,
    requirements: Any = None,
) -> list[Any]:
    """The results of a job that this or another client has started; see `runwide.attach`."""
    job, vouched = resolved(job)
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
