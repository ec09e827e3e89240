"""Options that the standard library's pools name in their own way."""

from __future__ import annotations

from operator import index
from typing import TYPE_CHECKING, Any, NamedTuple

from runwide.errors import InputError, WrongType
from runwide.naming import shown
from runwide.options.checks import PER_GPU
from runwide.options.record import RunOptions

if TYPE_CHECKING:
    from collections.abc import Mapping

    from runwide.options.record import Surface

Given = tuple[Any, "Words"]


class Words(NamedTuple):
    """Messages about an invalid number."""

    wrong_type: str
    too_small: str


# For some wrong types the standard library has no message of its own: there, Python's arithmetic raises an error.
MAX_WORKERS = Words("max_workers must be an integer, not {}", "max_workers must be greater than 0")
MAX_TASKS_PER_CHILD = Words("max_tasks_per_child must be an integer", "max_tasks_per_child must be >= 1")
CHUNKSIZE = Words("chunksize must be an integer, not {}", "chunksize must be >= 1.")
BUFFERSIZE = Words("buffersize must be an integer or None", "buffersize must be None or > 0")
PROCESSES = Words("processes must be an integer, not {}", "Number of processes must be at least 1")
MAXTASKSPERCHILD = Words(*2 * ("maxtasksperchild must be a positive int or None",))
POOL_CHUNKSIZE = Words("chunksize must be an integer, not {}", "Chunksize must be 1+, not {}")


def positive(number: Any, words: Words) -> int | None:
    """Return a number from 1 on, or None.

    Raises:
        InputError: It is less than 1.
        WrongType: It is not a whole number.

    Example:
        >>> positive(True, MAX_WORKERS)
        1
        >>> positive(0, MAX_WORKERS)
        Traceback (most recent call last):
        runwide.errors.InputError: max_workers must be greater than 0
    """
    if number is None:
        return None
    try:
        whole = index(number)
    except TypeError:
        raise WrongType(words.wrong_type.format(shown(number))) from None
    if whole < 1:
        raise InputError(words.too_small.format(whole))
    return whole


def chosen(surface: Surface, options: Mapping[str, Any], workers: Given, max_tasks: Given) -> RunOptions:
    """Return the options of a standard pool, which has its own names for two of them.

    Args:
        workers: The number of workers by its own name, and messages about it.
        max_tasks: The number of tasks of a worker by its own name, and messages about it.
    """
    found = dict(options)
    if found.get("initializer") is not None and not callable(found["initializer"]):
        raise WrongType("initializer must be a callable")
    number, _ = workers
    chosen_workers = number if isinstance(number, str) and number == PER_GPU else positive(*workers)
    for name, value in (("workers", chosen_workers), ("max_tasks", positive(*max_tasks))):
        if value is None:
            continue
        if found.setdefault(name, value) not in (None, value):
            raise InputError(
                f"{surface.name} has two names for {name}=, and was given two numbers: {found[name]} and {value}",
                hint="give one of them",
            )
        found[name] = value
    return RunOptions.on(surface, found)
