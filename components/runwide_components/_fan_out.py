"""`fan_out`: one function over many items, on parallel components, as one call inside a pipeline."""

# No `from __future__ import annotations` here: kfp takes the annotations of a pipeline as objects.
import json
import platform
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

from kfp import dsl
from kfp.dsl import pipeline_context

from runwide.api.functions import check_reduce
from runwide.cli.requirements import text_of
from runwide.errors import InputError
from runwide.options.record import PIPELINE, RunOptions, TaskOptions
from runwide.options.signatures import taking
from runwide_components.channels import refuse_open, unshared
from runwide_components.checks import items_words, warn_of_secrets
from runwide_components.configuration import NOTHING as PLAIN
from runwide_components.configuration import StepConfiguration, check_names
from runwide_components.image import checked_image
from runwide_components.resources import NOTHING, Resources
from runwide_components.steps import (
    JobOptions,
    Strings,
    gathered,
    scatter,
    shard_step,
    steps_of,
    with_signature,
)
from runwide_components.wires import Wires, slug, wires

if TYPE_CHECKING:
    from typing_extensions import Unpack


class FanOut(dsl.PipelineTask):  # type: ignore[misc]  # kfp has no types
    """The task of a fan-out in its pipeline, with its outputs by name."""

    @property
    def output(self) -> Any:
        """The reference of the results, which `runwide.load` and the next `fan_out` accept."""
        return self.outputs["result"]

    @property
    def report(self) -> Any:
        """The report, a ``dsl.HTML`` artifact."""
        return self.outputs["report"]

    @property
    def metrics(self) -> Any:
        """The metrics of the report, a ``dsl.Metrics`` artifact."""
        return self.outputs["metrics"]

    @property
    def dataset(self) -> Any:
        """The results as a ``dsl.Dataset`` artifact, with ``dataset=``."""
        return self.outputs["dataset"]


@taking(TaskOptions, PIPELINE)
def fan_out(
    function: Callable[..., Any] | str,
    items: Any,
    *,
    components: Any,
    store: Any,
    image: str | None = None,
    parallelism: int | None = None,
    constants: Mapping[str, Any] | None = None,
    reduce: Callable[[Any, Any], Any] | None = None,
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
    env: Mapping[str, Any] | None = None,
    secrets: Mapping[str, Any] | None = None,
    labels: Mapping[str, str] | None = None,
    node_selector: Mapping[str, str] | None = None,
    tolerations: Iterable[Mapping[str, Any]] | None = None,
    service_account: str | None = None,
    items_format: str | None = None,
    items_types: Mapping[str, Any] | None = None,
    code: Sequence[str] = (),
    requirements: Any = None,
    **options: "Unpack[TaskOptions]",
) -> FanOut:
    """Apply a function to every item, on parallel components; call it inside of a ``@dsl.pipeline``.

    The fan-out is one box in the pipeline: scatter, then the shards in a ``ParallelFor``, then gather. The spec
    does not grow with the number of components, and only references pass through the pipeline, no data.

    Args:
        function: A function of one item, which travels with the pipeline, or ``"package.module:function"``,
            which must be importable in the image. A function of more than 64 KiB is written to the store
            when the pipeline is compiled.
        items: One of these; see docs/tables.md. A list or other iterable of values, also with parameters of the pipeline
            among or inside of them. A ``List`` parameter of the pipeline, or a ``List`` output of another task, with the
            declared types: ``List[float]`` gives floats; from a bare ``list``, whole numbers arrive as ``int``, since kfp
            does not distinguish 1 and 1.0. A text, or a ``str`` parameter or output: the URI of a table (JSON lines, a JSON
            list, CSV, Parquet: each row is an item), a pattern such as ``gs://bucket/day/*.parquet`` (the URI of each file
            is an item; ``**`` matches any number of folders), or the result of another fan-out, whose results are the items.
            An artifact that is such a table, or a list of artifacts, whose URIs are the items.
        components: The number of components, or an ``int`` parameter. Or ``"auto"``: the scatter step runs a few items,
            keeps their results, and chooses a number from their time, 20 at most.
        store: Store of the job: ``gs://bucket/prefix``, a ``str`` parameter, or a text with parameters in it:
            ``f"gs://{bucket}/runs"``.
        image: Image of the steps; None for `base_image`.
        parallelism: The largest number of components at the same time; None for the engine's limit.
        constants: Further keyword arguments of the function: values, parameters or outputs, also inside of other values and
            of texts. An optional parameter that was left out becomes the function's default, or None without a default.
        reduce: Associative function that combines two results into one. The components combine their results, then those of
            each other, and ``runwide.load`` of the output gives one value. It travels with the function. It cannot be
            combined with ``on_error="return"``, ``min_success`` or ``dataset``.
        on_error: ``"raise"``: a failed item fails the pipeline, after all other items ran. ``"return"``: the pipeline
            continues, and ``runwide.load(…, on_error="return")`` gives a `runwide.Failure` instead of each failed result.
        min_success: Share of the items that must succeed for the pipeline to continue, with ``"raise"``. With less than
            all, and with ``"return"``, a component whose process dies twice or cannot start does not fail its step: its
            items fail, except for stored results. The run fails only if the container itself is lost more often than
            ``shard_retries`` allows; ``runwide gather JOB --close`` then gathers the rest.
        dataset: Format in which the results become a ``Dataset`` as well, the task's ``.dataset``: True or ``"jsonl"`` for
            JSON lines, ``"parquet"`` for a table with a dict's keys as columns, for which the image needs pyarrow.
        report: True to make the report in the gather step, the task's ``.report``, with its ``.metrics``.
        cpu: CPUs of each component, such as ``"8"``.
        memory: Memory of each component, such as ``"32G"``.
        accelerator: Type and number of accelerators of each component, such as ``("NVIDIA_L4", 1)``; on Kubeflow the
            type is a resource of the cluster, such as ``"nvidia.com/gpu"``.
        machine_type: Machine type of each component, such as ``"n2-highmem-16"``, instead of CPUs and memory, on Vertex AI
            only: each component becomes a CustomJob.
        spot: True for machines of Spot capacity, which cost less and may be taken away at any moment; a new machine then
            computes only missing results. It needs a ``machine_type``.
        shard_retries: The number of restarts of a component that failed; it then computes only missing results.
            The open-source backend ignores it inside of loops (kubeflow/pipelines #12389).
        as_step: Function that turns the step of a shard into another step with the same inputs and outputs.
        env: Variables of the three steps, set before the function or any of its modules is loaded: texts and numbers,
            parameters, items of loops, and texts with these in them. A variable whose parameter was left out is not set.
            ``RUNWIDE_COMPRESSION``, ``RUNWIDE_SIGNING_KEY_SECRET``, ``RUNWIDE_USER_PROJECT`` and ``RUNWIDE_MAX_…`` of this
            program travel automatically.
        secrets: Variables whose values are not in the pipeline: for each the name of a secret in Secret Manager,
            ``{"API_KEY": "projects/P/secrets/S/versions/V"}`` (by default the latest version), which the steps read
            and their service account must be allowed to read. On Kubeflow also a Kubernetes secret and a key in it,
            ``{"API_KEY": ("shop", "api-key")}``.
        labels: Labels of the run on Vertex and of CustomJobs, and of the steps' pods on Kubeflow.
        node_selector: Labels that the nodes of the steps must have, on Kubeflow.
        tolerations: Taints that these nodes may have, in the form of Kubernetes:
            ``[{"key": "gpu", "operator": "Exists", "effect": "NoSchedule"}]``.
        service_account: The service account of the steps. An engine has one account for each run, which must be this one;
            CustomJobs have their own. `Local` has none.
        items_format: The format of a table of items: ``"jsonl"``, ``"json"``, ``"csv"`` or ``"parquet"``, of a pattern for
            the rows of all its files; or ``"files"`` for the files of a folder. With None, it is found from the artifact's
            metadata (``format``), the ending of the name, or else the first bytes.
        items_types: Types of columns of CSV, such as ``{"zip": "str"}``, or ``"int"``, ``"float"``, ``"bool"``; the types of
            other columns follow from their values, by the rules of pandas.
        code: Packages and modules of the program by their names, files and folders by their paths, that travel with the
            function besides the modules that it imports, such as ``["shop.plugins", "shop/labels.json"]``. See docs/code.md.
        requirements: Packages that each of the three steps installs with pip before it starts: the path of a requirements
            file, which is read now, or a list such as ``["nltk==3.9.1"]``, from the index of ``PIP_INDEX_URL``. An image
            that contains them starts faster; see docs/packages.md.
        **options: As in `runwide.options.record.TaskOptions`.

    Returns:
        The task. Its ``.output`` is the reference of the results, which `runwide.load` reads in input order; ``.report``,
        ``.metrics`` and ``.dataset`` are artifacts, which the engines' own pages show.

    Raises:
        FunctionNotPicklable: The function cannot be sent to another process.
        InputError: An argument is invalid.

    Example:
        >>> @dsl.pipeline(name="squares")
        ... def squares(numbers: list) -> str:
        ...     return fan_out(lambda x: x * x, numbers, components=2, store="gs://bucket/runs").output
        >>> sorted(squares.component_spec.inputs)
        ['numbers']
    """
    refuse_open(
        image=image, parallelism=parallelism, on_error=on_error, **options,
        min_success=min_success, dataset=dataset, report=report, machine_type=machine_type, spot=spot,
        shard_retries=shard_retries, labels=labels, node_selector=node_selector, tolerations=tolerations,
        service_account=service_account, requirements=requirements,
    )  # fmt: skip
    for what, values in (("labels", labels), ("node_selector", node_selector), ("secrets", secrets)):
        if isinstance(values, Mapping):
            refuse_open(**{f"{what}[{name!r}]": one for name, one in values.items()})
    chosen = RunOptions.on(PIPELINE, options)
    _check_reduce(reduce, on_error, min_success=min_success < 1, dataset=bool(dataset))
    named = check_names(env, secrets)
    given = wires(
        function, items, components, store, {} if constants is None else constants, env=named, code=code,
        options=chosen, reduce=reduce,
    )  # fmt: skip
    warn_of_secrets("label", labels or {})
    warn_of_secrets("requirements", {"requirements": text_of(requirements)})
    warn_of_secrets("env", {name: one for name, one in named.items() if name not in given.composed_env})
    configuration = StepConfiguration.of(
        env={name: one for name, one in named.items() if name not in given.composed_env}, secrets=secrets,
        labels=labels, node_selector=node_selector, tolerations=tolerations, service_account=service_account,
        composed=bool(given.composed_env),
    )  # fmt: skip
    image = checked_image(image)
    about = JobOptions(
        chosen.but(initializer=None, initargs=()),
        on_error=on_error,
        min_success=min_success,
        dataset=dataset,
        report=report,
        requirements=text_of(requirements),
        configuration=configuration.travelling(given.composed_env),
    )
    resources = Resources(
        cpu=cpu, memory=memory, accelerator=accelerator, machine_type=machine_type, spot=spot,
        retries=shard_retries, as_step=as_step,
    )  # fmt: skip
    rest = _shards_and_gather(image, parallelism, about, resources)
    reading = items_words(given.all, items_format, items_types)
    words = (*reading, *about.of_scatter(), *(() if reduce is None else ("--reduced",)))
    box = _box(f"fan-out-{slug(function)}", image, given, rest, about, words=words)
    task = box(**{port.name: unshared(value) for port, value in given.open})
    task.__class__ = FanOut  # kfp has registered this very object, so it cannot be another one
    return task  # type: ignore[no-any-return]


def _check_reduce(reduce: Any, on_error: str, **given: bool) -> None:
    check_reduce(reduce, on_error)
    for name, is_given in given.items():
        if reduce is not None and is_given:
            raise InputError(
                f"reduce= cannot be combined with {name}=: the result is one value", hint=f"leave {name}= out"
            )


@cache
def shards_pipeline(
    image: str,
    parallelism: int | None = None,
    words: tuple[str, ...] = (),
    configuration: StepConfiguration = PLAIN,
    resources: Resources = NOTHING,
) -> Any:
    """Return a pipeline that runs shards of a scattered job in parallel; its output is the list of their manifests.

    Args:
        words: Options of the command ``runwide shard``.

    Example:
        >>> sorted(shards_pipeline("runwide:1").component_spec.inputs)
        ['job', 'run_key', 'shards']
    """
    shard = resources.step(shard_step(image, words, configuration), configuration)

    def run_shards(job: str, shards: Strings, run_key: str = "-") -> Strings:
        with dsl.ParallelFor(shards, parallelism=parallelism) as index:
            task = resources.ask(shard(job=job, index=index, **_taken(shard, {"run_key": run_key})))
            configuration.ask(task)
        return dsl.Collected(task.outputs["manifest"])  # type: ignore[no-any-return]  # how kfp spells a list

    return dsl.pipeline(name="shards")(run_shards)


@cache
def _shards_and_gather(image: str, parallelism: int | None, options: JobOptions, resources: Resources) -> Any:
    """Return the inner pipeline of the box; it is separate since kfp.local 2.17 loops over a pipeline's inputs only."""
    configuration = options.configuration
    made = steps_of(image, options)
    shard = resources.step(made.shard, configuration)
    types = {
        "job": str,
        "shards": Strings,
        "run_key": str,
        **({"env": str} if configuration.composed else {}),
    }

    def run_and_gather(*values: Any) -> Any:
        job, shards, run_key, *rest = values
        env = {"env": rest[0]} if rest else {}
        with dsl.ParallelFor(shards, parallelism=parallelism) as index:
            task = resources.ask(shard(job=job, index=index, **_taken(shard, {"run_key": run_key, **env})))
            configuration.ask(task)
        end = made.gather(job=job, shards=dsl.Collected(task.outputs["manifest"]), run_key=run_key, **env)
        return _outputs(configuration.ask(end), options)

    with _outside_any_pipeline():
        signed = with_signature(run_and_gather, "run_and_gather", types, returns=_returned(options))
        return dsl.pipeline(name="shards")(signed)


def _taken(shard: Any, inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Return those inputs that a step has. A step of the author may lack the key of the run, but not the variables."""
    taken = shard.component_spec.inputs
    if "env" in inputs and "env" not in taken:
        raise InputError(
            "env= contains parameters of the pipeline, and the step that as_step= returned has no input for them",
            hint="give the step an input env: str, and pass it to runwide shard as --env-text",
        )
    return {name: value for name, value in inputs.items() if name in taken}


def _returned(options: JobOptions) -> Any:
    """Return the type of the outputs, by name, of a pipeline that ends in a gather."""
    return NamedTuple("Outputs", [(port.name, port.type) for port in gathered(options)])


def _outputs(task: Any, options: JobOptions) -> Any:
    return _returned(options)(*(task.outputs[port.name] for port in gathered(options)))


def _box(
    name: str, image: str, given: Wires, rest: Any, options: JobOptions, *, words: tuple[str, ...]
) -> Any:
    fixed = {port.name: value for port, value in given.fixed}
    called = ("--function-name", given.name) if given.name else ()
    made_by = ("--pickled-by", platform.python_version()) if given.has_code else ()
    needs = ("--packages", json.dumps(given.packages)) if given.packages else ()
    inputs = [port for port, _ in given.all]
    first = scatter(image, inputs, fixed=(*called, *made_by, *needs, *words))
    # Python wants parameters with a default last
    ports = sorted((port for port, _ in given.open), key=lambda port: port.optional)

    def box(*values: Any) -> Any:
        job = first(**dict(zip((port.name for port in ports), values, strict=True)), **fixed)
        options.configuration.ask(job).set_caching_options(enable_caching=False)
        return _outputs(rest(**{name: job.outputs[name] for name in rest.component_spec.inputs}), options)

    with _outside_any_pipeline():
        types = {port.name: port.annotation for port in ports}
        left_out = {port.name: None for port in ports if port.optional}
        made = with_signature(
            box, name.replace("-", "_"), types, defaults=left_out, returns=_returned(options)
        )
        return dsl.pipeline(name=name)(made)


@contextmanager
def _outside_any_pipeline() -> Iterator[None]:
    """Allow the definition of an inner pipeline while another pipeline is being defined.

    kfp rejects that, though both are independent, because it keeps the current pipeline in a global.
    """
    current = pipeline_context.Pipeline.get_default_pipeline()
    pipeline_context.Pipeline._default_pipeline = None  # noqa: SLF001 - there is no public way to set it aside
    try:
        yield
    finally:
        pipeline_context.Pipeline._default_pipeline = current  # noqa: SLF001 - likewise
