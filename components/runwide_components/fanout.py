"""`fan_out`: one function over many items, on parallel components, as one call inside a pipeline."""

# No `from __future__ import annotations` here: kfp takes the annotations of a pipeline as objects.
import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any, NamedTuple

from kfp import dsl
from kfp.dsl import pipeline_context

from runwide_components.image import base_image
from runwide_components.resources import NOTHING, Resources
from runwide_components.signature import with_signature
from runwide_components.steps import (
    DEFAULT,
    Input,
    JobOptions,
    Strings,
    gathered,
    scatter,
    steps_of,
)
from runwide_components.wires import is_channel, slug, wires


class FanOut(dsl.PipelineTask):  # type: ignore[misc]  # kfp has no types
    """The task that a fan-out is in its pipeline, with its outputs by name."""

    @property
    def output(self) -> Any:
        """The reference of the results, which `runwide.load` and the next `fan_out` take."""
        return self.outputs["result"]

    @property
    def report(self) -> Any:
        """The page of what happened, a ``dsl.HTML`` artifact."""
        return self.outputs["report"]

    @property
    def metrics(self) -> Any:
        """Its numbers, a ``dsl.Metrics`` artifact."""
        return self.outputs["metrics"]

    @property
    def dataset(self) -> Any:
        """The results as a ``dsl.Dataset`` artifact, with ``dataset=``."""
        return self.outputs["dataset"]


def fan_out(
    function: Callable[..., Any] | str,
    items: Any,
    *,
    components: Any,
    store: Any,
    image: str | None = None,
    parallelism: int | None = None,
    constants: Mapping[str, Any] | None = None,
    workers: int | None = None,
    timeout: float | None = None,
    retries: int = 0,
    on_error: str = "raise",
    min_success: float = 1.0,
    dataset: bool | str = False,
    report: bool = True,
    cpu: str | None = None,
    memory: str | None = None,
    accelerator: tuple[str, int] | None = None,
    machine_type: str | None = None,
    spot: bool = False,
    shard_retries: int = 0,
    as_step: Callable[[Any], Any] | None = None,
    secrets: Mapping[str, str] | None = None,
) -> FanOut:
    """Apply a function to every item, on parallel components; to be called inside of a ``@dsl.pipeline``.

    It becomes one box in the pipeline: scatter, then the shards in a ``ParallelFor``, then gather. The spec
    does not grow with the number of components, and no data passes through the pipeline, only references.

    Args:
        function: A function of one item, which travels with the pipeline, or ``"package.module:function"``,
            which must be importable in the image. A function of more than 64 KiB is put into the store
            when the pipeline is compiled.
        items: A list of JSON values, a ``List`` parameter of the pipeline, or a ``List`` output of another
            task. KFP does not tell 1 from 1.0 in parameters; whole numbers arrive as ``int``. Or a text, a ``str``
            parameter or output: the URI of a table (JSON lines, a JSON list, CSV, Parquet: one item a row), a pattern
            such as ``gs://bucket/day/*.parquet`` (one item a file, its URI), or the result of another fan-out, whose
            results are the items. Or an artifact that is such a table.
        components: How many components, a number or an ``int`` parameter; or ``"auto"``: as many as are worth starting, by
            the time that a few items take in the scatter step, 20 at most. Their results are kept.
        store: Where the job goes: ``gs://bucket/prefix``, or a ``str`` parameter.
        image: Image of the steps; `base_image` where None.
        parallelism: How many components may run at the same time; None for as many as the engine allows.
        constants: Further keyword arguments of the function: JSON values, parameters or outputs.
        workers: Worker processes in each component; None for one per physical core.
        timeout: Seconds that one attempt at one item may take.
        retries: Further attempts after an exception.
        on_error: ``"raise"``: an item that fails fails the pipeline, after all others. ``"return"``: it goes on, and
            ``runwide.load(…, on_error="return")`` has a `runwide.Failure` in the place of each failed result.
        min_success: Share of the items that must have succeeded for the pipeline to go on, with ``"raise"``. With less than
            all, as with ``"return"``, a component whose process dies twice or cannot start is no failed step: its items
            fail, but for those that it has stored. Only where the container itself is lost, more often than
            ``shard_retries`` allows, the run fails; ``runwide gather JOB --close`` then ends it.
        dataset: Whether the results are a ``Dataset`` as well, the task's ``.dataset``: True or ``"jsonl"`` for JSON lines,
            ``"parquet"`` for a table, with a dict's keys as columns, for which the image has to have pyarrow.
        report: Whether the gather step makes the page of what happened, the task's ``.report``, and its numbers,
            ``.metrics``.
        cpu: CPUs of each component, such as ``"8"``.
        memory: Memory of each component, such as ``"32G"``.
        accelerator: Type and number of accelerators of each component, such as ``("NVIDIA_L4", 1)``; on Kubeflow the
            type is a resource of the cluster, such as ``"nvidia.com/gpu"``.
        machine_type: Machine of each component by its name, such as ``"n2-highmem-16"``, in the place of CPUs and memory.
            Only Vertex AI has them: each component becomes a CustomJob.
        spot: Whether these machines are Spot capacity, which costs less and may be taken away at any moment; the
            component is then started again and computes only what is missing. It takes a ``machine_type``.
        shard_retries: How often the engine starts a component again that failed; it then computes only what is missing.
            The open-source backend ignores it inside of loops (kubeflow/pipelines #12389).
        as_step: Makes another step of the one that runs a shard, with the same inputs and outputs.
        secrets: What the function finds in its environment and the pipeline does not hold: for each variable the name of
            a secret in Secret Manager, ``{"API_KEY": "projects/P/secrets/S/versions/V"}``, which the steps' service account
            may read.

    Returns:
        The task. Its ``.output`` is the reference of the results, which `runwide.load` reads in input order; ``.report``,
        ``.metrics`` and ``.dataset`` are artifacts, which the engines' own pages show.

    Raises:
        FunctionNotPicklable: The function cannot be sent to another process.
        InputError: Some argument cannot be meant.

    Example:
        >>> @dsl.pipeline(name="squares")
        ... def squares(numbers: list) -> str:
        ...     return fan_out(lambda x: x * x, numbers, components=2, store="gs://bucket/runs").output
        >>> sorted(squares.component_spec.inputs)
        ['numbers']
    """
    given = wires(function, items, components, store, constants or {})
    image = image or base_image()
    options = JobOptions(
        workers=workers,
        timeout=timeout,
        retries=retries,
        on_error=on_error,
        min_success=min_success,
        dataset=dataset,
        report=report,
        secrets=tuple((secrets or {}).items()),
    )
    resources = Resources(
        cpu=cpu, memory=memory, accelerator=accelerator, machine_type=machine_type, spot=spot,
        retries=shard_retries, as_step=as_step,
    )  # fmt: skip
    rest = _shards_and_gather(image, parallelism, options, resources)
    box = _box(f"fan-out-{slug(function)}", image, given, rest, options)
    task = box(**{port.name: value for port, value in given if is_channel(value)})
    task.__class__ = FanOut  # kfp has registered this very object, so it cannot be another one
    return task  # type: ignore[no-any-return]


@cache
def shards_pipeline(
    image: str,
    parallelism: int | None = None,
    options: JobOptions = DEFAULT,
    resources: Resources = NOTHING,
) -> Any:
    """The shards of a job that is scattered already, in parallel; its output is the list of their manifests.

    Args:
        image: Image of the steps.
        parallelism: How many may run at the same time; None for as many as the engine allows.
        options: How the items are run.
        resources: What each shard asks for.

    Example:
        >>> sorted(shards_pipeline("runwide:1").component_spec.inputs)
        ['job', 'run_key', 'shards']
    """
    shard = resources.step(steps_of(image, options).shard)

    def run_shards(job: str, shards: Strings, run_key: str = "-") -> Strings:
        with dsl.ParallelFor(shards, parallelism=parallelism) as index:
            task = resources.ask(shard(job=job, index=index, **_key_for(shard, run_key)))
        return dsl.Collected(task.outputs["manifest"])  # type: ignore[no-any-return]  # how kfp spells a list

    return dsl.pipeline(name="shards")(run_shards)


@cache
def _shards_and_gather(image: str, parallelism: int | None, options: JobOptions, resources: Resources) -> Any:
    """A pipeline of its own inside of the box, since kfp.local 2.17 loops over a pipeline's inputs only."""
    made = steps_of(image, options)
    shard = resources.step(made.shard)

    def run_and_gather(job: str, shards: Strings, run_key: str) -> Any:
        with dsl.ParallelFor(shards, parallelism=parallelism) as index:
            task = resources.ask(shard(job=job, index=index, **_key_for(shard, run_key)))
        return _outputs(made.gather(job=job, shards=dsl.Collected(task.outputs["manifest"])), options)

    run_and_gather.__annotations__["return"] = _returned(options)
    with _outside_any_pipeline():
        return dsl.pipeline(name="shards")(run_and_gather)


def _key_for(shard: Any, run_key: Any) -> dict[str, Any]:
    """The key of the run, for a step that takes it: one of the author's own may not."""
    return {"run_key": run_key} if "run_key" in shard.component_spec.inputs else {}


def _returned(options: JobOptions) -> Any:
    """What a pipeline that ends in a gather returns, by name."""
    return NamedTuple("Outputs", [(port.name, port.type) for port in gathered(options)])


def _outputs(task: Any, options: JobOptions) -> Any:
    return _returned(options)(*(task.outputs[port.name] for port in gathered(options)))


def _box(name: str, image: str, given: Sequence[tuple[Input, Any]], rest: Any, options: JobOptions) -> Any:
    open_ports = {port.name: port.type for port, value in given if is_channel(value)}
    fixed = {port.name: value for port, value in given if not is_channel(value)}
    by_name = any(port.options == ("--function",) for port, _ in given)
    made_by = () if by_name else ("--pickled-by", platform.python_version())
    first = scatter(image, [port for port, _ in given], fixed=(*made_by, *options.of_scatter()))

    def box(*values: Any) -> Any:
        job = first(**dict(zip(open_ports, values, strict=True)), **fixed)
        # a cached scatter names a job whose objects may have been cleaned up since
        job.set_caching_options(enable_caching=False)
        given = {name: job.outputs[name] for name in ("job", "shards", "run_key")}
        return _outputs(rest(**given), options)

    with _outside_any_pipeline():
        made = with_signature(box, name.replace("-", "_"), open_ports, returns=_returned(options))
        return dsl.pipeline(name=name)(made)


@contextmanager
def _outside_any_pipeline() -> Iterator[None]:
    """Let a component that is itself a pipeline be made while another pipeline is being defined.

    kfp refuses that, though both are independent, because it keeps the current one in a global.
    """
    current = pipeline_context.Pipeline.get_default_pipeline()
    pipeline_context.Pipeline._default_pipeline = None  # noqa: SLF001 - there is no public way to put it aside
    try:
        yield
    finally:
        pipeline_context.Pipeline._default_pipeline = current  # noqa: SLF001 - likewise
