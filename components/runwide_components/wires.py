"""What goes into a fan-out: its function, items, constants, numbers and places, each as an input of the scatter step."""

from __future__ import annotations

import base64
import json
import re
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

from kfp import dsl
from kfp.dsl import pipeline_channel

from runwide.cli.sizing import AUTO
from runwide.errors import InputError, NoItems
from runwide.log import Log
from runwide.pool import function_bytes
from runwide.redaction import redacted_fields
from runwide.spill import open_store
from runwide_components.steps import STORE_AND_SHARDS, Input

_log = Log("components")

# The engine hands all inputs of a task over as one command-line argument, and Linux takes 128 KiB of it
# (MAX_ARG_STRLEN); quoting needs some of that.
INLINE_LIMIT = 64 * 1024

_TYPES: dict[str, type] = {
    "string": str, "str": str, "integer": int, "int": int, "float": float, "double": float,
    "boolean": bool, "bool": bool, "list": list, "dict": dict,
}  # fmt: skip


def wires(
    function: Callable[..., Any] | str, items: Any, components: Any, store: Any, constants: Mapping[str, Any]
) -> list[tuple[Input, Any]]:
    """Each input of the scatter step with its value, which may be a channel of the pipeline.

    Args:
        function: As `fan_out` takes it, and so are the others.
        items: The items.
        components: How many.
        store: Where the job goes.
        constants: Further keyword arguments.

    Raises:
        FunctionNotPicklable: The function cannot be sent to another process.
        InputError: Something of it cannot be meant.
    """
    store = _absolute(store)
    return [
        _function(function, store),
        _items(items, store),
        *_counts_and_places(components, store),
        *_constants(constants),
    ]


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
    if is_channel(items):
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
        _warn_of_secrets("items", {"items": values})
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
        if is_channel(value):
            _check_type(value, port.name, port.type)
        elif not isinstance(value, port.type) or not value or (port.type is int and value < 1):
            raise InputError(
                f"{port.name}={value!r} cannot be meant",
                hint="give a number of 1 or more"
                if port.type is int
                else 'give a URI such as "gs://bucket/runs"',
            )
        yield port, value


def _warn_of_secrets(what: str, values: Mapping[str, Any]) -> None:
    """Say what of a pipeline that is compiled now looks like a secret: whoever may see the pipeline can read it."""
    for name, value in values.items():
        plain = {name: value}
        if redacted_fields(plain) != plain:
            _log.warning(
                "secret.compiled",
                **{what: name},
                cause="it looks like a secret, and stands in the compiled pipeline in clear",
                hint="name it in secrets=, as Secret Manager does (projects/P/secrets/S/versions/V): the steps read it, "
                "and the function has it as a variable of its environment",
            )


def _constants(constants: Mapping[str, Any]) -> Iterator[tuple[Input, Any]]:
    fixed = {
        name: _as_json(value, f"constant {name!r}")
        for name, value in constants.items()
        if not is_channel(value)
    }
    _warn_of_secrets("constant", fixed)
    if fixed:
        yield Input("constants", str, ("--constants-json",)), json.dumps(fixed)
    for name, channel in constants.items():
        if is_channel(channel):
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


def is_channel(value: Any) -> bool:
    """Whether it is a parameter of the pipeline or an output of a task, known only when it runs."""
    return isinstance(value, pipeline_channel.PipelineChannel)


def slug(function: Any) -> str:
    """A function's name as a part of a task's name."""
    name = function.rpartition(":")[2] if isinstance(function, str) else getattr(function, "__name__", "call")
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "call"
