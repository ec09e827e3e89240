"""Check which arguments a function takes beside its item, before a job is made."""

from __future__ import annotations

import inspect
import sys
from functools import partial
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, get_type_hints

if TYPE_CHECKING:
    from collections.abc import Callable


def without_default(function: Callable[..., Any], name: str) -> bool:
    """Return whether a function has a parameter of this name without a default.

    Example:
        >>> without_default(lambda x, k: x, "k"), without_default(lambda x, k=1: x, "k"), without_default(print, "k")
        (True, False, False)
    """
    try:
        found = inspect.signature(function, follow_wrapped=False).parameters.get(name)
    except (TypeError, ValueError):  # some builtins have no signature
        return False
    return found is not None and found.default is inspect.Parameter.empty


def annotations_of(function: Any) -> tuple[Any, dict[str, Any]]:
    """Return the annotation of a function's first parameter, or None, and all annotations by name.

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
    except (TypeError, ValueError, NameError):  # some builtins have no signature
        return None, {}
    names = _globals_of(function)
    found = {
        name: hint
        for name, one in parameters.items()
        if (hint := _resolved(one.annotation, names)) is not None
    }
    return found.get(next(iter(parameters), "")), found


def _globals_of(function: Any) -> dict[str, Any]:
    """Return the global names that a function's annotations may use."""
    while isinstance(function, partial):
        function = function.func
    if not isinstance(function, type) and not hasattr(inspect.unwrap(function), "__code__"):
        function = getattr(function, "__func__", None) or type(function).__call__
    if isinstance(function, type):
        return vars(sys.modules[function.__module__]) if function.__module__ in sys.modules else {}
    return getattr(inspect.unwrap(function), "__globals__", {})


def _resolved(annotation: Any, names: dict[str, Any]) -> Any:
    """Evaluate an annotation; return None if there is none, or if only type checkers can evaluate it."""
    if annotation is inspect.Parameter.empty:
        return None
    try:
        return get_type_hints(SimpleNamespace(__annotations__={"it": annotation}), names)["it"]
    except Exception:  # evaluating runs the user's code
        return None
