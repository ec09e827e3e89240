"""Reject arguments of a pipeline that its steps could not receive, before it is submitted."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from runwide.cli.declared import SAFE, beyond
from runwide.cli.wire import ARGUMENT
from runwide.errors import InputError
from runwide_components.engines.stores import defaults_of, stores_of
from runwide_components.parameters import Inputs

if TYPE_CHECKING:
    from collections.abc import Mapping


def check_arguments(spec: Any, arguments: Mapping[str, Any], where: str = "") -> None:
    """Reject arguments that are too long for one argument of a step, and whole numbers that lose digits.

    Args:
        spec: The compiled pipeline; None where it is not known here.
        arguments: Arguments of the run.
        where: Text before the argument's name in an error.

    Raises:
        InputError: An argument is too long, or loses digits.

    Example:
        >>> check_arguments(None, {"rows": [1, 2]})
    """
    defaults, kinds = ({}, {}) if spec is None else (defaults_of(spec.root), Inputs.of(spec).kinds)
    for name, value in {**defaults, **arguments}.items():
        size = len((value if isinstance(value, str) else json.dumps(value, default=str)).encode())
        if size > ARGUMENT:
            raise InputError(
                f"{where}{name} takes {size} bytes: an argument of a step has at most {ARGUMENT}",
                hint="write the value to a table, and pass its URI or an artifact",
            )
        if kinds.get(name) != "float":
            whole = kinds.get(name) == "int" and isinstance(value, float) and value.is_integer()
            _check_numbers(int(value) if whole else value, where + name)


def checked_stores(spec: Any, arguments: Mapping[str, Any], where: str = "") -> tuple[str, ...]:
    """Check the arguments of a run, and return the stores that its pipeline names.

    Raises:
        InputError: As for `check_arguments`.
    """
    check_arguments(spec, arguments, where)
    return () if spec is None else tuple(stores_of(spec, arguments))


def _check_numbers(value: Any, where: str) -> None:
    if type(value) is int and abs(value) >= SAFE:
        raise beyond(value, where)
    if isinstance(value, list):
        for index, one in enumerate(value):
            _check_numbers(one, f"{where}[{index}]")
    elif isinstance(value, dict):
        for name, one in value.items():
            _check_numbers(one, f"{where}[{name!r}]")
