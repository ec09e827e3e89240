"""Check the arguments of a fan-out: names, stores, counts, types, items, and values that look like secrets."""

from __future__ import annotations

import dataclasses
import json
import operator
import os
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kfp import dsl

from runwide import settings
from runwide.api.functions import imported
from runwide.cli.given import composed
from runwide.errors import InputError
from runwide.log import Log
from runwide.naming import kind_of
from runwide.redaction import redacted_fields, shortened
from runwide.store import windows
from runwide.store.base import without_fields
from runwide.tables.formats import checked_format, checked_types
from runwide.tables.sources import check_words
from runwide_components.channels import declared, is_artifact, is_channel, is_of_loop
from runwide_components.steps import ARTIFACTS

if TYPE_CHECKING:
    from runwide_components.steps import Input


def checked_count(components: Any) -> int:
    """Return a number of components as an int.

    Example:
        >>> checked_count(4)
        4
        >>> checked_count("4")
        Traceback (most recent call last):
        runwide.errors.InputError: components='4' is a str, not a whole number; give it without quotes, such as 4
    """
    try:
        count = None if isinstance(components, bool) else operator.index(components)
    except TypeError:
        count = None
    if count is None:
        text = isinstance(components, str)
        quotes = "without quotes, such as 4" if text else "as an int, such as 4"
        raise InputError(
            f"components={shortened(repr(components), 100)} is {kind_of(components)}, not a whole number",
            hint=f"give it {quotes}",
        )
    if count < 1:
        raise InputError(f"invalid components={count}: expected 1 or more")
    return count


def check_constant_names(constants: Any) -> None:
    """Reject constants that are not a dict of names."""
    if not isinstance(constants, Mapping) or not all(isinstance(name, str) for name in constants):
        raise InputError(
            f"constants= is {kind_of(constants)}, not a dict of names",
            hint='give one such as {"factor": 2}; a parameter of the pipeline is a value in it',
        )


def checked_store(store: str | os.PathLike[str] | None) -> str:
    """Return a store, by default ``RUNWIDE_STORE``."""
    found = without_fields(os.fspath(store or settings.read().store or ""))
    if not found:
        raise InputError("there is no store", hint='give store="gs://bucket/runs", or set RUNWIDE_STORE')
    return found


def shared_store(store: Any) -> Any:
    """Return a store; reject one in the memory of this process, which no step can reach."""
    if isinstance(store, str) and store.startswith("memory:"):
        raise InputError(
            "a step cannot reach this store: it is in the memory of one process",
            uri=store,
            hint="give a folder, or gs://bucket/prefix",
        )
    return store


def absolute(text: Any, what: str) -> Any:
    """Return a local folder as an absolute URI: steps have other working directories.

    Args:
        text: A store or folder; any other value is returned unchanged.
    """
    if not isinstance(text, str):
        return text
    text = str.__str__(text)  # kfp accepts no subclass of str, such as a member of an enum
    without_fields(text, what)
    # on a client with Windows, where absolute paths have a drive, it is a path of the steps' system
    is_elsewhere = windows.is_here() and text.startswith("/")
    if not text or "://" in text or text.startswith("{{") or is_elsewhere:
        return text
    try:
        return str(Path(text).absolute()) if "{{" in text else Path(text).resolve().as_uri()
    except ValueError as error:  # a null character
        raise InputError(
            f"invalid {what}={text!r}: not a path ({error})", hint="give a URI such as gs://bucket/runs"
        ) from error


def known_function(function: Any) -> Callable[..., Any] | None:
    """Return the function, also for a name; None if it cannot be imported here."""
    if not isinstance(function, str):
        return function if callable(function) else None
    if not re.fullmatch(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*", function):
        raise InputError(f"invalid name of a function {function!r}", hint='give "package.module:function"')
    try:
        value: Any = imported(function)
    except Exception:  # the image has the module, and this machine need not have it
        return None
    if not callable(value):
        raise InputError(
            f"{function} is {kind_of(value)}, not a function", hint='give "package.module:function"'
        )
    found: Callable[..., Any] = value
    return found


def checked(value: Any, port: Input) -> Any:
    """Return the value of an input in the form that kfp accepts."""
    if port.name == "components":
        return checked_count(value)
    if isinstance(value, str) and re.search(r"\{\{.*\}\}", value):
        raise InputError(
            f"{port.name}={value!r} has a placeholder that no engine replaces",
            hint="put a parameter of the pipeline into the text, or one of the placeholders of kfp.dsl",
        )
    if not isinstance(value, port.type) or not value:
        raise InputError(f"invalid {port.name}={value!r}", hint='give a URI such as "gs://bucket/runs"')
    return port.type(value)  # kfp accepts no member of an enum


def check_type(channel: Any, name: str, wanted: type) -> None:
    """Reject a parameter or output with another type than an input."""
    if is_artifact(channel) or declared(channel).kind not in (
        wanted.__name__,
        *(["json"] if is_of_loop(channel) else []),
    ):
        raise InputError(
            f"{name} is a {channel.channel_type} of the pipeline, not a {wanted.__name__}",
            hint=f"annotate it as {wanted.__name__}",
        )


def no_list(items: Any) -> InputError:
    """Return the error for items that are a parameter of another type."""
    return InputError(
        f"items is a {items.channel_type} of the pipeline, not a list",
        hint="annotate it as list, or give a URI as str",
    )


def listed(items: Any) -> list[Any]:
    """Return the items of a fan-out as a list; reject tables, which iterate over columns.

    Example:
        >>> listed(range(3))
        [0, 1, 2]
    """
    if isinstance(items, dsl.PipelineTask):
        raise InputError("items is a task, not its output", hint="pass its .output")
    if rows := _rows_of(items):
        raise InputError(
            f"items is {kind_of(items)}, and iterating over it gives columns, not rows",
            hint=f"give its rows: {rows}",
        )
    if isinstance(items, (str, bytes, Mapping)) or not _is_iterable(items):
        raise InputError(f"items is {kind_of(items)}, not a list", hint="give a list, or a List output")
    return list(items)


def _rows_of(items: Any) -> str:
    """Return the call that gives the rows of a table of pandas, polars or pyarrow; empty for any other value."""
    if not hasattr(items, "columns") or isinstance(items, Mapping):
        return ""
    known = {"iloc": 'to_dict("records")', "to_dicts": "to_dicts()", "to_pylist": "to_pylist()"}
    return next((f"items.{call}" for name, call in known.items() if hasattr(items, name)), "")


def _is_iterable(items: Any) -> bool:
    try:
        return isinstance(items, Iterable) and iter(items) is not None
    except TypeError:  # an array of numpy without a dimension
        return False


_TABLES = ("--items-from",), ("--composed", "items"), (ARTIFACTS,)


def items_words(
    given: Iterable[tuple[Input, Any]], items_format: str | None, items_types: Mapping[str, Any] | None
) -> tuple[str, ...]:
    """Return the options of the scatter step for ``items_format=`` and ``items_types=`` of `fan_out`.

    Example:
        >>> from runwide_components.steps import Input
        >>> items_words([(Input("items", str, ("--items-from",)), "gs://bucket/x")], "csv", {"n": int})
        ('--items-format', 'csv', '--items-types', '{"n": "int"}')
    """
    form, types = checked_format(items_format), checked_types(items_types, items_format)
    words = (
        *(("--items-format", form) if form else ()),
        *(("--items-types", json.dumps(types)) if types else ()),
    )
    tables = [(port, value) for port, value in given if port.options in _TABLES]
    for port, value in tables:
        if isinstance(value, str):
            check_words(_text(port, value), form, types)
    if words and not tables:
        raise InputError(
            "items_format= and items_types= describe a table, and the items are a list",
            hint="leave them out, or give the URI of a table, or an artifact",
        )
    return words


def _text(port: Input, value: str) -> str:
    """Return the URI of a table, with braces for its parameters."""
    if port.options == ("--items-from",):
        return value
    return "".join(part if isinstance(part, str) else "{}" for part in composed(value, "items").parts)


_log = Log("components")
_LEVELS = 50  # of nested values in which secrets are looked for


def warn_of_secrets(what: str, values: Mapping[str, Any]) -> None:
    """Log which values of a pipeline look like secrets: everyone who can see the pipeline can read them."""
    for name, value in values.items():
        plain = {name: _shown(value)}
        if redacted_fields(plain) != plain:
            _log.warning(
                "secret.compiled",
                **{what: name},
                cause="it looks like a secret, and is in the compiled pipeline in clear text",
                hint="give a secret of Secret Manager in secrets=, such as projects/P/secrets/S/versions/V: the steps "
                "read it, and the function gets it as a variable",
            )


def _shown(value: Any, inside: tuple[int, ...] = ()) -> Any:
    """Return the texts in a value, which may be secrets; parameters have no value yet."""
    if is_channel(value) or id(value) in inside or len(inside) > _LEVELS:
        return None
    around = (*inside, id(value))
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = {field.name: getattr(value, field.name, None) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(name): _shown(one, around) for name, one in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_shown(one, around) for one in value]
    return value if value is None or isinstance(value, (str, bool, int, float)) else kind_of(value)
