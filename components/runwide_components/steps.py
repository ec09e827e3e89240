"""The container components scatter, shard and gather, which run the command `runwide`.

Their containers need neither kfp nor a pip step at the start. Every value between them is a string, because kfp.local turns
integers in lists into floats.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from functools import cache
from inspect import Parameter, Signature
from typing import TYPE_CHECKING, Any, Optional

from kfp import compiler, dsl

from runwide.cli.requirements import checked
from runwide.errors import InputError
from runwide.job.limit import FIRST, Accepted, new_attempt
from runwide.options.record import DEFAULTS, RunOptions
from runwide_components.configuration import NOTHING, StepConfiguration

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path


def with_signature(
    function: Any,
    name: str,
    types: dict[str, Any],
    *,
    defaults: dict[str, Any] | None = None,
    returns: Any = Signature.empty,
) -> Any:
    """Set the name, parameters and types that kfp reads on a function of ``*values``.

    Args:
        types: Parameter names and their annotations, in order, those with a default last.
    """
    function.__name__ = function.__qualname__ = name
    function.__signature__ = Signature(
        [
            Parameter(
                name,
                Parameter.POSITIONAL_OR_KEYWORD,
                annotation=kind,
                default=(defaults or {}).get(name, Parameter.empty),
            )
            for name, kind in types.items()
        ],
        return_annotation=returns,
    )
    function.__annotations__ = types | ({} if returns is Signature.empty else {"return": returns})
    return function


Strings = list[str]  # kfp knows a list only by its runtime type


@dataclass(frozen=True, slots=True)
class Input:
    """An input of a step, with the options that pass it on the command line.

    Args:
        name: Name of the parameter.
        type: Its kfp type: ``str``, ``int``, ``float``, ``bool``, ``list`` or ``dict``.
        options: Words before the value on the command line; none for a positional argument.
        default: Default value of the parameter; None for a required one.
        artifact: True for an artifact, whose URI the command gets.
        optional: True if the value, with its options, may be left out.
    """

    name: str
    type: Any
    options: tuple[str, ...] = ()
    default: Any = None
    artifact: bool = False
    optional: bool = False

    @property
    def annotation(self) -> Any:
        """The type in the form that kfp reads."""
        return Optional[self.type] if self.optional else self.type  # noqa: UP045 - kfp knows no other form


@dataclass(frozen=True, slots=True)
class Output:
    """An output of a step, with the option that names its file.

    Args:
        options: Words before the file on the command line.
    """

    name: str
    type: Any
    options: tuple[str, ...] = field(kw_only=True)
    artifact: bool = False


@dataclass(frozen=True, slots=True)
class JobOptions:
    """The options of a job on components; see `runwide.map` for their meaning.

    Args:
        run: The options of `runwide.map`; an ``initializer`` travels with the function.
        on_error: ``"raise"`` if failed items fail the gather, or ``"return"``.
        min_success: Share of the items that must succeed, with ``"raise"``.
        dataset: Format of the dataset that the gather writes as well: ``"jsonl"`` or True, ``"parquet"``; False for none.
        requirements: Packages that each step installs first, as text of `runwide.cli.requirements.text_of`.
        attempt: Name of this attempt at the job, whose components count their failures together.
    """

    run: RunOptions = DEFAULTS
    on_error: str = "raise"
    min_success: float = 1.0
    dataset: bool | str = False
    report: bool = True
    rerun_failed: bool = False
    configuration: StepConfiguration = NOTHING
    requirements: str = ""
    attempt: str = ""

    def __post_init__(self) -> None:
        checked(self.requirements)
        if not 0 <= self.min_success <= 1:
            raise InputError(
                f"invalid min_success={self.min_success}: expected a share from 0 to 1",
                hint="give such as 0.9",
            )
        if self.dataset not in (False, True, "jsonl", "parquet"):
            raise InputError(f"invalid dataset={self.dataset!r}", hint='give "jsonl" or "parquet"')
        if self.on_error not in ("raise", "return"):
            raise InputError(f"invalid on_error={self.on_error!r}", hint='give "raise" or "return"')

    @property
    def tolerant(self) -> bool:
        """True if the run succeeds without some items, and so without a shard that fails permanently."""
        return self.on_error == "return" or self.min_success < 1

    @property
    def accepted(self) -> Accepted | None:
        """The number of failed items that is accepted; None for any number."""
        most = self.run.max_failures
        return None if most is None else Accepted(most, self.attempt or FIRST)

    def for_new_attempt(self) -> JobOptions:
        """Return the options of another attempt at the job, whose failures are counted from zero."""
        return self if self.run.max_failures is None else replace(self, attempt=new_attempt())

    @classmethod
    def of_record(cls, about: Mapping[str, Any], *, vouched: bool) -> JobOptions:
        """Return the options from the description that `about` returned, as far as they can be trusted.

        Args:
            vouched: True if the user's key signed it; otherwise the configuration of the steps is left out.
        """
        trusted = StepConfiguration.of_record(about.get("configuration", {})) if vouched else NOTHING
        rest = about if vouched else {**about, "requirements": ""}
        return cls(**{**rest, "run": RunOptions(**about.get("run", {})), "configuration": trusted})

    def about(self) -> dict[str, Any]:
        """Return a description of the options, as JSON."""
        return {**asdict(self), "run": self.run.about()}

    def of_shard(self) -> tuple[str, ...]:
        """Return the options of the command ``runwide shard``.

        Example:
            >>> JobOptions(RunOptions(workers=2), rerun_failed=True).of_shard()
            ('--workers', '2', '--rerun-failed')
        """
        words = self.run.words()
        if self.attempt:
            words = (*words, "--attempt", self.attempt)
        if self.tolerant:
            words = (*words, "--on-error", "return")
        return (*words, *self.of_scatter(), *(("--rerun-failed",) if self.rerun_failed else ()))

    def of_scatter(self) -> tuple[str, ...]:
        """Return the options of the command ``runwide scatter``, which may run some items to measure their time."""
        installs = ("--requirements-text", self.requirements) if self.requirements else ()
        return (*self.configuration.words(), *installs)

    def of_gather(self) -> tuple[str, ...]:
        """Return the options of the command ``runwide gather``."""
        form = self.of_scatter()
        form = (*form, "--dataset-format", "parquet") if self.dataset == "parquet" else form
        if self.on_error == "return":
            return (*form, "--on-error", "return")
        return form if self.min_success == 1 else (*form, "--min-success", str(self.min_success))


DEFAULT = JobOptions()
_DESCRIBED = ("--executor-input", dsl.PIPELINE_TASK_EXECUTOR_INPUT_PLACEHOLDER)


@dataclass(frozen=True, slots=True)
class Steps:
    """The three steps of a job, in one image."""

    scatter: Any
    shard: Any
    gather: Any


RUN_KEY = Input("run_key", str, ("--run-key",), default="-")  # some engines drop an empty text
# Engines cache a step by its inputs, and a cached scatter would name a job whose objects may have been removed.
RUN = Input("run", str, ("--run-id",), default=dsl.PIPELINE_JOB_ID_PLACEHOLDER)
ENV = Input("env", str, ("--env-text",))
"""Variables whose values are known when the pipeline runs: the scatter step composes them for the other steps."""

IMAGE = "RUNWIDE_IMAGE"
"""A variable of a step's container: the image."""

COMPOSED_ENV = "--composed-env"
ARTIFACTS = "--items-artifacts"
STORE_AND_SHARDS = (Input("store", str, ("--store",)), Input("components", int, ("--shards",)))
_BY_NAME = (
    Input("function", str, ("--function",)),
    Input("items", list, ("--items-parameter",)),
    Input("constants", dict, ("--constants-parameter",), default={}),
    *STORE_AND_SHARDS,
    RUN,
)


@cache
def steps_of(image: str, options: JobOptions = DEFAULT) -> Steps:
    """Return the three steps in an image; the function is an input of scatter, by name: ``"package.module:function"``.

    Args:
        image: URI of an image with ``runwide`` on its PATH.

    Example:
        >>> sorted(steps_of("runwide:1").shard.component_spec.inputs)
        ['index', 'job', 'run_key']
    """
    return Steps(
        scatter=scatter(image, _BY_NAME),
        shard=shard_step(image, options.of_shard(), options.configuration),
        gather=_gather(image, options),
    )


def scatter(image: str, inputs: Sequence[Input], *, fixed: Sequence[str] = ()) -> Any:
    """Return the scatter step, with the inputs of this call."""
    composed = any(COMPOSED_ENV in port.options for port in inputs)
    outputs = (
        Output("job", str, options=("--job-out",)),
        Output("shards", Strings, options=("--shards-out",)),
        Output("run_key", str, options=("--run-key-out",)),
        *((Output("env", str, options=("--env-out",)),) if composed else ()),
    )
    # an artifact's metadata may contain the format of its table
    described = _DESCRIBED if any(port.artifact for port in inputs) else ()
    return _step("scatter", image, inputs, outputs, fixed=(*described, *fixed))


def shard_step(image: str, words: Sequence[str], configuration: StepConfiguration) -> Any:
    """Return the step that runs one shard.

    Args:
        words: Options of the command ``runwide shard``.
        configuration: Configuration of the step; its variables and secrets are among the words.
    """
    inputs = (Input("job", str), Input("index", str), RUN_KEY, *_env_of(configuration))
    outputs = (Output("manifest", str, options=("--manifest-out",)),)
    step = _step("shard", image, inputs, outputs, fixed=words)
    step.component_spec.implementation.container.env = {IMAGE: image}  # for the events of its run
    return step


def _env_of(configuration: StepConfiguration) -> tuple[Input, ...]:
    return (ENV,) if configuration.composed else ()


def gathered(options: JobOptions) -> list[Output]:
    """Return the outputs of the gather step."""
    outputs = [Output("result", str, options=("--result-out",))]
    if options.dataset:
        outputs.append(Output("dataset", dsl.Dataset, options=("--dataset-out",), artifact=True))
    if options.report:
        outputs.append(Output("report", dsl.HTML, options=("--report-out",), artifact=True))
        outputs.append(Output("metrics", dsl.Metrics, options=("--metrics-out",), artifact=True))
    return outputs


def _gather(image: str, options: JobOptions) -> Any:
    shards = Input("shards", Strings, ("--shards-json",))
    inputs = (Input("job", str), shards, RUN_KEY, *_env_of(options.configuration))
    # engines show the metadata of an artifact, which a step writes in the description of its outputs
    described = _DESCRIBED if options.report or options.dataset else ()
    return _step("gather", image, inputs, gathered(options), fixed=(*described, *options.of_gather()))


def _step(
    verb: str, image: str, inputs: Sequence[Input], outputs: Sequence[Output], fixed: Sequence[str] = ()
) -> Any:
    """Return a container component: kfp reads its interface from a function's signature."""
    # Python wants parameters with a default last, outputs among the others
    ports: list[Input | Output] = [*inputs, *outputs]
    ports.sort(key=lambda port: isinstance(port, Input) and (port.default is not None or port.optional))

    def step(*values: Any) -> dsl.ContainerSpec:
        args = [word for port, value in zip(ports, values, strict=True) for word in _words(port, value)]
        return dsl.ContainerSpec(image=image, command=["runwide", verb], args=[*args, *fixed])

    types = {port.name: _annotation(port) for port in ports}
    defaults = {port.name: port.default for port in inputs if port.default is not None or port.optional}
    return dsl.container_component(with_signature(step, verb, types, defaults=defaults))


def _annotation(port: Input | Output) -> Any:
    if isinstance(port, Input):
        return port.annotation
    return dsl.Output[port.type] if port.artifact else dsl.OutputPath(port.type)


def _words(port: Input | Output, value: Any) -> list[Any]:
    """Return the words on the command line for a parameter; none for an optional one that is left out."""
    words = [*port.options, _word(port, value)]
    if isinstance(port, Input) and port.optional:
        return [dsl.IfPresentPlaceholder(input_name=port.name, then=words)]
    return words


def _word(port: Input | Output, value: Any) -> Any:
    if not port.artifact:
        return value
    if (
        ARTIFACTS in port.options
    ):  # no placeholder gives many URIs: the command reads them from its description
        return port.name
    return value.path if isinstance(port, Output) else value.uri


def write_yaml(folder: Path, image: str) -> list[Path]:
    """Compile the three steps into ``scatter.yaml``, ``shard.yaml`` and ``gather.yaml``."""
    folder.mkdir(parents=True, exist_ok=True)
    made = steps_of(image)
    files = {"scatter": made.scatter, "shard": made.shard, "gather": made.gather}
    for name, component in files.items():
        compiler.Compiler().compile(component, str(folder / f"{name}.yaml"))
    return [folder / f"{name}.yaml" for name in files]
