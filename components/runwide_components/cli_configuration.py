"""The options of ``runwide submit`` that configure the components."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from runwide.errors import InputError
from runwide_components.cli_engine import adding

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

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

    Raises:
        InputError: The form of an option is invalid.

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
    """Reject options for a function together with a pipeline, which is configured when it is compiled.

    Raises:
        InputError: One is given.
    """
    if name := _given(_OF_FUNCTIONS):
        raise InputError(
            f"{name} is for a function: a compiled pipeline contains its configuration",
            hint="leave it out; give the option to fan_out, or make it a parameter of the pipeline",
        )


def refuse_options_of_pipelines() -> None:
    """Reject options for a pipeline together with a function.

    Raises:
        InputError: One is given.
    """
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
