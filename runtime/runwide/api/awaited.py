"""The calls for an event loop: `amap` and `aimap`."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from runwide import interpreter, outcomes
from runwide.api.where import Where, here, made, streamed, traced, values_of
from runwide.options.record import MAP, Options, RunOptions
from runwide.options.signatures import taking
from runwide.records import Failure, Results, reportable
from runwide.sigterm import Relay, handled

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Iterator, Mapping
    from os import PathLike

    from typing_extensions import Unpack

    from runwide.api.where import Place

R = TypeVar("R")
T = TypeVar("T")

_END: Any = object()


@taking(Options, MAP)
async def amap(
    function: Callable[..., R],
    items: Iterable[Any],
    *iterables: Iterable[Any],
    on: Place | None = None,
    store: str | PathLike[str] | None = None,
    name: str | None = None,
    reuse: str | None = None,
    constants: Mapping[str, Any] | None = None,
    on_error: str = "raise",
    **options: Unpack[Options],
) -> Results[R]:
    """As `map`, without blocking the event loop; cancelling it stops the workers, or the components of a job without a name.

    A thread of its own takes the items, with this coroutine's context variables.

    Args:
        function: As for `map`, and so are all arguments that are not listed.
        **options: As in `runwide.options.record.Options`.

    Example:
        >>> import asyncio
        >>> asyncio.run(runwide.amap(lambda x: x * x, [1, 2, 3]))
        [1, 4, 9]
    """
    function, items = made(function, items, iterables, constants)
    where, chosen = _checked(Where(on, store, name, reuse), on_error, options)
    if where.place() is not None:
        opening = partial(streamed, function, items, where, ordered=True, on_error=on_error, options=options)
        return await _collected(opening, on_error)
    trace, chosen = traced(function, chosen)
    with reportable(trace=trace):
        try:
            values = await here()[0].run_async(function, values_of(items), chosen, on_error)
        finally:
            trace.end()
    return Results(values, trace=trace)


@taking(Options, MAP)
def aimap(
    function: Callable[..., R],
    items: Iterable[Any],
    *iterables: Iterable[Any],
    on: Place | None = None,
    store: str | PathLike[str] | None = None,
    name: str | None = None,
    reuse: str | None = None,
    constants: Mapping[str, Any] | None = None,
    ordered: bool = True,
    on_error: str = "raise",
    **options: Unpack[Options],
) -> AsyncIterator[R]:
    """As `imap`, for ``async for``, without blocking the event loop.

    Args:
        function: As for `imap`, and so are all arguments that are not listed.
        items: As for `map`; a thread of its own takes them.
        ordered: True for results in the order of the items, False for the order in which they finish.
        **options: As in `runwide.options.record.Options`.

    Example:
        >>> import asyncio
        >>> async def main():
        ...     return [square async for square in runwide.aimap(lambda x: x * x, range(3))]
        >>> asyncio.run(main())
        [0, 1, 4]
    """
    work = made(function, items, iterables, constants)
    where, _ = _checked(Where(on, store, name, reuse), on_error, options)
    opening = partial(streamed, *work, where, ordered=ordered, on_error=on_error, options=options)
    return each(opening)


def _checked(where: Where, on_error: str, options: Mapping[str, Any]) -> tuple[Where, RunOptions]:
    """Reject invalid arguments when the call is made, before anything is awaited."""
    outcomes.check_on_error(on_error)
    chosen = RunOptions.on(MAP, options)
    where.place()
    return where, chosen


async def each(opening: Callable[[], Iterator[T]]) -> AsyncGenerator[T, None]:
    """Yield the values of an iterator, which a thread opens and advances with this task's context variables.

    If this is left early or cancelled, the iterator's ``stop`` is called while another thread may be in it, and then its
    ``close``.

    Example:
        >>> async def main():
        ...     return [value async for value in each(lambda: iter("ab"))]
        >>> asyncio.run(main())
        ['a', 'b']
    """
    interpreter.check_interpreter(with_main=True)  # while the interpreter ends, an event loop has no threads
    loop, relay = asyncio.get_running_loop(), Relay()
    run = relay.context().run
    with handled(relay):
        taking: asyncio.Future[Any] = loop.run_in_executor(None, run, opening)
        values: Any = None
        try:
            values = await asyncio.shield(taking)
            while True:
                taking = loop.run_in_executor(None, partial(run, _next, values))
                value = await asyncio.shield(taking)
                if value is _END:
                    return
                yield value
                del value  # so that only the caller keeps it
        finally:
            if not taking.done():
                getattr(values, "stop", _nothing)()
                await asyncio.wait([taking])
                if values is None and taking.exception() is None:  # left while the iterator was opened
                    values = taking.result()
                taking.exception()  # the expected error, that it was stopped
            await loop.run_in_executor(None, getattr(values, "close", _nothing))


def _nothing() -> None: ...


def _next(values: Iterator[Any]) -> Any:
    return next(values, _END)


async def _collected(opening: Callable[[], Iterator[Any]], on_error: str) -> Results[Any]:
    """Return the values of an iterator in the order of the items, or raise the first failure once all items have ended."""
    streams: list[Any] = []

    def opened() -> Iterator[Any]:
        stream = opening()
        streams.append(stream)
        getattr(stream, "with_failures", _nothing)()
        return stream

    found = [value async for value in each(opened)]
    failures = [value for value in found if isinstance(value, Failure)]
    results = Results(found, job=getattr(streams[0], "job", None))
    if failures and on_error == "raise":
        with reportable(job=results.job):
            raise outcomes.first_error(failures, found, outcomes.portable_exception_of)
    return results
