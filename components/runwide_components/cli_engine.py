"""The options of commands that name an engine, and the engine that they describe."""

from __future__ import annotations

from functools import reduce
from typing import TYPE_CHECKING, Any

import click

from runwide import settings
from runwide.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from runwide_components.engines.base import Engine

_ENGINE = (
    click.option(
        "--engine",
        type=click.Choice(["docker", "subprocess", "vertex", "kubeflow"]),
        help="The engine: containers or subprocesses on this machine, Vertex AI, Kubeflow Pipelines.",
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

    Raises:
        InputError: An option is missing, or belongs to another engine.

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
    if foreign := [name for name in given if name not in _TAKEN[engine]]:
        taken = ", ".join(map(_option, _TAKEN[engine])) or "none of these options"
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
