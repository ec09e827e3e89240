"""All items of one call on a pool of its own, waited for as a whole."""

from __future__ import annotations

from collections.abc import Sized
from contextlib import closing, nullcontext
from operator import length_hint
from typing import TYPE_CHECKING, Any

from runwide.ended import too_many
from runwide.errors import NoItems, PoolClosed
from runwide.fitness import check
from runwide.pool.base import Base, dump_function
from runwide.pool.call import Call, Source
from runwide.pool.feeding import Feeder, taken
from runwide.pool.policy import Budget
from runwide.pool.preemption import drains_on_sigterm
from runwide.pool.sinks import Everything
from runwide.progress import display

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from runwide.options import RunOptions


class Whole:
    """A function over items, all at once.

    Args:
        function: Takes one item.
        items: Taken by `run`.
        options: How they are run.
    """

    def __init__(self, function: Callable[[Any], Any], items: Iterable[Any], options: RunOptions) -> None:
        check(function, items)
        self._dumped = dump_function(function)
        self._items = items
        self._options = options
        self._budget = budget_of(options)
        self._pool: Base | None = None
        self._stopped = False

    def run(self, *, aside: bool = False) -> Everything:
        """Run all items; each is started as soon as it is there.

        Args:
            aside: Take the items on a thread of their own, so that `stop` need not wait for them.

        Raises:
            NoItems: There are none.
            TooManyFailures: ``max_failures`` was passed.
            Preempted: SIGTERM came.
            PoolClosed: It was stopped.
            Exception: The items' own.
        """
        total = number_of(self._items)
        with opened(self._options) as pool:
            self._pool = pool
            if self._stopped:
                raise PoolClosed("the map was stopped before it began")
            return self._run(pool, total, aside=aside)

    def stop(self) -> None:
        """Stop the workers at once, from any thread; `run` raises `PoolClosed`."""
        self._stopped = True
        if self._pool is not None:
            self._pool.kill()

    def _run(self, pool: Base, total: int | None, *, aside: bool) -> Everything:
        options, lease = self._options, pool._lease  # noqa: SLF001 - the rooms of one house
        ready = taken(self._items)
        source = Source(closed=False) if ready is None else Source(ready)
        sink = Everything(options.max_failures)
        payload = lease.function_payload(self._dumped)
        call = Call(payload, source, sink, self._budget, chunksize=options.chunksize, named=True)
        feeder = Feeder(
            call,
            self._items,
            lease.ring,
            ahead=None,  # of those that have ended: what lies waiting takes memory
            workers=pool.workers,
        )
        sink.fed_by(feeder)
        shows = display(total, sink.counts, wanted=options.progress)
        with (
            nullcontext() if shows is None else closing(shows),
            drains_on_sigterm(lease, options.grace) as draining,
        ):
            lease.start(call)
            if aside and ready is None:
                feeder.start()
            else:
                draining.ends(feeder.run)
            _wait(sink)
        feeder.check()
        if not sink.done:
            raise no_items()
        return sink


def _wait(sink: Everything) -> None:
    """Wait for the end."""
    sink.wait()
    if sink.too_many:
        stopped = too_many(sink.failures)
        stopped.results = sink.so_far()
        raise stopped


def opened(options: RunOptions) -> Base:
    """A pool as these options want it."""
    return Base(
        options.workers,
        initializer=options.initializer,
        initargs=options.initargs,
        max_tasks=options.max_tasks,
        max_memory=options.max_memory,
        on_event=options.on_event,
        fresh=options.fresh,
    )


def budget_of(options: RunOptions) -> Budget:
    """Budget of a task under these options."""
    return Budget(options.retries, options.max_crashes, options.timeout)


def number_of(items: Iterable[Any], indices: Sequence[int] | None = None) -> int | None:
    """Number of items; None if it is not known before they are taken.

    Args:
        items: The items.
        indices: Index of each, where they are known.

    Raises:
        NoItems: There are none.
    """
    total = length_hint(items)
    if not total and isinstance(items, Sized):
        raise no_items()
    return total or len(indices or ()) or None


def no_items() -> NoItems:
    """The error of a map over nothing."""
    return NoItems("there are no items to map over", hint="pass at least one")
