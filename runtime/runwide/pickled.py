"""Pickle the function of a map for other programs, or report the part that cannot be pickled."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from runwide import definitions, ending
from runwide.errors import FunctionNotPicklable
from runwide.fitness import check
from runwide.naming import name_of
from runwide.randomness import warn_of_generator
from runwide.unpicklable import refusal

if TYPE_CHECKING:
    from collections.abc import Callable

    from runwide.function_pickle import Pickle

T = TypeVar("T")


def function_pickle(function: Any) -> Pickle:
    """Pickle a function for other programs; the same source gives the same digest.

    Raises:
        FunctionNotPicklable: The function, or a part of its closure, cannot be pickled.
        PoolClosed: The interpreter has shut down.

    Example:
        >>> import pickle
        >>> pickle.loads(function_pickle(lambda x: x + 1).data)(1)
        2
    """
    from runwide import reproducible  # loads cloudpickle

    check(function)
    return dumped(function, reproducible.function)


def dumped(function: Any, dump: Callable[[Any], T]) -> T:
    """Pickle a function, and raise our own error if that fails.

    Raises:
        FunctionNotPicklable: The function, or a part of its closure, cannot be pickled.
        PoolClosed: The interpreter has shut down.
    """
    ending.check_interpreter()
    if not definitions.registry.worker:
        warn_of_generator(function)
    try:
        return dump(function)
    except Exception as error:
        raise FunctionNotPicklable(
            refusal(f"the function {name_of(function)}", error, function),
            hint="create objects that cannot be pickled (clients, locks, files) inside the function",
        ) from error
