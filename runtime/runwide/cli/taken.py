"""Arguments that a function takes beside its item, checked before there is a job of which every item fails."""

from __future__ import annotations

import inspect
import sys
from functools import partial
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, get_type_hints

from runwide.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


def check_constants(function: Callable[..., Any], names: Iterable[str], what: str) -> None:
    """Reject constants that a function does not take, and a function that needs more than its item and these.

    Args:
        function: Takes the item first.
        names: Names of the constants.
        what: What they are called, for errors.

    Raises:
        InputError: They do not fit.

    Example:
        >>> check_constants(lambda x, k: x * k, ["k"], "constants=")
    """
    try:
        taken = inspect.signature(function, follow_wrapped=False)
    except (TypeError, ValueError):  # a builtin may not say what it takes
        return
    try:
        taken.bind(None, **dict.fromkeys(names))
    except TypeError as error:
        raise InputError(
            f"{what} does not fit the function: {error}",
            hint=f"it takes {taken}, the item first",
        ) from error


def without_default(function: Callable[..., Any], name: str) -> bool:
    """Whether a function has a parameter of this name that needs a value.

    Args:
        function: The function.
        name: Of the parameter.

    Example:
        >>> without_default(lambda x, k: x, "k"), without_default(lambda x, k=1: x, "k"), without_default(print, "k")
        (True, False, False)
    """
    try:
        found = inspect.signature(function, follow_wrapped=False).parameters.get(name)
    except (TypeError, ValueError):  # a builtin may not say what it takes
        return False
    return found is not None and found.default is inspect.Parameter.empty


def annotations_of(function: Any) -> tuple[Any, dict[str, Any]]:
    """The annotation of a function's item, and those of its other parameters by name; None where there is none.

    Args:
        function: Takes the item first.

    Example:
        >>> annotations_of(lambda x, k: x)
        (None, {})
        >>> class Scaled:
        ...     x: float
        ...     def __call__(self, x: int) -> int:
        ...         return x
        >>> annotations_of(Scaled())
        (<class 'int'>, {'x': <class 'int'>})
    """
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError, NameError):  # a builtin may not say what it takes
        return None, {}
    names = _globals_of(function)
    found = {
        name: hint
        for name, one in parameters.items()
        if (hint := _resolved(one.annotation, names)) is not None
    }
    return found.get(next(iter(parameters), "")), found


def _globals_of(function: Any) -> dict[str, Any]:
    """The names that annotations of a function are written with."""
    while isinstance(function, partial):
        function = function.func
    if not isinstance(function, type) and not hasattr(inspect.unwrap(function), "__code__"):
        function = getattr(function, "__func__", None) or type(function).__call__
    if isinstance(function, type):
        return vars(sys.modules[function.__module__]) if function.__module__ in sys.modules else {}
    return getattr(inspect.unwrap(function), "__globals__", {})


def _resolved(annotation: Any, names: dict[str, Any]) -> Any:
    """An annotation, evaluated if it is a text; None where there is none, or one that only type checkers know."""
    if annotation is inspect.Parameter.empty:
        return None
    try:
        return get_type_hints(SimpleNamespace(__annotations__={"it": annotation}), names)["it"]
    except Exception:  # evaluating runs the author's names
        return None
