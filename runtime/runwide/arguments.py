"""What a user gives as function, items and constants, as a function of one item and its items."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from runwide.calls import Starred
from runwide.errors import InputError, WrongType
from runwide.fitness import check
from runwide.naming import name_of, shown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


def made(
    function: Callable[..., Any],
    items: Iterable[Any],
    iterables: tuple[Iterable[Any], ...] = (),
    constants: Mapping[str, Any] | None = None,
    *,
    starred: bool = False,
) -> tuple[Callable[[Any], Any], Iterable[Any]]:
    """Return a function of one item, and its items, for a call that may have more than one iterable.

    Args:
        function: What the user has given.
        items: The first iterable.
        iterables: The others; the shortest of all ends them.
        constants: Keyword arguments that are the same for each item.
        starred: Whether each item is taken apart into arguments.

    Raises:
        TypeError: The function cannot be called, or something is not iterable, or constants are no keyword arguments.
        InputError: The function cannot be run by workers.

    Example:
        >>> function, items = made(pow, [2, 3], ([5, 2],), {"mod": 7})
        >>> [function(item) for item in items]
        [4, 2]
    """
    for one in (items, *iterables):
        check(function, one)
    if constants is not None:
        if not isinstance(constants, Mapping) or not all(isinstance(name, str) for name in constants):
            raise WrongType(
                f"constants must be keyword arguments by name, not {shown(constants)}",
                hint='give a dict, such as {"rate": 0.1}',
            )
        _check_constants(function, constants)
        function = partial(function, **constants) if constants else function
    if iterables:
        return Starred(function), zip(*map(values_of, (items, *iterables)))  # noqa: B905 - the shortest ends it
    return (Starred(function) if starred else function), items


def _check_constants(function: Callable[..., Any], constants: Mapping[str, Any]) -> None:
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError):  # a builtin may not say what it takes
        return
    kinds = {one.kind for one in parameters.values()}
    for name in constants if inspect.Parameter.VAR_KEYWORD not in kinds else ():
        if name not in parameters or parameters[name].kind is inspect.Parameter.POSITIONAL_ONLY:
            raise InputError(
                f"constants= has {name!r}, and {name_of(function)} has no such keyword argument",
                hint=f"it takes {', '.join(parameters) or 'none'}",
            )


def values_of(items: Iterable[Any]) -> Iterable[Any]:
    """Return the results of the job that a reference means, read one after another; other items as they are.

    Example:
        >>> values_of([1, 2])
        [1, 2]
    """
    if isinstance(items, str):
        from runwide.job.reference import is_reference  # rarely needed

        if is_reference(items):
            from runwide.job.gather import load

            return load(items, stream=True)
    return items
