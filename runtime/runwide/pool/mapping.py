"""A function over items on the cores of this container, as a list or as a stream."""

from __future__ import annotations

from itertools import chain
from operator import length_hint
from typing import TYPE_CHECKING, Any, TypedDict, TypeVar

from runwide.errors import InputError, NoItems, RunwideError, TasksFailed, TooManyFailures
from runwide.pool.base import Base, dump_function
from runwide.pool.fitness import check
from runwide.pool.policy import Budget
from runwide.pool.preemption import GRACE, drains_on_sigterm
from runwide.pool.progress import shown
from runwide.pool.sinks import by_index, keep_finished
from runwide.pool.streams import closed_after, exception_of, stream, values

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator, Sequence

    from typing_extensions import Unpack

    from runwide.failure import Failure
    from runwide.pool.transfer import Dumped
    from runwide.records import Outcome, TaskEvent

T = TypeVar("T")
R = TypeVar("R")

_LISTED = 40  # failures spelled out in a summary; the record has them all


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
    indices: Sequence[int] | None


def map(  # noqa: A001 - the field's name
    function: Callable[[T], R], items: Iterable[T], *, on_error: str = "raise", **options: Unpack[Options]
) -> list[R]:
    """`runwide.map` where it runs on this container's cores and keeps nothing: the same arguments but ``on`` and ``store``.

    Example:
        >>> map(lambda x: x * x, [1, 2, 3])
        [1, 4, 9]
    """
    _check(on_error)
    return raise_or_return(_collect(outcomes(function, items, **options)), on_error)


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

    _check(on_error)
    arriving = outcomes(function, items, **options)
    collecting = asyncio.get_running_loop().run_in_executor(None, _collect, arriving)
    try:
        ended = await asyncio.shield(collecting)
    except asyncio.CancelledError:
        arriving.stop()
        await asyncio.wait([collecting])
        collecting.exception()  # it says that the pool was closed, which is what was asked for
        raise
    return raise_or_return(ended, on_error)


def imap(
    function: Callable[[T], R], items: Iterable[T], *, on_error: str = "raise", **options: Unpack[Options]
) -> Iterator[R]:
    """As `map`, but yields each result as soon as those before it are there.

    Items are taken as results are consumed, with a bounded look-ahead, so both may be endless.

    Example:
        >>> for square in runwide.imap(lambda x: x * x, range(3)):
        ...     print(square)
        0
        1
        4
    """
    _check(on_error)
    return values(_outcomes(function, items, options, ordered=True), on_error)


def imap_unordered(
    function: Callable[[T], R], items: Iterable[T], *, on_error: str = "raise", **options: Unpack[Options]
) -> Iterator[R]:
    """As `imap`, but yields results in the order in which they finish.

    Example:
        >>> sorted(runwide.imap_unordered(lambda x: x * x, range(3)))
        [0, 1, 4]
    """
    _check(on_error)
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
    unknown = options.keys() - Options.__annotations__.keys()
    if unknown:
        raise TypeError(
            f"unknown option {min(unknown)!r}; there are {', '.join(sorted(Options.__annotations__))}"
        )
    total = length_hint(items) or len(options.get("indices") or ()) or None
    check(function, items)
    return Outcomes(dump_function(function), _some(items), total, options, ordered=ordered)


class Outcomes:
    """An iterator of outcomes with a pool of its own, opened at the first and closed after the last."""

    def __init__(
        self, dumped: Dumped, items: Iterator[Any], total: int | None, options: Options, *, ordered: bool
    ) -> None:
        # The generators know this list and not this object: so they are closed as soon as nobody iterates any more.
        self._pools: list[Base] = []
        budget = Budget(options.get("retries", 0), options.get("max_crashes", 2), options.get("timeout"))
        running = _run(self._pools, dumped, items, budget, options, ordered=ordered)
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
    opened: list[Base], dumped: Dumped, items: Iterator[Any], budget: Budget, given: Options, *, ordered: bool
) -> Generator[Outcome, None, None]:
    with Base(
        given.get("workers"),
        initializer=given.get("initializer"),
        initargs=given.get("initargs", ()),
        max_tasks=given.get("max_tasks"),
        max_memory=given.get("max_memory"),
        on_event=given.get("on_event"),
    ) as pool:
        opened.append(pool)
        with drains_on_sigterm(pool._scheduler, given.get("grace", GRACE)):  # noqa: SLF001 - one house
            yield from stream(
                pool,
                dumped,
                items,
                budget,
                chunksize=given.get("chunksize"),
                indices=given.get("indices"),
                ordered=ordered,
            )


def _limited(
    arriving: Generator[Outcome, None, None], max_failures: int | None
) -> Generator[Outcome, None, None]:
    failures = []
    with closed_after(arriving):
        for outcome in arriving:
            yield outcome
            if outcome.failure is not None and max_failures is not None:
                failures.append(outcome.failure)
                if len(failures) > max_failures:
                    raise TooManyFailures(
                        f"stopped after {len(failures)} failed items, the last: {outcome.failure}",
                        failures=failures,
                        hint="mend the function, or raise max_failures=",
                    )
            del outcome  # while it waits for the next, it keeps nobody's memory


def _collect(arriving: Outcomes) -> list[Outcome]:
    ended = []
    try:
        with closed_after(arriving):
            for outcome in arriving:
                ended.append(outcome)  # noqa: PERF402 - what has ended is needed when the rest has not
    except RunwideError as error:
        keep_finished(error, ended)
        raise
    return ended


def raise_or_return(ended: Sequence[Outcome], on_error: str) -> list[Any]:
    """Results by index; failures are raised or stand in their place.

    Args:
        ended: One outcome per item, in any order.
        on_error: ``"raise"`` or ``"return"``.

    Raises:
        Exception: The exception of the first failed item, caused by a `TasksFailed` that has all of them.

    Example:
        >>> from runwide.records import Outcome
        >>> raise_or_return([Outcome(1, "b"), Outcome(0, "a")], "raise")
        ['a', 'b']
    """
    _check(on_error)
    results = by_index(ended)
    failures = [outcome.failure for outcome in ended if outcome.failure is not None]
    if failures and on_error == "raise":
        raise first_error(failures, results)
    return results


def first_error(failures: list[Failure], results: list[Any]) -> BaseException:
    """The exception of the first failed item, caused by the summary of all."""
    failures = sorted(failures, key=lambda failure: failure.index)
    lines = [str(failure) for failure in failures[:_LISTED]]
    if len(failures) > _LISTED:
        lines.append(f"and {len(failures) - _LISTED} more")
    summary = TasksFailed(
        f"{len(failures)} of {len(results)} tasks failed:\n  "
        + "\n  ".join(lines)
        + "\n",  # the hint has a line of its own
        failures=failures,
        results=results,
        hint="the others are finished: see .results and .failures of this error, or use on_error='return'",
    )
    raised = exception_of(failures[0])
    summary.__cause__ = raised.__cause__
    raised.__cause__ = summary
    return raised


def function_bytes(function: Callable[..., Any]) -> bytes:
    """A function as cloudpickle bytes, for another program.

    Raises:
        FunctionNotPicklable: It, or something that it closes over, cannot be pickled.

    Example:
        >>> import pickle
        >>> pickle.loads(function_bytes(lambda x: x + 1))(1)
        2
    """
    check(function)
    return dump_function(function, out_of_band=False)[0]


def _some(items: Iterable[T]) -> Iterator[T]:
    """The items, of which there is at least one."""
    iterator = iter(items)
    try:
        first = next(iterator)
    except StopIteration:
        raise NoItems("there are no items to map over", hint="pass at least one") from None
    return chain([first], iterator)


def _check(on_error: str) -> None:
    if on_error not in ("raise", "return"):
        raise InputError(f"on_error must be 'raise' or 'return', not {on_error!r}")
