"""How many components a job should have, by the time that its items take."""

from __future__ import annotations

import time
from contextlib import closing
from dataclasses import dataclass, field
from math import ceil
from typing import TYPE_CHECKING, Any

from runwide.calls import first_of
from runwide.errors import InputError
from runwide.log import Log

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

log = Log("job")

AUTO = "auto"
_WORTH = 600.0
"""Seconds of work that are worth a component: a machine takes two or three minutes to start on Vertex."""

_MOST = 20
"""Components at once; the quotas of CPUs that projects begin with are 20 to 42 ("Quotas and limits" of Vertex AI)."""

_SAMPLE_SECONDS = 20.0
_SAMPLE_ITEMS = 16


def components_for(seconds: float, *, items: int, workers: int) -> int:
    """How many components some work is worth.

    Args:
        seconds: Time of one item on one core.
        items: How many there are.
        workers: How many run at the same time in a component.

    Example:
        >>> components_for(0.01, items=1000, workers=2), components_for(60, items=1000, workers=2)
        (1, 20)
        >>> components_for(6, items=1000, workers=2), components_for(3600, items=3, workers=2)
        (5, 3)
    """
    return max(1, min(items, _MOST, ceil(seconds * items / workers / _WORTH)))


@dataclass(frozen=True, slots=True)
class Size:
    """How many shards a job should have, and what is known of its results by now.

    Args:
        shards: How many.
        results: Those of the items by which it was measured, by index.
    """

    shards: int
    results: dict[int, Any] = field(default_factory=dict)


def size_of(text: str, function: Callable[[], Callable[[Any], Any]], items: Sequence[Any]) -> Size:
    """What ``--shards`` means.

    With ``auto`` the function runs here over some items, spread over all of them, for 20 seconds at most. What it
    returns for these is kept; an item that failed here, or was under way when the time was up, runs again in its shard.

    Args:
        text: A number, or ``auto``.
        function: Loads the function.
        items: All items.

    Raises:
        InputError: It is neither.
    """
    if text == AUTO:
        return _measured(function(), items)
    if not text.isdigit() or int(text) < 1:
        raise InputError(f"--shards {text} cannot be meant", hint="give a number of 1 or more, or auto")
    return Size(int(text))


def _measured(function: Callable[[Any], Any], items: Sequence[Any]) -> Size:
    from runwide.host import cores
    from runwide.pool import outcomes

    workers = cores().count
    step = max(1, len(items) // _SAMPLE_ITEMS)
    sample = range(0, len(items), step)[:_SAMPLE_ITEMS]
    began, done, seconds, results = time.monotonic(), 0, 0.0, {}
    chosen = [items[index] for index in sample]
    with closing(
        outcomes(function, chosen, timeout=_SAMPLE_SECONDS, progress=False, initializer=first_of(function))
    ) as arriving:
        for outcome in arriving:
            done, seconds = done + 1, time.monotonic() - began
            if outcome.failure is None:
                results[sample[outcome.index]] = outcome.value
            if seconds > _SAMPLE_SECONDS:
                break
    busy = min(workers, len(sample))
    each = seconds * busy / max(1, done)
    count = components_for(each, items=len(items), workers=workers)
    log.info(
        "shards.chosen",
        shards=count,
        items=len(items),
        sampled=done,
        seconds_each=round(each, 4),
        workers=workers,
    )
    return Size(count, results)
