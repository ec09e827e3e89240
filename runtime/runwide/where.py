"""Where a call runs: on this container's cores, there with a store, or on a place that the user names."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from runwide.arguments import values_of
from runwide.errors import InputError
from runwide.naming import name_of
from runwide.options import MAP, RunOptions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from os import PathLike

    from runwide.pool.trace import Trace


class Place(Protocol):
    """Where a map can run instead of here: what ``on=`` takes."""

    @property
    def map(self) -> Callable[..., Any]:
        """As `runwide.map`. For streams a place has a method ``stream``, too, as `runwide_components.Components` has."""


class Where(NamedTuple):
    """Where a call runs, as the user has said."""

    on: Place | None
    store: str | PathLike[str] | None = None
    name: str | None = None
    reuse: str | None = None
    shards: int = 1

    def place(self) -> Any:
        """Return the place, a `Place` or one with a store; None for this container's cores with nothing behind them.

        Raises:
            InputError: What was said cannot be meant.
        """
        check_reuse(self.name, self.reuse)
        if self.on is not None and self.store is not None:
            raise InputError(
                "both on= and store= were given", hint="give the store to the place that on= names"
            )
        if self.on is not None and (isinstance(self.on, type) or not callable(getattr(self.on, "map", None))):
            raise InputError(
                f"on={self.on!r} is no place to run",
                hint="name one, such as runwide_components.Components(4)",
            )
        if self.store is not None:
            from runwide.job import Checkpoint

            return Checkpoint(self.store, self.name, self.shards, self.reuse)
        if self.shards != 1:
            raise InputError(
                f"shards={self.shards} divides a job in a store=, and there is none",
                hint="give store= as well",
            )
        if self.on is None and self.name is not None:
            raise InputError("name= names a job in a store, and there is none", hint="give store= as well")
        return self.on

    def words(self) -> dict[str, Any]:
        """Return what a place of the user's is told of the job's name; one that knows of none need not take it."""
        given = {"name": self.name, "reuse": self.reuse} if self.on is not None else {}
        return {word: value for word, value in given.items() if value is not None}


def reduced_at(
    function: Any,
    items: Iterable[Any],
    reduce: Callable[[Any, Any], Any],
    where: Where,
    *,
    on_error: str,
    options: Mapping[str, Any],
) -> Any:
    """Run a map whose results are folded; see `runwide.map`.

    Args:
        function: Takes one item.
        items: The items.
        reduce: Makes one value of two.
        where: Where it runs.
        on_error: As for `runwide.map`.
        options: Those of the call.
    """
    place = where.place()
    items = items if place is not None else values_of(items)
    if place is not None:
        return place.map(function, items, reduce=reduce, on_error=on_error, **where.words(), **options)
    from runwide.reducing import reduced

    return reduced(function, items, reduce, on_error=on_error, **options)


def streamed(
    function: Any,
    items: Iterable[Any],
    where: Where,
    *,
    ordered: bool,
    on_error: str,
    options: Mapping[str, Any],
) -> Iterator[Any]:
    """Start a stream; see `runwide.imap`.

    Args:
        function: Takes one item.
        items: The items.
        where: Where it runs.
        ordered: Whether results come in the order of the items.
        on_error: As for `runwide.imap`.
        options: Those of the call.
    """
    place = where.place()
    if place is None:
        place, items = here()[0], values_of(items)
    stream: Callable[..., Iterator[Any]] = place.stream
    return stream(function, items, ordered=ordered, on_error=on_error, **where.words(), **options)


@cache
def here() -> tuple[Any, Any]:
    """Load what runs a map here, once: while the interpreter ends, nothing can be imported any more."""
    from runwide.pool import mapping
    from runwide.pool.trace import Trace

    return mapping, Trace


def traced(function: Any, options: Mapping[str, Any]) -> tuple[Trace, dict[str, Any]]:
    """Have a map leave its trace, whoever else listens."""
    RunOptions.on(MAP, options)  # what is wrong is told as of the user's call
    trace: Trace = here()[1](
        name_of(function), workers=options.get("workers"), listener=options.get("on_event")
    )
    return trace, {**options, "on_event": trace}


def check_reuse(name: str | None, reuse: str | None) -> None:
    """Refuse a wrong ``reuse=``, or one without a name.

    Raises:
        InputError: It is wrong.
    """
    if reuse is not None:
        from runwide.job import names

        names.check(name, reuse)
