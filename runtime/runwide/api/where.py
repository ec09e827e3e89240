"""The preparation of a call: its function, its items, and the place that runs it."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache, partial
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from runwide.api.functions import Starred, check_constants, no_place
from runwide.errors import InputError, WrongType
from runwide.naming import name_of, shown
from runwide.pickling.validate import check

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from os import PathLike

    from runwide.events.trace import Trace
    from runwide.options.record import RunOptions


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
        iterables: The other iterables; the shortest of all ends the call.

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
                f"invalid constants={shown(constants)}: expected keyword arguments by name",
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


class Place(Protocol):
    """A place that can run a map instead of this container's cores: the type of ``on=``."""

    @property
    def map(self) -> Callable[..., Any]:
        """As `runwide.map`. For streams a place also has ``stream``, such as `runwide_components.Components.stream`."""


class Where(NamedTuple):
    """The arguments of a call that say where it runs."""

    on: Place | None
    store: str | PathLike[str] | None = None
    name: str | None = None
    reuse: str | None = None
    shards: int = 1

    def place(self) -> Any:
        """Return the place, which may be one with a store; None for this container's cores without a store."""
        check_reuse(self.name, self.reuse)
        if self.on is not None and self.store is not None:
            raise InputError(
                "both on= and store= were given", hint="leave store= out, and give it to the place of on="
            )
        if self.on is not None and (isinstance(self.on, type) or not callable(getattr(self.on, "map", None))):
            raise no_place(self.on)
        if self.store is not None:
            from runwide.job import Checkpoint

            return Checkpoint(self.store, self.name, self.shards, self.reuse)
        if self.shards != 1:
            raise needs_store(f"shards={self.shards}")
        if self.on is None and self.name is not None:
            raise needs_store("name=")
        return self.on

    def words(self) -> dict[str, Any]:
        """Return the name and ``reuse`` if they are given: other places than ours need not take them."""
        given = {"name": self.name, "reuse": self.reuse} if self.on is not None else {}
        return {word: value for word, value in given.items() if value is not None}


def streamed(
    function: Any,
    items: Iterable[Any],
    where: Where,
    *,
    ordered: bool,
    on_error: str,
    options: Mapping[str, Any],
) -> Iterator[Any]:
    """Start a stream; arguments as for `runwide.aimap`."""
    place = where.place()
    if place is None:
        place, items = here()[0], values_of(items)
    stream: Callable[..., Iterator[Any]] = place.stream
    return stream(function, items, ordered=ordered, on_error=on_error, **where.words(), **options)


@cache
def here() -> tuple[Any, Any]:
    """Load the modules that run a map here, once: while the interpreter ends, imports fail."""
    from runwide.events.trace import Trace
    from runwide.pool import mapping

    return mapping, Trace


def traced(function: Any, options: RunOptions) -> tuple[Trace, RunOptions]:
    """Return the trace of a map, and options with it as the listener; it passes events on to the user's listener."""
    trace: Trace = here()[1](
        name_of(function), workers=options.workers, listener=options.on_event, options=options.about()
    )
    return trace, options.but(on_event=trace)


def needs_store(option: str) -> InputError:
    """Return the error for an option of a job in a store that is given without one."""
    return InputError(f"{option} is for a job in a store, and store= is missing", hint="give store= as well")


def check_reuse(name: str | None, reuse: str | None) -> None:
    """Reject an invalid ``reuse=``, or one without a name."""
    if reuse is not None:
        from runwide.job import names

        names.check_name(name, reuse)
