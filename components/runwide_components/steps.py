"""The container components scatter, shard and gather, which start the ``runwide`` command themselves.

They need no kfp in the container, and no pip step at its start. Every value between them is a string,
because kfp.local turns the integers inside of lists into floats.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from functools import cache
from typing import TYPE_CHECKING, Any, Optional

from kfp import compiler, dsl

from runwide.cli.requirements import checked
from runwide.errors import InputError
from runwide.job.limit import FIRST, Accepted, new_attempt
from runwide.options import DEFAULTS, RunOptions
from runwide_components.configuration import NOTHING, StepConfiguration
from runwide_components.signature import with_signature

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

Strings = list[str]  # kfp knows a list only by its runtime type


@dataclass(frozen=True, slots=True)
class Input:
    """An input parameter of a step and the options that carry it on the command line.

    Args:
        name: Name of the parameter.
        type: Its kfp type: ``str``, ``int``, ``float``, ``bool``, ``list`` or ``dict``.
        options: What stands before the value on the command line; nothing for a positional argument.
        default: Default value of the parameter, None where it must be given.
        artifact: Whether it is an artifact, of which the command is given the URI.
        optional: Whether it may be left out, and its options with it.
    """

    name: str
    type: Any
    options: tuple[str, ...] = ()
    default: Any = None
    artifact: bool = False
    optional: bool = False

    @property
    def annotation(self) -> Any:
        """Its type as kfp takes it."""
        return Optional[self.type] if self.optional else self.type  # noqa: UP045 - kfp knows no other form


@dataclass(frozen=True, slots=True)
class Output:
    """An output of a step and the option that names the file to write it to.

    Args:
        name: Its name.
        type: Its kfp type, of a parameter or of an artifact.
        options: What stands before the file on the command line.
        artifact: Whether it is an artifact.
    """

    name: str
    type: Any
    options: tuple[str, ...] = field(kw_only=True)
    artifact: bool = False


@dataclass(frozen=True, slots=True)
class JobOptions:
    """How the items are run; the meanings are those of `runwide.map`.

    Args:
        run: The options of `runwide.map`; an ``initializer`` travels with the function.
        on_error: Whether failed items fail the gather: ``"raise"`` or ``"return"``.
        min_success: Share of the items that must have succeeded, with ``"raise"``.
        dataset: Whether the gather writes the results as a dataset as well: ``"jsonl"``, ``"parquet"``, True for the former.
        report: Whether the gather makes the page of what happened, and its numbers.
        rerun_failed: Whether items that have failed before run again.
        configuration: What the steps are given beside, and where they run.
        requirements: What each step installs first, as `runwide.cli.requirements.text_of` returns it.
        attempt: Names this attempt at the job, whose components count their failures together.

    Raises:
        InputError: A value cannot be meant.
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
                f"min_success={self.min_success} cannot be meant", hint="give a share from 0 to 1"
            )
        if self.dataset not in (False, True, "jsonl", "parquet"):
            raise InputError(f"dataset={self.dataset!r} cannot be meant", hint='say "jsonl" or "parquet"')
        if self.on_error not in ("raise", "return"):
            raise InputError(f"on_error={self.on_error!r} cannot be meant", hint='say "raise" or "return"')

    @property
    def tolerant(self) -> bool:
        """Whether the run goes on without some items, and so without a shard that fails for good."""
        return self.on_error == "return" or self.min_success < 1

    @property
    def accepted(self) -> Accepted | None:
        """How many failed items are accepted; None for any number."""
        most = self.run.max_failures
        return None if most is None else Accepted(most, self.attempt or FIRST)

    def anew(self) -> JobOptions:
        """Return the same for another attempt at the job, whose failures are counted anew."""
        return self if self.run.max_failures is None else replace(self, attempt=new_attempt())

    @classmethod
    def of_record(cls, about: Mapping[str, Any], *, vouched: bool) -> JobOptions:
        """Return the options that `about` described, as far as they are believed.

        Args:
            about: The description.
            vouched: Whether the user's key has signed it; if not, nothing of the steps' configuration is believed.

        Raises:
            TypeError: It is no description.
        """
        told = StepConfiguration.of_record(about.get("configuration", {})) if vouched else NOTHING
        rest = about if vouched else {**about, "requirements": ""}
        return cls(**{**rest, "run": RunOptions(**about.get("run", {})), "configuration": told})

    def about(self) -> dict[str, Any]:
        """What makes the same options again, as JSON."""
        return {**asdict(self), "run": self.run.about()}

    def of_shard(self) -> tuple[str, ...]:
        """The words that ``runwide shard`` is given.

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
        """The words that ``runwide scatter`` is given, which may run some items to see how long they take."""
        return (*self.configuration.words(), *self._installs)

    @property
    def _installs(self) -> tuple[str, ...]:
        return ("--requirements-text", self.requirements) if self.requirements else ()

    def of_gather(self) -> tuple[str, ...]:
        """The words that ``runwide gather`` is given."""
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


RUN_KEY = Input("run_key", str, ("--run-key",), default="-")  # an empty text is no parameter to some engines
# Engines cache a step by its inputs. A cached scatter names a job whose objects may have been removed since.
RUN = Input("run", str, ("--run-id",), default=dsl.PIPELINE_JOB_ID_PLACEHOLDER)
ENV = Input("env", str, ("--env-text",))
"""Variables of which the pipeline knows the values when it runs: the scatter step puts them together for the others."""

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
    """The steps in an image; scatter takes its function by name, ``"package.module:function"``.

    Args:
        image: URI of an image with ``runwide`` in it and on its PATH.

    Example:
        >>> sorted(steps_of("runwide:1").shard.component_spec.inputs)
        ['index', 'job', 'run_key']
    """
    return Steps(
        scatter=scatter(image, _BY_NAME), shard=_shard(image, options), gather=_gather(image, options)
    )


def scatter(image: str, inputs: Sequence[Input], *, fixed: Sequence[str] = ()) -> Any:
    """The step that spills a function and its items, with the inputs that one call needs.

    Args:
        image: URI of the image.
        inputs: The parameters of this scatter and their options.
        fixed: Further words of the command.
    """
    composed = any(COMPOSED_ENV in port.options for port in inputs)
    outputs = (
        Output("job", str, options=("--job-out",)),
        Output("shards", Strings, options=("--shards-out",)),
        Output("run_key", str, options=("--run-key-out",)),
        *((Output("env", str, options=("--env-out",)),) if composed else ()),
    )
    # an artifact's metadata may tell the format of the table that it is
    described = _DESCRIBED if any(port.artifact for port in inputs) else ()
    return _step("scatter", image, inputs, outputs, fixed=(*described, *fixed))


def _shard(image: str, options: JobOptions) -> Any:
    inputs = (Input("job", str), Input("index", str), RUN_KEY, *_env_of(options))
    outputs = (Output("manifest", str, options=("--manifest-out",)),)
    return _step("shard", image, inputs, outputs, fixed=options.of_shard())


def _env_of(options: JobOptions) -> tuple[Input, ...]:
    return (ENV,) if options.configuration.composed else ()


def gathered(options: JobOptions) -> list[Output]:
    """What the gather step puts out."""
    outputs = [Output("result", str, options=("--result-out",))]
    if options.dataset:
        outputs.append(Output("dataset", dsl.Dataset, options=("--dataset-out",), artifact=True))
    if options.report:
        outputs.append(Output("report", dsl.HTML, options=("--report-out",), artifact=True))
        outputs.append(Output("metrics", dsl.Metrics, options=("--metrics-out",), artifact=True))
    return outputs


def _gather(image: str, options: JobOptions) -> Any:
    shards = Input("shards", Strings, ("--shards-json",))
    inputs = (Input("job", str), shards, RUN_KEY, *_env_of(options))
    # engines show what is in the metadata of an artifact, and learn of it from what a step says of its outputs
    described = _DESCRIBED if options.report or options.dataset else ()
    return _step("gather", image, inputs, gathered(options), fixed=(*described, *options.of_gather()))


def _step(
    verb: str, image: str, inputs: Sequence[Input], outputs: Sequence[Output], fixed: Sequence[str] = ()
) -> Any:
    """A container component from its table: kfp reads the interface from a function's signature."""
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
    """What stands on the command line for a parameter; nothing where an optional one is left out."""
    words = [*port.options, _word(port, value)]
    if isinstance(port, Input) and port.optional:
        return [dsl.IfPresentPlaceholder(input_name=port.name, then=words)]
    return words


def _word(port: Input | Output, value: Any) -> Any:
    if not port.artifact:
        return value
    if (
        ARTIFACTS in port.options
    ):  # an engine has no word for many URIs: the command finds them in its description
        return port.name
    return value.path if isinstance(port, Output) else value.uri


def write_yaml(folder: Path, image: str) -> list[Path]:
    """Compile the three steps into ``scatter.yaml``, ``shard.yaml`` and ``gather.yaml``.

    Args:
        folder: Where to; made if it is missing.
        image: URI of the image that they name.
    """
    folder.mkdir(parents=True, exist_ok=True)
    made = steps_of(image)
    files = {"scatter": made.scatter, "shard": made.shard, "gather": made.gather}
    for name, component in files.items():
        compiler.Compiler().compile(component, str(folder / f"{name}.yaml"))
    return [folder / f"{name}.yaml" for name in files]
