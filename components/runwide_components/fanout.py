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

from runwide.calls import check_reduce
from runwide.cli.requirements import text_of
from runwide.errors import InputError
from runwide.options import PIPELINE, RunOptions, TaskOptions
from runwide.signatures import taking
from runwide_components.channels import refuse_open, unshared
from runwide_components.configuration import StepConfiguration, check_names
from runwide_components.image import base_image
from runwide_components.items_words import items_words
from runwide_components.resources import NOTHING, Resources
from runwide_components.secret_warning import warn_of_secrets
from runwide_components.signature import with_signature
from runwide_components.steps import (
    DEFAULT,
    JobOptions,
    Strings,
    gathered,
    scatter,
    steps_of,
)
from runwide_components.wires import Wires, slug, wires

if TYPE_CHECKING:
    from typing_extensions import Unpack


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
    """Apply a function to every item, on parallel components; to be called inside of a ``@dsl.pipeline``.

    It becomes one box in the pipeline: scatter, then the shards in a ``ParallelFor``, then gather. The spec
    does not grow with the number of components, and no data passes through the pipeline, only references.

    Args:
        function: A function of one item, which travels with the pipeline, or ``"package.module:function"``,
            which must be importable in the image. A function of more than 64 KiB is put into the store
            when the pipeline is compiled.
        items: A list or other iterable of values, which arrive as they are; parameters of the pipeline may be among and
            inside of them. Or a ``List`` parameter of the pipeline, or a ``List`` output of another task, which arrives
            as it is declared: ``List[float]`` gives floats; of a bare ``list``, whole numbers arrive as ``int``, since
            kfp does not tell 1 from 1.0. Or a text, a ``str`` parameter or output: the URI of a table (JSON lines, a JSON
            list, CSV, Parquet: one item a row), a pattern such as ``gs://bucket/day/*.parquet`` (one item a file, its URI;
            ``**`` is any number of folders), or the result of another fan-out, whose results are the items. Or an artifact
            that is such a table; or a list of artifacts, each an item, its URI. See docs/tables.md.
        components: How many components, a number or an ``int`` parameter; or ``"auto"``: as many as are worth starting, by
            the time that a few items take in the scatter step, 20 at most. Their results are kept.
        store: Where the job goes: ``gs://bucket/prefix``, a ``str`` parameter, or a text with parameters in it:
            ``f"gs://{bucket}/runs"``.
        image: Image of the steps; `base_image` where None.
        parallelism: How many components may run at the same time; None for as many as the engine allows.
        constants: Further keyword arguments of the function: values, parameters or outputs, also inside of each other and of
            texts. A parameter that is optional and was left out is the function's default, or None if it has none.
        reduce: Makes one result of two, and is associative: the components fold their results, and then each other's, and
            ``runwide.load`` of the output gives the one value. It travels with the function. It takes neither
            ``on_error="return"`` nor ``min_success`` nor ``dataset``.
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
        env: Variables of the three steps, set before the function or any of its modules is loaded: texts and numbers,
            parameters, items of loops, and texts with these in them. One whose parameter was left out is not set.
            ``RUNWIDE_COMPRESSION``, ``RUNWIDE_SIGNING_KEY_SECRET``, ``RUNWIDE_USER_PROJECT`` and ``RUNWIDE_MAX_…`` of this
            program travel by themselves.
        secrets: Variables that the pipeline does not hold: for each the name of a secret in Secret Manager,
            ``{"API_KEY": "projects/P/secrets/S/versions/V"}`` (the latest version where none is named), which the steps read
            and their service account must be allowed to read. On Kubeflow also a Kubernetes secret and a key in it,
            ``{"API_KEY": ("shop", "api-key")}``.
        labels: Labels of the run on Vertex and of CustomJobs, and of the steps' pods on Kubeflow.
        node_selector: Labels that the nodes of the steps must have, on Kubeflow.
        tolerations: Taints that these nodes may have, as Kubernetes writes them:
            ``[{"key": "gpu", "operator": "Exists", "effect": "NoSchedule"}]``.
        service_account: The account that the steps must run as. An engine has one for each run, which must be this one;
            CustomJobs have their own. `Local` has none.
        items_format: The format of a table of items: ``"jsonl"``, ``"json"``, ``"csv"`` or ``"parquet"``, of a pattern for
            the rows of all its files; or ``"files"`` for the files of a folder. None where the artifact's metadata
            (``format``), the name's ending, or else the first bytes tell it.
        items_types: Types of columns of CSV, such as ``{"zip": "str"}``, or ``"int"``, ``"float"``, ``"bool"``; those of the
            other columns are told by their values, by the rules of pandas.
        code: Own packages and modules by their names, files and folders by their paths, that travel with the function beside
            the modules that it imports, such as ``["shop.plugins", "shop/labels.json"]``. See docs/code.md.
        requirements: What each of the three steps installs with pip before it begins: the path of a requirements file, which
            is read now, or a list such as ``["nltk==3.9.1"]``, from the index of ``PIP_INDEX_URL``. An image that has them
            starts faster; see docs/packages.md.
        **options: As in `runwide.options.TaskOptions`.

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
    image = image or base_image()
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
                f"reduce= cannot be combined with {name}=: it gives one value", hint=f"leave {name}= out"
            )


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
    configuration = options.configuration
    shard = resources.step(steps_of(image, options).shard, configuration)

    def run_shards(job: str, shards: Strings, run_key: str = "-") -> Strings:
        with dsl.ParallelFor(shards, parallelism=parallelism) as index:
            task = resources.ask(shard(job=job, index=index, **_taken(shard, {"run_key": run_key})))
            configuration.ask(task)
        return dsl.Collected(task.outputs["manifest"])  # type: ignore[no-any-return]  # how kfp spells a list

    return dsl.pipeline(name="shards")(run_shards)


@cache
def _shards_and_gather(image: str, parallelism: int | None, options: JobOptions, resources: Resources) -> Any:
    """A pipeline of its own inside of the box, since kfp.local 2.17 loops over a pipeline's inputs only."""
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
    """The inputs that a step takes: one of the author's own may have no key of the run, but must have variables."""
    taken = shard.component_spec.inputs
    if "env" in inputs and "env" not in taken:
        raise InputError(
            "env= has parameters of the pipeline, and the step that as_step= made does not take them",
            hint="give it an input env: str, and hand it to runwide shard as --env-text",
        )
    return {name: value for name, value in inputs.items() if name in taken}


def _returned(options: JobOptions) -> Any:
    """What a pipeline that ends in a gather returns, by name."""
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
    """Let a component that is itself a pipeline be made while another pipeline is being defined.

    kfp refuses that, though both are independent, because it keeps the current one in a global.
    """
    current = pipeline_context.Pipeline.get_default_pipeline()
    pipeline_context.Pipeline._default_pipeline = None  # noqa: SLF001 - there is no public way to put it aside
    try:
        yield
    finally:
        pipeline_context.Pipeline._default_pipeline = current  # noqa: SLF001 - likewise
