"""The options that describe an engine and the configuration of components."""

from __future__ import annotations

from functools import reduce
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from runwide import settings
from runwide.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from runwide_components.engines.base import Engine


class _EngineName(click.Choice):  # type: ignore[type-arg]  # generic since click 8.2
    """A built-in engine, or one that a package registers; that is looked up only for other names."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        from runwide_components.engines.registry import registered

        if value in self.choices or value in (more := registered()):
            return value
        return self.fail(
            f"unknown engine {value!r}: expected one of {', '.join([*self.choices, *more])}", param, ctx
        )


_ENGINE = (
    click.option(
        "--engine",
        type=_EngineName(["docker", "subprocess", "vertex", "kubeflow"]),
        help="The engine: containers or subprocesses on this machine, Vertex AI, Kubeflow Pipelines; or the name of one "
        "that a package registers, which has its default options.",
    ),
    click.option("--project", help="Vertex: the project."),
    click.option("--location", help="Vertex: the region."),
    click.option("--pipeline-root", help="Vertex, Kubeflow: folder for the files of kfp itself."),
    click.option("--service-account", help="Vertex, Kubeflow: service account of the steps."),
    click.option("--network", help="Vertex: full name of the VPC network."),
    click.option("--host", help="Kubeflow: URL of the server."),
    click.option("--namespace", help="Kubeflow: the user's namespace."),
    click.option("--experiment", help="Kubeflow: the experiment."),
)

on_error_option = click.option(
    "--on-error",
    type=click.Choice(["raise", "return"]),
    default="raise",
    help="Of a job; return: a component that fails permanently leaves its items failed, and does not fail the run.",
)


_TAKEN = {
    "docker": (),
    "subprocess": (),
    "vertex": ("project", "location", "pipeline_root", "service_account", "network"),
    "kubeflow": ("pipeline_root", "service_account", "host", "namespace", "experiment"),
}
ENGINE_OPTIONS = tuple(dict.fromkeys(name for names in _TAKEN.values() for name in names))


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _check_place(given: Mapping[str, Any]) -> None:
    """Reject a run on Vertex AI without project or location in options and variables."""
    missing = []
    if "project" not in given and not settings.value("GOOGLE_CLOUD_PROJECT"):
        missing.append(("--project", "GOOGLE_CLOUD_PROJECT"))
    if "location" not in given and not (
        settings.value("GOOGLE_CLOUD_REGION") or settings.value("GOOGLE_CLOUD_LOCATION")
    ):
        missing.append(("--location", "GOOGLE_CLOUD_REGION"))
    if missing:
        names = " and no ".join(option for option, _ in missing)
        ways = "; ".join(f"give {option}, or set {variable}" for option, variable in missing)
        raise InputError(f"--engine vertex has no {names}", hint=ways)


def adding(options: Iterable[Callable[..., Any]]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return a decorator that adds options to a click command."""

    def add(command: Callable[..., Any]) -> Callable[..., Any]:
        return reduce(lambda made, option: option(made), reversed(tuple(options)), command)

    return add


with_engine = adding(_ENGINE)


def engine_from(engine: str | None, **options: Any) -> Engine | None:
    """Return the engine that the options of a command describe; None without ``--engine``.

    Example:
        >>> engine_from("subprocess", project=None)
        Local('subprocess')
    """
    from runwide_components.engines.registry import engine_of

    given = {name: value for name, value in options.items() if value is not None}
    if engine is None:
        if given:
            raise InputError(
                f"{_option(next(iter(given)))} has no effect without --engine",
                hint="give --engine vertex, or --engine kubeflow, as well",
            )
        return None
    if foreign := [name for name in given if name not in _TAKEN.get(engine, ())]:
        taken = ", ".join(map(_option, _TAKEN.get(engine, ()))) or "none of these options"
        owners = " or ".join(one for one, names in _TAKEN.items() if foreign[0] in names)
        raise InputError(
            f"{_option(foreign[0])} is an option of --engine {owners}, not of {engine}",
            hint=f"leave it out; --engine {engine} has {taken}",
        )
    if engine == "kubeflow" and "host" not in given:
        raise InputError(
            "--engine kubeflow has no --host", hint="give --host https://…, the URL of its server"
        )
    if engine == "vertex":
        _check_place(given)
    if engine in ("docker", "subprocess"):
        return engine_of({"engine": "local", "runner": engine, **given})
    return engine_of({"engine": engine, **given})


_OF_FUNCTIONS = ("Of a function", "Of a job")  # the beginning of the help of these options
_OF_PIPELINES = ("Of a pipeline",)
_CONFIGURATION = (
    click.option(
        "--env",
        multiple=True,
        metavar="NAME=VALUE",
        help="Of a function: a variable, set before it or any of its modules is loaded. May be repeated.",
    ),
    click.option(
        "--secret",
        multiple=True,
        metavar="NAME=SECRET",
        help="Of a function: a variable that the components read from projects/P/secrets/S/versions/V of Secret Manager, or "
        "on Kubeflow from SECRET:KEY of Kubernetes. May be repeated.",
    ),
    click.option(
        "--label",
        multiple=True,
        metavar="NAME=VALUE",
        help="Of a function: a label of the run on Vertex, of pods on Kubeflow. May be repeated.",
    ),
    click.option(
        "--node-selector",
        multiple=True,
        metavar="NAME=VALUE",
        help="Of a function, on Kubeflow: a label that nodes must have. May be repeated.",
    ),
    click.option(
        "--toleration",
        multiple=True,
        metavar="KEY[=VALUE][:EFFECT]",
        help="Of a function, on Kubeflow: a taint that nodes may have, as kubectl taint writes it. May be repeated.",
    ),
)


configuring = adding(_CONFIGURATION)


def configuration_of(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options as arguments of `Components`.

    Example:
        >>> given = {"env": ("TZ=UTC",), "secret": ("K=shop:key",), "toleration": ("gpu:NoSchedule",)}
        >>> found = configuration_of({"label": (), "node_selector": (), **given})
        >>> found["env"], found["secrets"], found["tolerations"]
        ({'TZ': 'UTC'}, {'K': ('shop', 'key')}, [{'key': 'gpu', 'operator': 'Exists', 'effect': 'NoSchedule'}])
    """
    secrets = _pairs("--secret", options["secret"])
    return {
        "env": _pairs("--env", options["env"]),
        "secrets": {name: _secret(text) for name, text in secrets.items()},
        "labels": _pairs("--label", options["label"]),
        "node_selector": _pairs("--node-selector", options["node_selector"]),
        "tolerations": [_toleration(text) for text in options["toleration"]],
    }


def refuse_options_of_functions() -> None:
    """Reject options for a function together with a pipeline, which is configured when it is compiled."""
    if name := _given(_OF_FUNCTIONS):
        raise InputError(
            f"{name} is for a function: a compiled pipeline contains its configuration",
            hint="leave it out; give the option to fan_out, or make it a parameter of the pipeline",
        )


def refuse_options_of_pipelines() -> None:
    """Reject options for a pipeline together with a function."""
    if name := _given(_OF_PIPELINES):
        raise InputError(f"{name} is for a pipeline, not for a function", hint="leave it out")


def _given(beginnings: tuple[str, ...]) -> str | None:
    """Return the first option on the command line whose help begins with one of the texts."""
    context = click.get_current_context()
    for option in context.command.params:
        if (
            isinstance(option, click.Option)
            and (option.help or "").startswith(beginnings)
            and context.get_parameter_source(option.name or "") is ParameterSource.COMMANDLINE
        ):
            return option.opts[0]
    return None


def _pairs(option: str, texts: Iterable[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        # the text itself may be a secret, so it is not shown
        if not equals or not name or name in found:
            what = f"has {name} twice" if equals and name in found else "is not NAME=VALUE"
            raise InputError(f"{option} {what}", hint=f"give {option} NAME=VALUE once for each name")
        found[name] = value
    return found


def _secret(text: str) -> str | tuple[str, ...]:
    return text if "/" in text or ":" not in text else tuple(text.split(":", 1))


def _toleration(text: str) -> dict[str, str]:
    taint, _, effect = text.partition(":")
    key, equals, value = taint.partition("=")
    how = {"operator": "Equal", "value": value} if equals else {"operator": "Exists"}
    return {"key": key, **how, **({"effect": effect} if effect else {})}
