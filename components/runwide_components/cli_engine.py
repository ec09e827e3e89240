"""The options of commands that say which engine runs something, and the engine that they describe."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from runwide import settings
from runwide.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from runwide_components.engines.base import Engine

_OPTIONS = (
    click.option(
        "--engine",
        type=click.Choice(["docker", "subprocess", "vertex", "kubeflow"]),
        help="Where it runs: in containers or subprocesses of this machine, on Vertex AI, on Kubeflow Pipelines.",
    ),
    click.option("--project", help="Vertex: the project."),
    click.option("--location", help="Vertex: the region."),
    click.option("--pipeline-root", help="Vertex, Kubeflow: where kfp itself writes."),
    click.option("--service-account", help="Vertex, Kubeflow: whom the steps run as."),
    click.option("--network", help="Vertex: full name of the VPC network."),
    click.option("--host", help="Kubeflow: URL of the server."),
    click.option("--namespace", help="Kubeflow: the user's namespace."),
    click.option("--experiment", help="Kubeflow: the experiment."),
)

ENGINE_OPTIONS = (
    "project", "location", "pipeline_root", "service_account", "network", "host", "namespace", "experiment",
)  # fmt: skip

on_error = click.option(
    "--on-error",
    type=click.Choice(["raise", "return"]),
    default="raise",
    help="Of a job; return: a component that fails for good leaves its items failed, and does not fail the run.",
)


_TAKEN = {
    "docker": (),
    "subprocess": (),
    "vertex": ("project", "location", "pipeline_root", "service_account", "network"),
    "kubeflow": ("pipeline_root", "service_account", "host", "namespace", "experiment"),
}


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _check_place(given: Mapping[str, Any]) -> None:
    """Reject a run on Vertex AI of which neither options nor variables say where."""
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


def with_engine(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options of an engine.

    Args:
        command: The function of a click command.
    """
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def engine_from(engine: str | None, **options: Any) -> Engine | None:
    """The engine that the options of a command describe; None where none is named.

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
                f"{_option(next(iter(given)))} is of no use without --engine",
                hint="give --engine vertex, or --engine kubeflow, as well",
            )
        return None
    if strange := [name for name in given if name not in _TAKEN[engine]]:
        taken = ", ".join(map(_option, _TAKEN[engine])) or "none of these options"
        owners = " or ".join(one for one, names in _TAKEN.items() if strange[0] in names)
        raise InputError(
            f"{_option(strange[0])} is an option of --engine {owners}, not of {engine}",
            hint=f"leave it out; --engine {engine} takes {taken}",
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
