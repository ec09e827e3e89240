"""Values of a program on their way into a pipeline: pickled once, by value where a container could not import them."""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING, Any

from runwide.cli.given import UNFILLED
from runwide.errors import InputError, ItemNotPicklable
from runwide.unpicklable import refusal

if TYPE_CHECKING:
    from runwide.item_definitions import Definitions

_BITS = 2000  # of whole numbers; Python writes and reads only so many digits (sys.set_int_max_str_digits)
_BY_VALUE = (b"cloudpickle", b"runwide.arriving", b"runwide.places")
_OF_KFP = (b"kfp.dsl.pipeline_channel", b"kfp.dsl.for_loop", b"kfp.dsl.pipeline_task")


def values_bytes(value: Any, what: str = "the value", shared: Definitions | None = None) -> bytes:
    """The pickle of a value for another program.

    Args:
        value: The value.
        what: What it is, for errors.
        shared: Notes the modules of the program's own that it names.

    Raises:
        ItemNotPicklable: It, or something inside of it, cannot be pickled.
        InputError: It holds a parameter of a pipeline where `runwide.cli.given.rebuilt` does not look.

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
    """The value of a pickle that came with the command line, or was held against a digest that did.

    Args:
        data: The pickle.

    Raises:
        InputError: It cannot be loaded here.
    """
    try:
        return pickle.loads(data)  # noqa: TID251 - it came with the command line, as this command did
    except Exception as error:
        raise InputError(
            f"the values cannot be loaded here: {type(error).__name__}: {error}",
            hint="install in this image what they are made of, in the version of the program that compiled the pipeline",
        ) from error


def is_by_value(data: bytes) -> bool:
    """Whether a pickle holds code, which only the same minor version of Python can load.

    Example:
        >>> is_by_value(values_bytes([1])), is_by_value(values_bytes(lambda: 1))
        (False, True)
    """
    return any(name in data for name in _BY_VALUE)


def refuse_parameters(data: bytes, what: str) -> None:
    """Reject a pickle that holds a parameter of a pipeline, which has no value yet.

    Args:
        data: The pickle.
        what: What was pickled, for errors.

    Raises:
        InputError: It does.
    """
    text = UNFILLED.search(data.decode("latin-1"))
    if any(name in data for name in _OF_KFP) or (text and text[1] == "channel:task="):
        raise InputError(
            f"{what} holds a parameter of the pipeline, which has no value before it runs",
            hint="pass it in constants=, alone or inside of lists, tuples, dicts and dataclasses",
        )
    if text and text[1].startswith(("$.pipeline_", "$.workspace_path")):
        raise InputError(
            f"{what} holds {text[0]}, which an engine fills in only in texts that it can see",
            hint="pass it in constants=, alone or inside of lists, tuples, dicts and dataclasses",
        )
    if text:
        raise InputError(
            f"{what} holds {text[0]}, which engines take for something of the step that is told of it",
            hint="write the text in another way, or have the function put it together",
        )


def is_plain(value: Any, levels: int = 100) -> bool:
    """Whether JSON gives a value back exactly, every type in it included.

    Args:
        value: The value.
        levels: How many lists and dicts may be inside of each other.

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
