"""The function, items and constants of a call, made into a function of one item and its items."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from runwide.calls import Starred, check_constants
from runwide.errors import WrongType
from runwide.fitness import check
from runwide.naming import shown

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
        function: The user's function.
        items: The first iterable.
        iterables: The other iterables; the shortest of all ends the call.
        constants: Keyword arguments that are the same for each item.
        starred: True to unpack each item into arguments.

    Raises:
        TypeError: The function is not callable, an iterable is not iterable, or ``constants`` is not a dict with text keys.
        InputError: Workers cannot run the function.

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
        check_constants(function, constants, "constants=", items=None)
        function = partial(function, **constants) if constants else function
    if iterables:
        return Starred(function), zip(*map(values_of, (items, *iterables)))  # noqa: B905 - the shortest ends it
    return (Starred(function) if starred else function), items


def values_of(items: Iterable[Any]) -> Iterable[Any]:
    """Return items; for the reference of a job, an iterator of its results.

    Example:
        >>> values_of([1, 2])
        [1, 2]
    """
    if isinstance(items, str):
        from runwide.job.reference import is_reference  # few calls need it

        if is_reference(items):
            from runwide.job._gather import load

            return load(items, stream=True)
    return items
