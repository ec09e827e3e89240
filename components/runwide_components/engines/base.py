"""The protocol of an engine that runs pipelines of kfp, with a base class for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from runwide.errors import InputError
from runwide.job.runner import Run, RunState, ShardOptions, ShardRunner
from runwide.naming import shown

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from runwide_components.resources import Resources

__all__ = [
    "Engine",
    "PipelineEngine",
    "Run",
    "RunState",
    "ShardOptions",
    "ShardRunner",
    "checked_engine",
    "checked_poll",
]


class Engine(ShardRunner, Protocol):
    """An engine that runs pipelines of kfp, and so also the shards of a job as a pipeline; see `PipelineEngine`.

    It may also have ``check_steps(requested)``, which rejects options of steps before anything is stored or started; see
    `runwide_components.engines.step_options`.
    """

    def submit(
        self,
        pipeline: Any,
        arguments: Mapping[str, Any] | None = None,
        *,
        store: str | None = None,
        parallelism: int | None = None,
        name: str | None = None,
        labels: Mapping[str, str] | None = None,
    ) -> Run:
        """Start a run.

        Args:
            pipeline: A ``@dsl.pipeline``, or the path of a compiled one; some engines take a registry's URL as well.
            arguments: Arguments of the pipeline by name.
            store: URI of the store that its steps read and write, so that the engine can give them access.
            parallelism: The number of steps of a loop that the caller expects at the same time.
            name: Name of the run. An engine with unique names attaches to a run of that name instead of starting
                another one.
            labels: Labels of the run, on an engine that has labels.

        Raises:
            EngineError: The engine cannot be reached, or refuses.
            InputError: The pipeline is invalid.
        """

    def examine(
        self,
        spec: Any,
        arguments: Mapping[str, Any],
        *,
        stores: Iterable[str | None] = (),
        images: Iterable[str] = (),
    ) -> None:
        """Reject a run that cannot work, before anything is written or submitted; `submit` does so too.

        Args:
            spec: The compiled pipeline; None where it is not known yet.
            arguments: Arguments of the pipeline by name.
            stores: Further stores that its steps use; None is ignored.
            images: Further images of runwide's steps.

        Raises:
            InputError: The engine cannot start the steps, or they cannot reach a store.
        """


class PipelineEngine:
    """Runs the shards of a job as a pipeline of one loop: the base class of `Local`, `Vertex` and `Kubeflow`."""

    mounts: tuple[str, ...] = ()

    def start(self: Any, job: str, shards: Sequence[int], options: ShardOptions, resources: Resources) -> Run:
        """Submit a pipeline that runs shards; see `ShardRunner.start`."""
        from runwide_components._fan_out import shards_pipeline  # it loads this module

        pipeline = shards_pipeline(
            options.image, options.parallelism, options.words, options.configuration, resources
        )
        run: Run = self.submit(
            pipeline,
            {"job": job, "shards": [str(index) for index in shards], "run_key": options.run_key or "-"},
            store=options.store,
            parallelism=options.parallelism or len(shards),
        )
        return run

    def examine(
        self,
        spec: Any,
        arguments: Mapping[str, Any],
        *,
        stores: Iterable[str | None] = (),
        images: Iterable[str] = (),
    ) -> None:
        """Reject a run whose images have no registry, or whose steps cannot reach a store; see `Engine.examine`."""
        from runwide_components.engines.fitting import refuse_unfit  # it loads kfp

        name = type(self).__name__
        refuse_unfit(name, spec, arguments, stores=stores, images=images, mounts=self.mounts)


def checked_engine(engine: Any, *, pipelines: bool = False) -> Any:
    """Return an engine, or None; reject any other value.

    Args:
        pipelines: True for an engine that must run pipelines, and not only shards.

    Example:
        >>> checked_engine("local")
        Traceback (most recent call last):
        runwide.errors.InputError: invalid engine='local': expected an engine such as Local()
    """
    starts = ("submit",) if pipelines else ("start", "submit")
    is_engine = any(callable(getattr(engine, name, None)) for name in starts) and hasattr(engine, "about")
    if engine is None or (is_engine and not isinstance(engine, type)):
        return engine
    kind = "an engine that runs pipelines," if pipelines else "an engine"
    raise InputError(f"invalid engine={shown(engine)}: expected {kind} such as Local()")


def checked_poll(poll: Sequence[float]) -> tuple[float, float]:
    """Return the seconds between two looks at a run, at first and at most."""
    try:
        first, longest = map(float, poll)
    except (TypeError, ValueError):
        first = longest = 0.0
    if not 0 < first <= longest:
        raise InputError(
            f"invalid poll={shown(poll)}: expected two numbers of seconds, the first no larger than the second",
            hint="give such as poll=(2.0, 30.0)",
        )
    return first, longest
