"""Functions of one item that are made of a user's function."""

from __future__ import annotations

from functools import partial, reduce
from importlib import import_module
from typing import TYPE_CHECKING, Any

from runwide.errors import InputError, WrongType
from runwide.naming import shown
from runwide.pickling.validate import check

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence


def apply(item: tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]) -> Any:
    """Call the function of an item with its arguments.

    Example:
        >>> apply((int, ("ff",), {"base": 16}))
        255
    """
    function, args, kwargs = item
    return function(*args, **kwargs)


class Starred(partial[Any]):
    """A function that unpacks its item into arguments; as a partial, it has the name and the code of the user's function.

    Example:
        >>> Starred(pow)((2, 3))
        8
    """

    def __call__(self, item: Any) -> Any:
        """Call the function with the elements of the item."""
        return self.func(*self.args, *item, **self.keywords)


class Program(partial[Any]):
    """The function that a job stores: the function of one item, with the initializer of workers and a reduction.

    Attributes:
        first: Called once in each worker; None for no call.
        reduce: Makes one result of two; None for a job without reduction.

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
    """Return a function as a job stores it: a `Program`, or the function itself without initializer and reduction."""
    if initializer is None and reduce is None:
        return function
    made = Program(function)
    made.first = partial(initializer, *initargs) if initializer and initargs else initializer
    made.reduce = reduce
    return made


def bound(function: Callable[..., Any], constants: Mapping[str, Any]) -> Callable[[Any], Any]:
    """Return a function with keyword arguments; a `Program` keeps its initializer and reduction.

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


def check_constants(
    function: Callable[..., Any], names: Iterable[str], what: str, *, items: int | None = 1
) -> None:
    """Reject keyword arguments that a function does not take, before there is a job of which every item fails.

    Args:
        items: Number of arguments before them, so that missing ones are rejected, too; None if unknown.

    Example:
        >>> check_constants(lambda x, k: x * k, ["k"], "constants=")
    """
    import inspect  # slow to load, and few calls have constants

    try:
        taken = inspect.signature(function, follow_wrapped=False)
    except (TypeError, ValueError):  # some builtins have no signature
        return
    given: dict[str, Any] = dict.fromkeys(names)
    try:
        if items is None:
            taken.bind_partial(**given)
        else:
            taken.bind(*[None] * items, **given)
    except TypeError as error:
        raise InputError(
            f"{what} does not fit the function: {error}", hint=f"it takes {taken}, the item first"
        ) from error


def check_reduce(reduce: Any, on_error: str) -> None:
    """Reject an invalid reduction.

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
            hint="leave out on_error=, or let the function return a neutral value when it fails",
        )


def reduce_of(function: Callable[[Any], Any]) -> Callable[[Any, Any], Any] | None:
    """Return the reduction of a job's function; None if it has none.

    Example:
        >>> reduce_of(abs), reduce_of(program_of(abs, reduce=max)) is max
        (None, True)
    """
    return function.reduce if isinstance(function, Program) else None


class Named:
    """A function by its name. It need not exist where this is pickled; unpickling returns the function itself.

    Example:
        >>> import pickle
        >>> pickle.loads(pickle.dumps(Named("math:sqrt")))(4)
        2.0
    """

    def __init__(self, name: str) -> None:
        self.name = name

    def __call__(self, item: Any) -> Any:
        """Call the function."""
        return imported(self.name)(item)

    def __reduce__(self) -> Any:
        return imported, (self.name,)


def imported(name: str) -> Any:
    """Return the function, or other object, of a name such as ``"package.module:function"``; imports may raise any error.

    Example:
        >>> imported("math:sqrt")(4)
        2.0
    """
    module, _, path = name.partition(":")
    return reduce(getattr, path.split("."), import_module(module))


def first_of(function: Callable[[Any], Any]) -> Callable[[], object] | None:
    """Return the initializer of a job's function; None if it has none.

    Example:
        >>> first_of(abs), first_of(program_of(abs, print)) is print
        (None, True)
    """
    return function.first if isinstance(function, Program) else None


def called(
    functions: Sequence[Callable[..., Any]], item: tuple[int, int, tuple[Any, ...], Mapping[str, Any]]
) -> tuple[int, Any]:
    """Make the call that an item describes; return its number and what it returned.

    Args:
        item: Number of the call, index of its function, arguments and keyword arguments.

    Example:
        >>> called([abs, int], (7, 1, ("ff",), {"base": 16}))
        (7, 255)
    """
    number, place, args, kwargs = item
    return number, functions[place](*args, **kwargs)


def no_place(on: Any) -> InputError:
    """Return the error for a value of ``on=`` that runs nothing."""
    return InputError(f"invalid on={shown(on)}: expected a place such as Components(4)")
