"""Fold results into one value in the workers: groups of consecutive results first, then the values of the groups."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, NamedTuple

from runwide.api.functions import reduce_of
from runwide.errors import ResultNotPicklable
from runwide.job import model
from runwide.job.task import Part, loaded, portable
from runwide.pickling import PlainPickle
from runwide.pickling.unpicklable import refusal
from runwide.store.codec import decode, encode

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from runwide.store.codec import Encoded

_GROUP = 64  # values that one task folds
_GROUP_BYTES = 32 << 20  # a larger group takes no further value
_RUN = 8  # values with the same number of folds that are folded into one


class Frame(NamedTuple):
    """A value that is sent to a worker.

    Args:
        digest: SHA-256 of the frame, in hex.
        data: The frame: a `Part`, which is a buffer in the worker.
    """

    context: str
    digest: str
    data: Any


@dataclass(frozen=True, slots=True)
class Fold(PlainPickle):
    """The task that folds frames with the reduction of a stored job.

    Args:
        function: The verified pickle of the job's function.
    """

    function: bytes
    context: str

    def __call__(self, group: Sequence[Frame]) -> Encoded:
        """Fold values."""
        return _fold(reduce_of(loaded(self.function)), group, self.context)


class OwnFold:
    """The task that folds frames with a reduction of this program."""

    __slots__ = ("context", "reduce")

    def __init__(self, reduce: Callable[[Any, Any], Any], context: str) -> None:
        self.reduce = reduce
        self.context = context

    def __call__(self, group: Sequence[Frame]) -> Encoded:
        """Fold values."""
        return _fold(self.reduce, group, self.context)


def _fold(reduce: Callable[[Any, Any], Any] | None, group: Sequence[Frame], context: str) -> Encoded:
    values = (decode(memoryview(one.data), digest=one.digest, context=one.context) for one in group)
    value = functools.reduce(reduce, values)  # type: ignore[arg-type]  # it is None only for jobs without reduce=
    try:
        return portable(encode(value, context=context))
    except Exception as error:
        raise ResultNotPicklable(
            refusal("the value of reduce=", error, value),
            hint="return plain data, arrays or importable types",
        ) from error


def frame_of(value: Encoded, context: str) -> Frame:
    """Return a value from a worker as a frame that can be sent to another worker."""
    data = bytearray()
    for part in value.parts:
        data += memoryview(part.view() if isinstance(part, Part) else part)
    return Frame(context, value.digest, Part(data))


def fold(frames: Iterable[Frame], task: Fold | OwnFold, **options: Any) -> Frame:
    """Fold values into one, in their order.

    Which values are folded together depends only on their number and sizes. Memory is bounded: values are read when a worker
    is free, and of the folded values only a few with each number of folds are kept.

    Args:
        frames: At least one value.
        **options: Options of the workers, as in `runwide.options.record.Options`.

    Example:
        >>> from runwide.store.codec import encode
        >>> values = (frame_of(encode(text, context="job"), "job") for text in "abc")
        >>> found = fold(values, OwnFold(lambda left, right: left + right, "job"), workers=1)
        >>> decode(found.data.view(), digest=found.digest, context=found.context)
        'abc'
    """
    from runwide.pool import stream  # a client does not need the pool

    def folds(groups: Iterable[Sequence[Frame]]) -> Iterator[Frame]:
        for value in stream(task, groups, ordered=True, progress=False, **options):
            yield frame_of(value, task.context)

    several = iter(frames)
    first = list(islice(several, 2))
    if len(first) == 1:
        return first[0]
    held: list[tuple[int, Frame]] = []  # folded values, each with its number of folds
    for one in folds(_groups(folds(_groups(chain(first, several))))):
        held.append((0, one))
        while len(held) >= _RUN and held[-_RUN][0] == held[-1][0]:
            (done,) = folds([[frame for _, frame in held[-_RUN:]]])
            held[-_RUN:] = [(held[-1][0] + 1, done)]
    if len(held) == 1:
        return held[0][1]
    (done,) = folds([[frame for _, frame in held]])
    return done


def _groups(frames: Iterable[Frame]) -> Iterator[list[Frame]]:
    group: list[Frame] = []
    size = 0
    for one in frames:
        group.append(one)
        size += one.data.view().nbytes
        if len(group) >= _GROUP or (size >= _GROUP_BYTES and len(group) > 1):
            yield group
            group, size = [], 0
    if group:
        yield group


def context_of(job_digest: str) -> str:
    """Return the context of a folded value that is sent to another worker."""
    return f"{model.node_context(job_digest, 0, 0)}/fold"
