"""`fan_out`: one function over many items, on parallel components, as one call inside a pipeline."""

# No `from __future__ import annotations` here: kfp takes the annotations of a pipeline as objects.
import base64
import json
import platform
import re
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

from kfp import dsl
from kfp.dsl import pipeline_channel, pipeline_context

from runwide.cli.sizing import AUTO
from runwide.errors import InputError, NoItems
from runwide.pool import function_bytes
from runwide.spill import open_store
from runwide_components.steps import (
    DEFAULT,
    NOTHING,
    STORE_AND_SHARDS,
    Input,
    JobOptions,
    Resources,
    Strings,
    base_image,
    scatter,
    steps_of,
    with_signature,
)

# The engine hands all inputs of a task over as one command-line argument, and Linux takes 128 KiB of it
# (MAX_ARG_STRLEN); quoting needs some of that.
INLINE_LIMIT = 64 * 1024
WIRE_LIMIT = 120 * 1024

_TYPES: dict[str, type] = {
    "string": str, "str": str, "integer": int, "int": int, "float": float, "double": float,
    "boolean": bool, "bool": bool, "list": list, "dict": dict,
}  # fmt: skip


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
    dataset: bool = False,
    cpu: str | None = None,
    memory: str | None = None,
    accelerator: tuple[str, int] | None = None,
    shard_retries: int = 0,
    as_step: Callable[[Any], Any] | None = None,
) -> Any:
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
            the time that a few items take in the scatter step, 20 at most. The function then runs twice for these.
        store: Where the job goes: ``gs://bucket/prefix``, or a ``str`` parameter.
        image: Image of the steps; `base_image` where None.
        parallelism: How many components may run at the same time; None for as many as the engine allows.
        constants: Further keyword arguments of the function: JSON values, parameters or outputs.
        workers: Worker processes in each component; None for one per physical core.
        timeout: Seconds that one attempt at one item may take.
        retries: Further attempts after an exception.
        on_error: ``"raise"``: an item that fails fails the pipeline, after all others. ``"return"``: it goes on, and
            ``runwide.load(…, on_error="return")`` has a `runwide.Failure` in the place of each failed result.
        min_success: Share of the items that must have succeeded for the pipeline to go on, with ``"raise"``.
        dataset: Whether the results are a ``Dataset`` of JSON lines as well; the task then has ``.outputs["result"]`` and
            ``.outputs["dataset"]``. `Local` knows it, kfp.local by itself forgets artifacts of container components.
        cpu: CPUs of each component, such as ``"8"``.
        memory: Memory of each component, such as ``"32G"``.
        accelerator: Type and number of accelerators of each component, such as ``("NVIDIA_L4", 1)``.
        shard_retries: How often the engine starts a component again that failed; it then computes only what is missing.
            The open-source backend ignores it inside of loops (kubeflow/pipelines #12389).
        as_step: Makes another step of the one that runs a shard, with the same inputs and outputs: a CustomJob on Spot
            machines, for example.

    Returns:
        The task. Its ``.output`` is the reference of the results, which `runwide.load` reads in input order.

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
    store = _absolute(store)
    wires = [
        _function(function, store),
        _items(items, store),
        *_counts_and_places(components, store),
        *_constants(constants or {}),
    ]
    image = image or base_image()
    options = JobOptions(
        workers=workers,
        timeout=timeout,
        retries=retries,
        on_error=on_error,
        min_success=min_success,
        dataset=dataset,
    )
    resources = Resources(
        cpu=cpu, memory=memory, accelerator=accelerator, retries=shard_retries, as_step=as_step
    )
    rest = _shards_and_gather(image, parallelism, options, resources)
    box = _box(f"fan-out-{_slug(function)}", image, wires, rest, options)
    channels = {port.name: value for port, value in wires if _is_channel(value)}
    return box(**channels)


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
        ['job', 'shards']
    """
    shard = resources.step(steps_of(image, options).shard)

    def run_shards(job: str, shards: Strings) -> Strings:
        with dsl.ParallelFor(shards, parallelism=parallelism) as index:
            task = resources.ask(shard(job=job, index=index))
        return dsl.Collected(task.outputs["manifest"])  # type: ignore[no-any-return]  # how kfp spells a list

    return dsl.pipeline(name="shards")(run_shards)


@cache
def _shards_and_gather(image: str, parallelism: int | None, options: JobOptions, resources: Resources) -> Any:
    """A pipeline of its own inside of the box, since kfp.local 2.17 loops over a pipeline's inputs only."""
    made = steps_of(image, options)
    shard = resources.step(made.shard)

    def run_and_gather(job: str, shards: Strings) -> Any:
        with dsl.ParallelFor(shards, parallelism=parallelism) as index:
            task = resources.ask(shard(job=job, index=index))
        return _outputs(made.gather(job=job, shards=dsl.Collected(task.outputs["manifest"])), options)

    run_and_gather.__annotations__["return"] = _returned(options)
    with _outside_any_pipeline():
        return dsl.pipeline(name="shards")(run_and_gather)


class WithDataset(NamedTuple):
    """The outputs of a fan-out whose results are a dataset as well."""

    result: str
    dataset: dsl.Dataset


def _returned(options: JobOptions) -> type:
    return WithDataset if options.dataset else str


def _outputs(task: Any, options: JobOptions) -> Any:
    """What a pipeline returns of a task that has a result, and a dataset if so wanted."""
    if not options.dataset:
        return task.output  # it has but one
    return WithDataset(task.outputs["result"], task.outputs["dataset"])


def _box(name: str, image: str, wires: Sequence[tuple[Input, Any]], rest: Any, options: JobOptions) -> Any:
    open_ports = {port.name: port.type for port, value in wires if _is_channel(value)}
    fixed = {port.name: value for port, value in wires if not _is_channel(value)}
    by_name = any(port.options == ("--function",) for port, _ in wires)
    made_by = () if by_name else ("--pickled-by", platform.python_version())
    first = scatter(image, [port for port, _ in wires], fixed=made_by)

    def box(*values: Any) -> Any:
        job = first(**dict(zip(open_ports, values, strict=True)), **fixed)
        # a cached scatter names a job whose objects may have been cleaned up since
        job.set_caching_options(enable_caching=False)
        return _outputs(rest(job=job.outputs["job"], shards=job.outputs["shards"]), options)

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


def _absolute(store: Any) -> Any:
    """A local folder in full: steps do not run where the pipeline was compiled."""
    return (
        Path(store).resolve().as_uri() if isinstance(store, str) and store and "://" not in store else store
    )


def _function(function: Any, store: Any) -> tuple[Input, str]:
    if isinstance(function, str):
        if not re.fullmatch(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*", function):
            raise InputError(f"{function!r} does not name a function", hint='write "package.module:function"')
        return Input("function", str, ("--function",)), function
    data = zlib.compress(function_bytes(function), level=9)
    text = "z:" + base64.b64encode(data).decode()
    if len(text) <= INLINE_LIMIT:
        return Input("function", str, ("--function-base64",)), text
    return Input("function", str, ("--function-reference",)), _spilled("function", text, store)


def _items(items: Any, store: Any) -> tuple[Input, Any]:
    if _is_channel(items):
        return _open_items(items), items
    if isinstance(items, str):
        if "/" not in items:
            raise InputError(
                f"{items!r} is not the URI of items", hint="give a list, or gs://bucket/rows.jsonl"
            )
        return Input("items", str, ("--items-from",)), items if "://" in items else str(
            Path(items).absolute()
        )
    values = _listed(items)
    if not values:
        raise NoItems("there is nothing to fan out over", hint="give at least one item")
    text = json.dumps([_as_json(value, f"item {index}") for index, value in enumerate(values)])
    if len(text) <= INLINE_LIMIT // 2:
        return Input("items", str, ("--items-json",)), text
    return Input("items", str, ("--items-reference",)), _spilled("items", text, store)


def _open_items(items: Any) -> Input:
    kind = _kind(items)
    if kind is list:
        return Input("items", list, ("--items-parameter",))
    if kind is str:
        return Input("items", str, ("--items-from",))
    if kind is None:
        return Input("items", dsl.Input[dsl.Artifact], ("--items-from",), artifact=True)
    raise InputError(
        f"items is a {items.channel_type} of the pipeline, not a list",
        hint="annotate it as list, or give a URI as str",
    )


def _listed(items: Any) -> list[Any]:
    if isinstance(items, dsl.PipelineTask):
        raise InputError("items is a task, not what it puts out", hint="pass its .output")
    if isinstance(items, (str, bytes, Mapping)) or not isinstance(items, Iterable):
        raise InputError(
            f"items is a {type(items).__name__}, not a list", hint="give a list, or a List output"
        )
    return list(items)


def _counts_and_places(components: Any, store: Any) -> Iterator[tuple[Input, Any]]:
    for port, value in zip(STORE_AND_SHARDS, (store, components), strict=True):
        if port.name == "components" and isinstance(value, str) and value == AUTO:
            yield Input("components", str, port.options), AUTO
            continue
        if _is_channel(value):
            _check_type(value, port.name, port.type)
        elif not isinstance(value, port.type) or not value or (port.type is int and value < 1):
            raise InputError(
                f"{port.name}={value!r} cannot be meant",
                hint="give a number of 1 or more"
                if port.type is int
                else 'give a URI such as "gs://bucket/runs"',
            )
        yield port, value


def _constants(constants: Mapping[str, Any]) -> Iterator[tuple[Input, Any]]:
    fixed = {
        name: _as_json(value, f"constant {name!r}")
        for name, value in constants.items()
        if not _is_channel(value)
    }
    if fixed:
        yield Input("constants", str, ("--constants-json",)), json.dumps(fixed)
    for name, channel in constants.items():
        if _is_channel(channel):
            kind = _kind(channel)
            if kind is None:
                raise InputError(
                    f"constant {name!r} is an artifact, not a parameter", hint="pass its URI as a str"
                )
            yield Input(f"constant_{name}", kind, ("--constant", name, kind.__name__)), channel


def _as_json(value: Any, what: str) -> Any:
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"{what} cannot travel in a pipeline: {error}",
            hint="give JSON values; or map over references, and load what they name inside of the function",
        ) from error
    return value


def _spilled(kind: str, text: str, store: Any) -> str:
    """Put what is too long for a pipeline spec into the store, under its digest, and return the reference."""
    if not isinstance(store, str):
        raise InputError(
            f"the {kind} takes {len(text)} characters in a pipeline spec, and the store is only known at run time",
            hint="give store= as a string, so that it can be put there when the pipeline is compiled",
        )
    data = text.encode()
    digest = sha256(data).hexdigest()
    name = f"{kind}/{digest}"
    with open_store(store) as opened:
        opened.create(name, data)
        return f"{opened.child_uri(name)}#sha256={digest}"


def _check_type(channel: Any, name: str, wanted: type) -> None:
    if _kind(channel) is not wanted:
        raise InputError(
            f"{name} is a {channel.channel_type} of the pipeline, not a {wanted.__name__}",
            hint=f"annotate it as {wanted.__name__}",
        )


def _kind(channel: Any) -> type | None:
    """The Python type of a channel, None for an artifact. kfp spells the names in several ways."""
    return _TYPES.get(str(channel.channel_type).lower())


def _is_channel(value: Any) -> bool:
    return isinstance(value, pipeline_channel.PipelineChannel)


def _slug(function: Any) -> str:
    name = function.rpartition(":")[2] if isinstance(function, str) else getattr(function, "__name__", "call")
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "call"
