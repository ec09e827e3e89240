"""A function over items on the cores of this container, as a list or as a stream."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from runwide import ended, ending
from runwide.definitions import note_initializer
from runwide.ended import closed_after, values
from runwide.errors import Preempted, StopIterationRaised
from runwide.fitness import check
from runwide.options import RunOptions
from runwide.pool import streams
from runwide.pool.base import dump_function
from runwide.pool.feeding import ALL
from runwide.pool.preemption import drains_on_sigterm
from runwide.pool.whole import Whole, budget_of, no_items, number_of, opened
from runwide.progress import shown
from runwide.sigterm import Relay, handled

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence

    from typing_extensions import Unpack

    from runwide.options import Options
    from runwide.pool.base import Base
    from runwide.pool.sinks import Everything
    from runwide.pool.transfer import Dumped
    from runwide.records import Outcome

T = TypeVar("T")
R = TypeVar("R")


def map(  # noqa: A001 - the field's name
    function: Callable[[T], R], items: Iterable[T], *, on_error: str = "raise", **options: Unpack[Options]
) -> list[R]:
    """`runwide.map` where it runs on this container's cores and keeps nothing: the same arguments but ``on`` and ``store``.

    Example:
        >>> map(lambda x: x * x, [1, 2, 3])
        [1, 4, 9]
    """
    ended.check(on_error)
    return _results(Whole(function, items, _known(options)).run(), on_error)


async def amap(
    function: Callable[[T], R], items: Iterable[T], *, on_error: str = "raise", **options: Unpack[Options]
) -> list[R]:
    """As `map`, without blocking the event loop; cancelling it stops the workers.

    Example:
        >>> import asyncio
        >>> asyncio.run(runwide.amap(lambda x: x * x, [1, 2, 3]))
        [1, 4, 9]
    """
    import asyncio  # which whoever calls this has loaded; others need not wait for it
    from functools import partial

    ended.check(on_error)
    ending.check_interpreter(with_main=True)  # after which no event loop has a thread to wait in
    whole = Whole(function, items, _known(options))
    relay = Relay()
    run = partial(relay.context().run, _run_aside, whole)
    with handled(relay):
        running = asyncio.get_running_loop().run_in_executor(None, run)
        try:
            found = await asyncio.shield(running)
        except asyncio.CancelledError:
            whole.stop()
            await asyncio.wait([running])
            running.exception()  # it says that the pool was closed, which is what was asked for
            raise
    return _results(found, on_error, portable=True)


def _run_aside(whole: Whole) -> Everything:
    try:
        return whole.run(aside=True)
    except StopIteration as error:  # which no future passes on
        raise StopIterationRaised("the iterable raised StopIteration") from error


def _results(whole: Everything, on_error: str, *, portable: bool = False) -> list[Any]:
    if whole.failures and on_error == "raise":
        exception = ended.portable_exception_of if portable else ended.exception_of
        raise ended.first_error(whole.failures, whole.results, exception)
    return whole.results


def stream(
    function: Callable[[T], R],
    items: Iterable[T],
    *,
    ordered: bool,
    on_error: str = "raise",
    **options: Unpack[Options],
) -> Values:
    """As `runwide.imap` where ``ordered``, else as `runwide.imap_unordered`, on this container's cores.

    Example:
        >>> list(stream(lambda x: x * x, range(3), ordered=True))
        [0, 1, 4]
    """
    ended.check(on_error)
    return Values(outcomes(function, items, ordered=ordered, **options), on_error)


class Values:
    """An iterator of the values of outcomes.

    Args:
        arriving: The outcomes.
        on_error: As for `map`.
    """

    def __init__(self, arriving: Outcomes, on_error: str) -> None:
        self._values: Generator[Any, None, None] = values(arriving, on_error)
        self.stop = arriving.stop

    def __iter__(self) -> Iterator[Any]:
        return self._values

    def __next__(self) -> Any:
        return next(self._values)

    def close(self) -> None:
        """Stop what runs; nobody iterates any more."""
        self._values.close()


def outcomes(
    function: Callable[[Any], Any],
    items: Iterable[Any],
    *,
    ordered: bool = False,
    indices: Sequence[int] | None = None,
    **options: Unpack[Options],
) -> Outcomes:
    """The outcome of every item, in the order in which they end; never raises for a task's failure.

    Args:
        function: Takes one item.
        items: At least one item.
        ordered: Whether they come in the order of the items.
        indices: Index of each item in a larger input, shown with what its task prints.
        **options: As in `runwide.options.Options`.

    Raises:
        NoItems: There are no items.
        FunctionNotPicklable: The function cannot be sent to a worker.
        TooManyFailures: ``max_failures`` was passed.
        Preempted: SIGTERM came.

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
    # before the function is pickled, which may share variables with it
    note_initializer(chosen.initializer)
    return chosen


@contextmanager
def started(
    function: Callable[[Any], Any], items: Iterable[Any], **options: Unpack[Options]
) -> Iterator[Iterator[Outcome]]:
    """Take all items on this thread, while their first tasks run; then give the outcomes in the order in which they end.

    Args:
        function: Takes one item.
        items: At least one item.
        **options: As in `runwide.options.Options`.

    Raises:
        Preempted: SIGTERM came while items were taken.

    Example:
        >>> with started(abs, iter([-1, -2]), workers=1) as arriving:
        ...     sorted(outcome.value for outcome in arriving)
        [1, 2]
    """
    given = _known(options)
    check(function, items)
    dumped, budget, arriving = dump_function(function), budget_of(given), []
    with opened(given) as pool:
        lease = pool._lease  # noqa: SLF001 - one house
        with drains_on_sigterm(lease, given.grace) as draining:
            size = given.chunksize
            draining.ends(
                lambda: arriving.append(
                    streams.stream(pool, dumped, items, budget, chunksize=size, ahead=ALL, named=True)
                )
            )
            if not arriving:
                raise Preempted(
                    "stopped by SIGTERM while items were taken; nothing is kept", hint="run it again"
                )
            limited = _limited(arriving.pop(), given.max_failures)
            with closed_after(shown(limited, None, wanted=given.progress)) as outcomes:
                yield outcomes


class Outcomes:
    """An iterator of outcomes with a pool of its own, opened at the first and closed after the last."""

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
        # The generators know this list and not this object: so they are closed as soon as nobody iterates any more.
        self._pools: list[Base] = []
        running = _run(self._pools, dumped, items, options, ordered=ordered, indices=indices)
        limited = _limited(running, options.max_failures)
        self._arriving = shown(limited, total, wanted=options.progress)

    def __iter__(self) -> Iterator[Outcome]:
        return self._arriving

    def __next__(self) -> Outcome:
        return next(self._arriving)

    def close(self) -> None:
        """Stop what runs; nobody iterates any more."""
        self._arriving.close()

    def stop(self) -> None:
        """Stop the workers at once, from any thread; whoever iterates gets `PoolClosed`."""
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
    with opened(given) as pool:
        opening.append(pool)
        lease = pool._lease  # noqa: SLF001 - one house
        with drains_on_sigterm(lease, given.grace):
            yield from streams.stream(
                pool,
                dumped,
                items,
                budget_of(given),
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
                    raise ended.too_many(failures)
            del outcome  # while it waits for the next, it keeps nobody's memory
    if nothing_came:
        raise no_items()
