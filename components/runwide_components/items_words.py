"""The options with which the scatter step of a fan-out reads a table of items."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from runwide.cli.formats import checked_format, checked_types
from runwide.cli.given import composed
from runwide.cli.sources import check_words
from runwide.errors import InputError
from runwide_components.steps import ARTIFACTS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from runwide_components.steps import Input

_TABLES = ("--items-from",), ("--composed", "items"), (ARTIFACTS,)


def items_words(
    given: Iterable[tuple[Input, Any]], items_format: str | None, items_types: Mapping[str, Any] | None
) -> tuple[str, ...]:
    """Return the options of the scatter step for ``items_format=`` and ``items_types=`` of `fan_out`.

    Args:
        given: The inputs of the scatter step with their values.
        items_format: As for `fan_out`.
        items_types: As for `fan_out`.

    Raises:
        InputError: One of them is invalid, contradicts the URI of the items, or the items are a list.

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
