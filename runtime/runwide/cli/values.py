"""Pickle values of a program for a pipeline; objects that a container cannot import are pickled by value."""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING, Any

from runwide.cli.given import UNFILLED
from runwide.errors import InputError, ItemNotPicklable
from runwide.unpicklable import refusal

if TYPE_CHECKING:
    from runwide.item_definitions import Definitions

_BITS = 2000  # of integers: Python limits their digits (sys.set_int_max_str_digits)
_BY_VALUE = (b"cloudpickle", b"runwide.arriving", b"runwide.places")
_OF_KFP = (b"kfp.dsl.pipeline_channel", b"kfp.dsl.for_loop", b"kfp.dsl.pipeline_task")


def values_bytes(value: Any, what: str = "the value", shared: Definitions | None = None) -> bytes:
    """Pickle a value for another program.

    Args:
        value: The value.
        what: The name of the value, for errors.
        shared: Records the user's own modules that the pickle names.

    Raises:
        ItemNotPicklable: The value, or a part of it, cannot be pickled.
        InputError: It contains a parameter of a pipeline in a place that `runwide.cli.given.rebuilt` does not search.

    Example:
        >>> value_of_bytes(values_bytes((1, {2})))
        (1, {2})
    """
    try:
        data = _pickled(value, shared)
    except Exception as error:
        raise ItemNotPicklable(
            refusal(what, error, value),
            hint="pass plain data, and open files and connections inside the function",
        ) from error
    refuse_parameters(data, what)
    return data


def _pickled(value: Any, shared: Definitions | None) -> bytes:
    from runwide.item_definitions import Definitions
    from runwide.reproducible import item  # loads cloudpickle

    return item(value, shared or Definitions())


def value_of_bytes(data: bytes) -> Any:
    """Load a pickle from the command line, or from an object whose digest is on the command line.

    Raises:
        InputError: The pickle cannot be loaded here.
    """
    try:
        return pickle.loads(data)  # noqa: TID251 - as trusted as this command line
    except Exception as error:
        raise InputError(
            f"the values cannot be loaded here: {type(error).__name__}: {error}",
            hint="install their packages in this image, in the versions of the program that compiled the pipeline",
        ) from error


def is_by_value(data: bytes) -> bool:
    """Return whether a pickle contains code, which only the same minor version of Python can load.

    Example:
        >>> is_by_value(values_bytes([1])), is_by_value(values_bytes(lambda: 1))
        (False, True)
    """
    return any(name in data for name in _BY_VALUE)


def refuse_parameters(data: bytes, what: str) -> None:
    """Reject a pickle that contains a parameter of a pipeline, which has no value yet.

    Args:
        data: The pickle.
        what: The name of the pickled value, for errors.

    Raises:
        InputError: The pickle contains a parameter.
    """
    text = UNFILLED.search(data.decode("latin-1"))
    if any(name in data for name in _OF_KFP) or (text and text[1] == "channel:task="):
        raise InputError(
            f"{what} contains a parameter of the pipeline, which has no value before the pipeline runs",
            hint="pass it in constants=, alone or inside of lists, tuples, dicts and dataclasses",
        )
    if text and text[1].startswith(("$.pipeline_", "$.workspace_path")):
        raise InputError(
            f"{what} contains {text[0]}, which an engine fills in only in texts that it can see",
            hint="pass it in constants=, alone or inside of lists, tuples, dicts and dataclasses",
        )
    if text:
        raise InputError(
            f"{what} contains {text[0]}, which engines replace in the arguments of a step",
            hint="write the text in another way, or let the function compose it",
        )


def is_plain(value: Any, levels: int = 100) -> bool:
    """Return whether a value survives JSON exactly, with all its types, in at most so many nested levels.

    Example:
        >>> is_plain([1, 2.5, {"a": None}]), is_plain((1,)), is_plain({1: 2})
        (True, False, False)
    """
    kind = type(value)
    if kind in (dict, list):
        inner = value.values() if kind is dict else value
        named = kind is list or all(type(name) is str for name in value)
        return named and levels > 0 and all(is_plain(one, levels - 1) for one in inner)
    if kind is int:
        return bool(value.bit_length() <= _BITS)
    return value is None or kind in (str, bool) or (kind is float and value - value == 0)
