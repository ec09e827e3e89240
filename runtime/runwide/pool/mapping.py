"""A function over items on the cores of this container, as a list or as a stream."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypedDict, TypeVar

from runwide import ended, ending
from runwide.definitions import note_initializer
from runwide.errors import Preempted, StopIterationRaised
from runwide.fitness import check
from runwide.pool.base import dump_function
from runwide.pool.feeding import ALL
from runwide.pool.preemption import GRACE, drains_on_sigterm
from runwide.pool.streams import closed_after, stream, values
from runwide.pool.whole import Whole, budget_of, no_items, number_of, opened, too_many
from runwide.progress import shown

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator, Sequence

    from typing_extensions import Unpack

    from runwide.pool.base import Base
    from runwide.pool.policy import Budget
    from runwide.pool.sinks import Everything
    from runwide.pool.transfer import Dumped
    from runwide.records import Outcome, TaskEvent

T = TypeVar("T")
R = TypeVar("R")


class Options(TypedDict, total=False):
    """How the tasks of one call are run.

    Args:
        workers: Number of worker processes (with ``on``: in each component); None for one per physical core,
            ``"per-gpu"`` for one per visible NVIDIA device.
        timeout: Seconds that one attempt at one item may take before its worker is stopped.
        retries: Further attempts after an exception; 0 unless given.
        max_crashes: Deaths of its worker after which an item is given up; 2 unless given.
        max_failures: Failed items that are accepted; one more stops the rest.
        max_tasks: Tasks after which a worker is replaced by a fresh one.
        max_memory: Resident bytes above which a worker is replaced by a fresh one, once it is free.
        chunksize: Fixed number of items that travel together; None adapts it to the measured task time.
        initializer: Called once in each worker before its first task.
        initargs: Arguments of ``initializer``.
        grace: Seconds that running tasks may take after SIGTERM.
        progress: True for a progress bar, False for silence; None for a bar on a terminal, log lines elsewhere.
        on_event: Called with each `runwide.records.TaskEvent`, on another thread.
        fresh: Start new workers, which end with the call, in the place of those that are kept between calls.
        indices: Index of each item in a larger input, shown with what its task prints.
    """

    workers: int | str | None
    timeout: float | None
    retries: int
    max_crashes: int
    max_failures: int | None
    max_tasks: int | None
    max_memory: int | None
    chunksize: int | None
    initializer: Callable[..., object] | None
    initargs: tuple[Any, ...]
    grace: float
    progress: bool | None
    on_event: Callable[[TaskEvent], None] | None
    fresh: bool
    indices: Sequence[int] | None


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
    from contextvars import copy_context
    from functools import partial

    ended.check(on_error)
    ending.check_interpreter(with_main=True)  # after which no event loop has a thread to wait in
    whole = Whole(function, items, _known(options))
    run = partial(copy_context().run, _run_aside, whole)
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


def imap(
    function: Callable[[T], R], items: Iterable[T], *, on_error: str = "raise", **options: Unpack[Options]
) -> Iterator[R]:
    """As `map`, but yields each result as soon as those before it are there.

    Items are taken as results are consumed, with a bounded look-ahead, so both may be endless. Where taking them may take
    time it is done on a thread, with the caller's context variables: the iterable may wait for anything, such as earlier
    results.

    Example:
        >>> for square in runwide.imap(lambda x: x * x, range(3)):
        ...     print(square)
        0
        1
        4
    """
    ended.check(on_error)
    return values(_outcomes(function, items, options, ordered=True), on_error)


def imap_unordered(
    function: Callable[[T], R], items: Iterable[T], *, on_error: str = "raise", **options: Unpack[Options]
) -> Iterator[R]:
    """As `imap`, but yields results in the order in which they finish.

    Example:
        >>> sorted(runwide.imap_unordered(lambda x: x * x, range(3)))
        [0, 1, 4]
    """
    ended.check(on_error)
    return values(outcomes(function, items, **options), on_error)


def outcomes(function: Callable[[Any], Any], items: Iterable[Any], **options: Unpack[Options]) -> Outcomes:
    """The outcome of every item, in the order in which they end; never raises for a task's failure.

    Args:
        function: Takes one item.
        items: At least one item.
        **options: As in `Options`.

    Raises:
        NoItems: There are no items.
        FunctionNotPicklable: The function cannot be sent to a worker.
        TooManyFailures: ``max_failures`` was passed.
        Preempted: SIGTERM came.

    Example:
        >>> sorted(outcome.value for outcome in outcomes(abs, [-1, -2]))
        [1, 2]
    """
    return _outcomes(function, items, options)


def _outcomes(
    function: Callable[[Any], Any], items: Iterable[Any], options: Options, *, ordered: bool = False
) -> Outcomes:
    known = _known(options)
    check(function, items)
    total = number_of(items, known)
    return Outcomes(dump_function(function), items, total, known, ordered=ordered)


def _known(options: Options) -> Options:
    unknown = options.keys() - Options.__annotations__.keys()
    if unknown:
        raise TypeError(
            f"unknown option {min(unknown)!r}; there are {', '.join(sorted(Options.__annotations__))}"
        )
    note_initializer(
        options.get("initializer")
    )  # before the function is pickled, which may share variables with it
    return options


@contextmanager
def started(
    function: Callable[[Any], Any], items: Iterable[Any], **options: Unpack[Options]
) -> Iterator[Iterator[Outcome]]:
    """Take all items on this thread, while their first tasks run; then give the outcomes in the order in which they end.

    Args:
        function: Takes one item.
        items: At least one item.
        **options: As in `Options`.

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
        with drains_on_sigterm(lease, given.get("grace", GRACE)) as draining:
            size = given.get("chunksize")
            draining.ends(
                lambda: arriving.append(
                    stream(pool, dumped, items, budget, chunksize=size, ahead=ALL, named=True)
                )
            )
            if not arriving:
                raise Preempted(
                    "stopped by SIGTERM while items were taken; nothing is kept", hint="run it again"
                )
            limited = _limited(arriving.pop(), given.get("max_failures"))
            with closed_after(shown(limited, None, wanted=given.get("progress"))) as outcomes:
                yield outcomes


class Outcomes:
    """An iterator of outcomes with a pool of its own, opened at the first and closed after the last."""

    def __init__(
        self, dumped: Dumped, items: Iterable[Any], total: int | None, options: Options, *, ordered: bool
    ) -> None:
        # The generators know this list and not this object: so they are closed as soon as nobody iterates any more.
        self._pools: list[Base] = []
        running = _run(self._pools, dumped, items, budget_of(options), options, ordered=ordered)
        limited = _limited(running, options.get("max_failures"))
        self._arriving = shown(limited, total, wanted=options.get("progress"))

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
    budget: Budget,
    given: Options,
    *,
    ordered: bool,
) -> Generator[Outcome, None, None]:
    with opened(given) as pool:
        opening.append(pool)
        lease = pool._lease  # noqa: SLF001 - one house
        with drains_on_sigterm(lease, given.get("grace", GRACE)):
            yield from stream(
                pool,
                dumped,
                items,
                budget,
                chunksize=given.get("chunksize"),
                indices=given.get("indices"),
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
            del outcome  # while it waits for the next, it keeps nobody's memory
    if nothing_came:
        raise no_items()
