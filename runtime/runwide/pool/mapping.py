"""Run a function over items on the cores of this container, for a list or a stream."""

from __future__ import annotations

from collections.abc import Sized
from contextlib import closing, contextmanager, nullcontext
from operator import length_hint
from typing import TYPE_CHECKING, Any, TypeVar

from runwide import interpreter
from runwide.errors import NoItems, PoolClosed, Preempted, StopIterationRaised
from runwide.options.record import RunOptions
from runwide.outcomes import (
    check_on_error,
    closed_after,
    exception_of,
    first_error,
    portable_exception_of,
    too_many,
    values,
)
from runwide.pickling.definitions import note_initializer
from runwide.pickling.validate import check
from runwide.pool import base
from runwide.pool.base import Base, dump_function
from runwide.pool.feeding import ALL
from runwide.pool.policy import Budget
from runwide.pool.sinks import Everything
from runwide.progress import display, with_progress
from runwide.sigterm import Relay, drains_on_sigterm, handled

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence

    from typing_extensions import Unpack

    from runwide.options.record import Options
    from runwide.pool.transfer import Dumped
    from runwide.records import Outcome


class Whole:
    """A map whose results are returned together."""

    def __init__(self, function: Callable[[Any], Any], items: Iterable[Any], options: RunOptions) -> None:
        check(function, items)
        self._dumped = dump_function(function)
        self._items = items
        self._options = options
        self._pool: Base | None = None
        self._stopped = False

    def run(self, *, aside: bool = False) -> Everything:
        """Run all items, each as soon as it has been read.

        Args:
            aside: Read the items on a thread of their own, so that `stop` need not wait for them.
        """
        total = number_of(self._items)
        with Base(self._options) as pool:
            self._pool = pool
            if self._stopped:
                raise PoolClosed("the map was stopped before it began")
            return self._run(pool, total, aside=aside)

    def stop(self) -> None:
        """Stop the workers at once; `run` raises `PoolClosed`. Any thread may call it."""
        self._stopped = True
        if self._pool is not None:
            self._pool.kill()

    def _run(self, pool: Base, total: int | None, *, aside: bool) -> Everything:
        options, lease = self._options, pool._lease  # noqa: SLF001 - a module of this package
        sink = Everything(options.max_failures)
        call, feeder = pool._prepare(  # noqa: SLF001 - a module of this package
            self._dumped,
            self._items,
            sink,
            Budget.of(options),
            ahead=None,  # a bounded number: items that wait take memory
            chunksize=options.chunksize,
            named=True,
        )
        shows = display(total, sink.counts, wanted=options.progress)
        with (
            nullcontext() if shows is None else closing(shows),
            drains_on_sigterm(lease.drain, options.grace) as draining,
        ):
            lease.start(call)
            if aside and not feeder.at_hand:
                feeder.start()
            else:
                draining.interrupt(feeder.run)
            sink.wait()
        if sink.too_many:
            stopped = too_many(sink.failures)
            stopped.results = sink.so_far()
            raise stopped
        feeder.check()
        if not sink.done:
            raise no_items()
        return sink


def number_of(items: Iterable[Any], indices: Sequence[int] | None = None) -> int | None:
    """Return the number of items; None if it is not known before they are read. Raise `NoItems` if there are none."""
    total = length_hint(items)
    if not total and isinstance(items, Sized):
        raise no_items()
    return total or len(indices or ()) or None


def no_items() -> NoItems:
    """Return the error of a map without items."""
    return NoItems("there are no items to map over", hint="pass at least one")


T = TypeVar("T")
R = TypeVar("R")


def run(function: Callable[[T], R], items: Iterable[T], options: RunOptions, on_error: str) -> list[R]:
    """Run `runwide.map` on the cores of this container, with options that have been checked.

    Example:
        >>> run(lambda x: x * x, [1, 2, 3], RunOptions(), "raise")
        [1, 4, 9]
    """
    check_on_error(on_error)
    note_initializer(options.initializer)
    return _results(Whole(function, items, options).run(), on_error)


async def run_async(
    function: Callable[[T], R], items: Iterable[T], options: RunOptions, on_error: str
) -> list[R]:
    """Run `run` without blocking the event loop. If it is cancelled, the workers stop.

    Example:
        >>> import asyncio
        >>> asyncio.run(run_async(lambda x: x * x, [1, 2, 3], RunOptions(), "raise"))
        [1, 4, 9]
    """
    import asyncio  # slow to load; the caller of this function has loaded it
    from functools import partial

    check_on_error(on_error)
    interpreter.check_interpreter(with_main=True)  # after that, event loops have no threads
    note_initializer(options.initializer)
    whole = Whole(function, items, options)
    relay = Relay()
    run = partial(relay.context().run, _run_aside, whole)
    with handled(relay):
        running = asyncio.get_running_loop().run_in_executor(None, run)
        try:
            found = await asyncio.shield(running)
        except asyncio.CancelledError:
            whole.stop()
            await asyncio.wait([running])
            running.exception()  # it is PoolClosed, as expected after stop()
            raise
    return _results(found, on_error, portable=True)


def _run_aside(whole: Whole) -> Everything:
    try:
        return whole.run(aside=True)
    except StopIteration as error:  # futures do not pass it on
        raise StopIterationRaised("the iterable raised StopIteration") from error


def _results(whole: Everything, on_error: str, *, portable: bool = False) -> list[Any]:
    if whole.failures and on_error == "raise":
        exception = portable_exception_of if portable else exception_of
        raise first_error(whole.failures, whole.results, exception)
    return whole.results


def stream(
    function: Callable[[T], R],
    items: Iterable[T],
    *,
    ordered: bool,
    on_error: str = "raise",
    **options: Unpack[Options],
) -> Values:
    """Run `runwide.imap`, or `runwide.imap_unordered` if ``ordered`` is False, on the cores of this container.

    Example:
        >>> list(stream(lambda x: x * x, range(3), ordered=True))
        [0, 1, 4]
    """
    check_on_error(on_error)
    return Values(outcomes(function, items, ordered=ordered, **options), on_error)


class Values:
    """An iterator over the values of outcomes."""

    def __init__(self, arriving: Outcomes, on_error: str) -> None:
        self._values: Generator[Any, None, None] = values(arriving, on_error)
        self.stop = arriving.stop

    def __iter__(self) -> Iterator[Any]:
        return self._values

    def __next__(self) -> Any:
        return next(self._values)

    def close(self) -> None:
        """Stop the tasks that run; the iterator is not used any more."""
        self._values.close()


def outcomes(
    function: Callable[[Any], Any],
    items: Iterable[Any],
    *,
    ordered: bool = False,
    indices: Sequence[int] | None = None,
    **options: Unpack[Options],
) -> Outcomes:
    """Iterate over the outcomes of all items, in the order in which they end. A failed task raises nothing.

    Args:
        ordered: Whether the outcomes come in the order of the items.
        indices: Index of each item in a larger input, shown with the lines that its task prints.

    Example:
        >>> sorted(outcome.value for outcome in outcomes(abs, [-1, -2]))
        [1, 2]
    """
    known = _known(options)
    check(function, items)
    total = number_of(items, indices)
    return Outcomes(dump_function(function), items, total, known, ordered=ordered, indices=indices)


def _known(options: Mapping[str, Any]) -> RunOptions:
    chosen = RunOptions(**options)
    # Before the function is pickled: it may share variables with the initializer.
    note_initializer(chosen.initializer)
    return chosen


@contextmanager
def started(
    function: Callable[[Any], Any], items: Iterable[Any], **options: Unpack[Options]
) -> Iterator[Iterator[Outcome]]:
    """Read all items on this thread, while the first tasks run; then iterate over the outcomes as they end.

    Example:
        >>> with started(abs, iter([-1, -2]), workers=1) as arriving:
        ...     sorted(outcome.value for outcome in arriving)
        [1, 2]
    """
    given = _known(options)
    check(function, items)
    dumped, budget, arriving = dump_function(function), Budget.of(given), []
    with Base(given) as pool:
        lease = pool._lease  # noqa: SLF001 - a module of this package
        with drains_on_sigterm(lease.drain, given.grace) as draining:
            size = given.chunksize
            draining.interrupt(
                lambda: arriving.append(
                    base.stream_outcomes(pool, dumped, items, budget, chunksize=size, ahead=ALL, named=True)
                )
            )
            if not arriving:
                raise Preempted(
                    "stopped by SIGTERM while items were read; nothing is kept", hint="run it again"
                )
            limited = _limited(arriving.pop(), given.max_failures)
            with closed_after(with_progress(limited, None, wanted=given.progress)) as outcomes:
                yield outcomes


class Outcomes:
    """An iterator over outcomes, with a pool of its own that opens before the first and closes after the last."""

    def __init__(
        self,
        dumped: Dumped,
        items: Iterable[Any],
        total: int | None,
        options: RunOptions,
        *,
        ordered: bool,
        indices: Sequence[int] | None,
    ) -> None:
        # The generators refer to this list and not to this object, so they are closed with the last reference to it.
        self._pools: list[Base] = []
        running = _run(self._pools, dumped, items, options, ordered=ordered, indices=indices)
        limited = _limited(running, options.max_failures)
        self._arriving = with_progress(limited, total, wanted=options.progress)

    def __iter__(self) -> Iterator[Outcome]:
        return self._arriving

    def __next__(self) -> Outcome:
        return next(self._arriving)

    def close(self) -> None:
        """Stop the tasks that run; the iterator is not used any more."""
        self._arriving.close()

    def stop(self) -> None:
        """Stop the workers at once; the iteration raises `PoolClosed`. Any thread may call it."""
        for pool in self._pools:
            pool.kill()


def _run(
    opening: list[Base],
    dumped: Dumped,
    items: Iterable[Any],
    given: RunOptions,
    *,
    ordered: bool,
    indices: Sequence[int] | None,
) -> Generator[Outcome, None, None]:
    with Base(given) as pool:
        opening.append(pool)
        lease = pool._lease  # noqa: SLF001 - a module of this package
        with drains_on_sigterm(lease.drain, given.grace):
            yield from base.stream_outcomes(
                pool,
                dumped,
                items,
                Budget.of(given),
                chunksize=given.chunksize,
                indices=indices,
                named=True,
                ordered=ordered,
            )


def _limited(arriving: Iterator[Outcome], max_failures: int | None) -> Generator[Outcome, None, None]:
    failures = []
    nothing_came = True
    with closed_after(arriving):
        for outcome in arriving:
            nothing_came = False
            yield outcome
            if outcome.failure is not None and max_failures is not None:
                failures.append(outcome.failure)
                if len(failures) > max_failures:
                    raise too_many(failures)
            del outcome  # so that its memory is free while the next one is awaited
    if nothing_came:
        raise no_items()
