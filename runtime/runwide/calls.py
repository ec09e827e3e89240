"""Functions of one item that are made of a user's function: with its item taken apart, with what prepares a worker."""

from __future__ import annotations

from functools import partial, reduce
from importlib import import_module
from typing import TYPE_CHECKING, Any

from runwide.errors import InputError, WrongType
from runwide.fitness import check
from runwide.naming import shown

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


def apply(item: tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]) -> Any:
    """Call what the item names.

    Example:
        >>> apply((int, ("ff",), {"base": 16}))
        255
    """
    function, args, kwargs = item
    return function(*args, **kwargs)


class Starred(partial[Any]):
    """A function that takes its item apart into arguments; a partial, so that its name and its code are the function's.

    Example:
        >>> Starred(pow)((2, 3))
        8
    """

    def __call__(self, item: Any) -> Any:
        """Call the function with the item's elements."""
        return self.func(*self.args, *item, **self.keywords)


class Program(partial[Any]):
    """What a job stores as its function: the function of one item, with what each worker does before its first task.

    Attributes:
        first: Called once in each worker, None for nothing.
        reduce: Makes one result of two, None where each stays.

    Example:
        >>> program_of(abs) is abs
        True
        >>> program_of(abs, print, ("ready",)).first()
        ready
    """

    first: Callable[[], object] | None
    reduce: Callable[[Any, Any], Any] | None


def program_of(
    function: Callable[[Any], Any],
    initializer: Callable[..., object] | None = None,
    initargs: tuple[Any, ...] = (),
    reduce: Callable[[Any, Any], Any] | None = None,
) -> Callable[[Any], Any]:
    """Return a function as a job stores it; the function itself where nothing else belongs to it.

    Args:
        function: Takes one item.
        initializer: Called once in each worker before its first task.
        initargs: Arguments of ``initializer``.
        reduce: Makes one result of two.
    """
    if initializer is None and reduce is None:
        return function
    made = Program(function)
    made.first = partial(initializer, *initargs) if initializer and initargs else initializer
    made.reduce = reduce
    return made


def bound(function: Callable[..., Any], constants: Mapping[str, Any]) -> Callable[[Any], Any]:
    """Return a function with keyword arguments; of a job's function, with all else that belongs to it.

    Example:
        >>> bound(program_of(round, print), {"ndigits": 1})(1.25)
        1.2
    """
    if not constants:
        return function
    if not isinstance(function, Program):
        return partial(function, **constants)
    made = Program(partial(function.func, *function.args, **{**function.keywords, **constants}))
    vars(made).update(vars(function))
    return made


def check_reduce(reduce: Any, on_error: str) -> None:
    """Refuse a reduction that cannot be one.

    Args:
        reduce: What the user has given; None for none.
        on_error: What becomes of failed items.

    Raises:
        TypeError: It cannot be called.
        InputError: Workers cannot run it, or failed items would have to be left out.

    Example:
        >>> check_reduce(max, "return")
        Traceback (most recent call last):
        runwide.errors.InputError: reduce= cannot be combined with on_error="return": ... has no result ...
    """
    if reduce is None:
        return
    if not callable(reduce):
        raise WrongType(
            f"reduce={shown(reduce)} cannot be called",
            hint="give a function of two results, such as operator.add",
        )
    check(reduce)
    if on_error == "return":
        raise InputError(
            'reduce= cannot be combined with on_error="return": an item that fails has no result to fold',
            hint="leave out on_error=, or have the function return a neutral value where it fails",
        )


def reduce_of(function: Callable[[Any], Any]) -> Callable[[Any, Any], Any] | None:
    """Return what makes one result of two of a job's function, None where each stays.

    Example:
        >>> reduce_of(abs), reduce_of(program_of(abs, reduce=max)) is max
        (None, True)
    """
    return function.reduce if isinstance(function, Program) else None


class Named:
    """A function by its name, which need not be there where it is pickled; where it is loaded, it is the function.

    Args:
        name: ``"package.module:function"``.

    Example:
        >>> import pickle
        >>> pickle.loads(pickle.dumps(Named("math:sqrt")))(4)
        2.0
    """

    def __init__(self, name: str) -> None:
        self.name = name

    def __call__(self, item: Any) -> Any:
        """Call it."""
        return _imported(self.name)(item)

    def __reduce__(self) -> Any:
        return _imported, (self.name,)


def _imported(name: str) -> Any:
    module, _, path = name.partition(":")
    return reduce(getattr, path.split("."), import_module(module))


def first_of(function: Callable[[Any], Any]) -> Callable[[], object] | None:
    """Return what a worker does before the first task of a job's function, None for nothing.

    Example:
        >>> first_of(abs), first_of(program_of(abs, print)) is print
        (None, True)
    """
    return function.first if isinstance(function, Program) else None
