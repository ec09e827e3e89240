"""Arguments of a pipeline that would not survive their way to its steps, refused before it is submitted."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from google.protobuf import json_format

from runwide.cli.declared import SAFE, beyond
from runwide.cli.wire import ARGUMENT
from runwide.errors import InputError
from runwide_components.engines.stores import stores
from runwide_components.parameters import Inputs

if TYPE_CHECKING:
    from collections.abc import Mapping


def check_arguments(spec: Any, arguments: Mapping[str, Any], where: str = "") -> None:
    """Reject arguments that are too long for one argument of a step, and whole numbers that lose digits.

    Args:
        spec: The compiled pipeline; None where it is not known here.
        arguments: Of the run.
        where: What stands before the argument's name in an error.

    Raises:
        InputError: There is one.

    Example:
        >>> check_arguments(None, {"rows": [1, 2]})
    """
    defaults, kinds = ({}, {}) if spec is None else (_defaults(spec), Inputs.of(spec).kinds)
    for name, value in {**defaults, **arguments}.items():
        size = len((value if isinstance(value, str) else json.dumps(value, default=str)).encode())
        if size > ARGUMENT:
            raise InputError(
                f"{where}{name} takes {size} bytes, and one argument of a step takes {ARGUMENT}",
                hint="write it to a table, and pass its URI or an artifact",
            )
        if kinds.get(name) != "float":
            whole = kinds.get(name) == "int" and isinstance(value, float) and value.is_integer()
            _check_numbers(int(value) if whole else value, where + name)


def checked_stores(spec: Any, arguments: Mapping[str, Any], where: str = "") -> tuple[str, ...]:
    """The stores that a pipeline names, once its arguments are checked.

    Args:
        spec: As for `check_arguments`, and so are the others.
        arguments: Of the run.
        where: What stands before the argument's name in an error.

    Raises:
        InputError: An argument would not survive.
    """
    check_arguments(spec, arguments, where)
    return () if spec is None else tuple(stores(spec, arguments))


def _defaults(spec: Any) -> dict[str, Any]:
    found = spec.root.input_definitions.parameters
    return {
        name: json_format.MessageToDict(one.default_value)
        for name, one in found.items()
        if one.default_value.WhichOneof("kind")
    }


def _check_numbers(value: Any, where: str) -> None:
    if type(value) is int and abs(value) >= SAFE:
        raise beyond(value, where)
    if isinstance(value, list):
        for index, one in enumerate(value):
            _check_numbers(one, f"{where}[{index}]")
    elif isinstance(value, dict):
        for name, one in value.items():
            _check_numbers(one, f"{where}[{name!r}]")
