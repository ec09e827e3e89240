"""Return the items of a fan-out as a list."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from kfp import dsl

from runwide.errors import InputError


def listed(items: Any) -> list[Any]:
    """Return the items of a fan-out as a list.

    Raises:
        InputError: It is not iterable, or iterates over something unexpected, such as columns.

    Example:
        >>> listed(range(3))
        [0, 1, 2]
    """
    if isinstance(items, dsl.PipelineTask):
        raise InputError("items is a task, not its output", hint="pass its .output")
    if rows := _rows_of(items):
        raise InputError(
            f"items is a {type(items).__name__}, and iterating over it gives columns, not rows",
            hint=f"give its rows: {rows}",
        )
    if isinstance(items, (str, bytes, Mapping)) or not _is_iterable(items):
        raise InputError(
            f"items is a {type(items).__name__}, not a list", hint="give a list, or a List output"
        )
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
