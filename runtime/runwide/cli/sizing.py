"""Choose the number of components of a job from the time that its items take."""

from __future__ import annotations

import time
from contextlib import closing
from dataclasses import dataclass, field
from math import ceil
from typing import TYPE_CHECKING, Any

from runwide.calls import first_of
from runwide.cli.arguments import AUTO
from runwide.errors import InputError
from runwide.log import Log

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

log = Log("job")

_WORTH = 600.0
"""Seconds of work for which a component pays off: on Vertex AI, a machine takes two or three minutes to start."""

_MOST = 20
"""Most components: new projects have quotas of 20 to 42 CPUs ("Quotas and limits" of Vertex AI)."""

_SAMPLE_SECONDS = 20.0
_SAMPLE_ITEMS = 16


def components_for(seconds: float, *, items: int, workers: int) -> int:
    """Return for how many components some work is enough.

    Args:
        seconds: The time of one item on one core.
        items: The number of items.
        workers: How many items run at the same time in a component.

    Example:
        >>> components_for(0.01, items=1000, workers=2), components_for(60, items=1000, workers=2)
        (1, 20)
        >>> components_for(6, items=1000, workers=2), components_for(3600, items=3, workers=2)
        (5, 3)
    """
    return max(1, min(items, _MOST, ceil(seconds * items / workers / _WORTH)))


@dataclass(frozen=True, slots=True)
class Size:
    """The number of shards of a job, and the results that measuring it has produced.

    Args:
        shards: The number of shards.
        results: The results of measured items, by index.
    """

    shards: int
    results: dict[int, Any] = field(default_factory=dict)


def size_of(text: str, function: Callable[[], Callable[[Any], Any]], items: Sequence[Any]) -> Size:
    """Return the number of shards that ``--shards`` asks for.

    With ``auto``, the function runs here over a sample of the items, for at most 20 seconds. The results are kept. An item
    that fails here, or does not finish in time, runs again in its shard.

    Args:
        text: A number, or ``auto``.
        function: Loads the function.
        items: All items.

    Raises:
        InputError: The text is neither.
    """
    if text == AUTO:
        return _measured(function(), items)
    if not text.isdigit() or int(text) < 1:
        raise InputError(f"invalid --shards {text}", hint="give a number of 1 or more, or auto")
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
