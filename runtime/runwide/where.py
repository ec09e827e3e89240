"""The place that runs a call: this container's cores, these with a store, or a place that the user gives."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from runwide.arguments import values_of
from runwide.errors import InputError
from runwide.naming import name_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from os import PathLike

    from runwide.events.trace import Trace
    from runwide.options import RunOptions


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
        """Return the place, which may be one with a store; None for this container's cores without a store.

        Raises:
            InputError: An argument is invalid, or does not fit another one.
        """
        check_reuse(self.name, self.reuse)
        if self.on is not None and self.store is not None:
            raise InputError(
                "both on= and store= were given", hint="leave store= out, and give it to the place of on="
            )
        if self.on is not None and (isinstance(self.on, type) or not callable(getattr(self.on, "map", None))):
            raise InputError(
                f"on={self.on!r} is no place to run",
                hint="give one, such as runwide_components.Components(4)",
            )
        if self.store is not None:
            from runwide.job import Checkpoint

            return Checkpoint(self.store, self.name, self.shards, self.reuse)
        if self.shards != 1:
            raise InputError(
                f"shards={self.shards} is for a job in a store, and store= is missing",
                hint="give store= as well",
            )
        if self.on is None and self.name is not None:
            raise InputError(
                "name= is for a job in a store, and store= is missing", hint="give store= as well"
            )
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


def check_reuse(name: str | None, reuse: str | None) -> None:
    """Reject an invalid ``reuse=``, or one without a name.

    Raises:
        InputError: It is invalid.
    """
    if reuse is not None:
        from runwide.job import names

        names.check(name, reuse)
