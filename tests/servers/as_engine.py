"""Read the inputs of a scatter step as an engine would pass them, without a run."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import click

from runwide.cli import cli
from runwide.cli.given import LEFT_OUT
from runwide.cli.scatter_arguments import Arguments, Table

SCATTER = cli.get_command(click.Context(cli), "scatter")


@dataclass(frozen=True)
class Seen:
    """The values that a step has read."""

    items: list[Any]
    constants: dict[str, Any]
    store: str
    shards: str


def words_of(made: Any, **parameters: Any) -> list[str]:
    """Return the step's command line; a parameter that is None is left out."""
    words: list[str] = []
    for port, value in made.all:
        given = parameters[value.full_name] if hasattr(value, "channel_type") else value
        if given is not None:
            words += [*port.options, text_of(port.type, given)]
    return words


def seen(made: Any, **parameters: Any) -> Seen:
    """Return the values that a step reads, given the pipeline's parameters and outputs by name."""
    return read(words_of(made, **parameters))


def seen_in(spec: dict[str, Any]) -> Seen:
    """Return the values that the step of a compiled pipeline reads, if the pipeline has all its inputs."""
    (inputs,) = [
        tasks["scatter"]["inputs"]["parameters"]
        for component in spec["components"].values()
        if "scatter" in (tasks := component.get("dag", {}).get("tasks", {}))
    ]
    words = spec["deploymentSpec"]["executors"]["exec-scatter"]["container"]["args"]
    marks = {f"{{{{$.inputs.parameters['{name}']}}}}": one for name, one in inputs.items()}
    return read(
        [text_of(None, marks[word]["runtimeValue"]["constant"]) if word in marks else word for word in words]
    )


def read(words: list[str]) -> Seen:
    """Return the values that a step reads from its command line."""
    given = SCATTER.make_context("scatter", words).params
    arguments = Arguments.of(given["pickled"], given["composed"], given["given"])
    constants = arguments.constants(given["constants_json"], given["constants_parameter"], given["typed"])
    store, shards = arguments.text("store", given["store"]), arguments.text("shards", given["shards"])
    items = arguments.items(
        text=given["items_json"], file=None, parameter=given["items_parameter"], kind=given["items_type"],
        source=given["items_from"], table=Table(given["items_format"], given["items_types"], given["executor_input"]),
    )  # fmt: skip
    taken = {name: value for name, value in (constants or {}).items() if value is not LEFT_OUT}
    return Seen(items, taken, store, shards)


def text_of(kind: Any, value: Any) -> str:
    """Return a parameter's text as engines write it: all numbers are doubles, except parameters declared as int."""
    if isinstance(value, str):
        return value
    return str(int(value)) if kind is int else json.dumps(doubles(value))


def doubles(value: Any) -> Any:
    """Return a value with its numbers converted as by protobuf."""
    if isinstance(value, dict):
        return {name: doubles(one) for name, one in value.items()}
    if isinstance(value, list):
        return [doubles(one) for one in value]
    return float(value) if type(value) is int else value
