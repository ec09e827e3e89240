"""Items of a fan-out that stand in the program, as a list."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from kfp import dsl

from runwide.errors import InputError


def listed(items: Any) -> list[Any]:
    """Return the items of a fan-out as a list.

    Args:
        items: A list or another iterable.

    Raises:
        InputError: It is none, or gives something else than it seems to.

    Example:
        >>> listed(range(3))
        [0, 1, 2]
    """
    if isinstance(items, dsl.PipelineTask):
        raise InputError("items is a task, not what it puts out", hint="pass its .output")
    if rows := _rows_of(items):
        raise InputError(
            f"items is a {type(items).__name__}, of which Python gives the columns, not the rows",
            hint=f"give its rows: {rows}",
        )
    if isinstance(items, (str, bytes, Mapping)) or not _is_iterable(items):
        raise InputError(
            f"items is a {type(items).__name__}, not a list", hint="give a list, or a List output"
        )
    return list(items)


def _rows_of(items: Any) -> str:
    """How a table of pandas, polars or pyarrow gives its rows; empty for anything else."""
    if not hasattr(items, "columns") or isinstance(items, Mapping):
        return ""
    known = {"iloc": 'to_dict("records")', "to_dicts": "to_dicts()", "to_pylist": "to_pylist()"}
    return next((f"items.{call}" for name, call in known.items() if hasattr(items, name)), "")


def _is_iterable(items: Any) -> bool:
    try:
        return isinstance(items, Iterable) and iter(items) is not None
    except TypeError:  # an array of numpy without a dimension
        return False
