"""Run a function over all items, on a pool of its own, and wait for all results."""

from __future__ import annotations

from collections.abc import Sized
from contextlib import closing, nullcontext
from operator import length_hint
from typing import TYPE_CHECKING, Any

from runwide.ended import too_many
from runwide.errors import NoItems, PoolClosed
from runwide.fitness import check
from runwide.pool.base import Base, dump_function
from runwide.pool.policy import Budget
from runwide.pool.preemption import drains_on_sigterm
from runwide.pool.sinks import Everything
from runwide.progress import display

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from runwide.options import RunOptions


class Whole:
    """A map whose results are returned together.

    Args:
        function: Takes one item.
        items: The items; `run` reads them.
        options: The options of the map.
    """

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

        Raises:
            NoItems: There are no items.
            TooManyFailures: More items failed than ``max_failures`` allows.
            Preempted: SIGTERM came.
            PoolClosed: The map was stopped.
            Exception: The iterable raised it.
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
    """Return the number of items; None if it is not known before they are read.

    Args:
        items: The items.
        indices: The index of each item, if they are known.

    Raises:
        NoItems: There are no items.
    """
    total = length_hint(items)
    if not total and isinstance(items, Sized):
        raise no_items()
    return total or len(indices or ()) or None


def no_items() -> NoItems:
    """Return the error of a map without items."""
    return NoItems("there are no items to map over", hint="pass at least one")
