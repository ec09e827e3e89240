"""Folds of results into one value, in the workers: groups of neighbours first, then what these gave."""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce as folded_by
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, NamedTuple

from runwide.calls import reduce_of
from runwide.errors import ResultNotPicklable
from runwide.job import contexts
from runwide.job.task import Part, loaded, portable
from runwide.plain_pickle import PlainPickle
from runwide.spill.codec import decode, encode
from runwide.unpicklable import refusal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from runwide.spill.codec import Encoded

_GROUP = 64  # values that one task folds
_GROUP_BYTES = 32 << 20  # after which a group takes no more
_RUN = 8  # equal folds that are folded once more


class Frame(NamedTuple):
    """A value on its way to a worker.

    Args:
        context: What its frame is bound to.
        digest: SHA-256 of the frame, in hex.
        data: The frame: a part of a buffer, which arrives in the worker as a buffer.
    """

    context: str
    digest: str
    data: Any


@dataclass(frozen=True, slots=True)
class Fold(PlainPickle):
    """The reduction of a stored job, between frames.

    Args:
        function: The verified pickle of the job's function.
        context: What the folded value is bound to.
    """

    function: bytes
    context: str

    def __call__(self, group: Sequence[Frame]) -> Encoded:
        """Fold values."""
        return _folded(reduce_of(loaded(self.function)), group, self.context)


class OwnFold:
    """A reduction of this program, between frames.

    Args:
        reduce: The reduction itself.
        context: What the folded value is bound to.
    """

    __slots__ = ("context", "reduce")

    def __init__(self, reduce: Callable[[Any, Any], Any], context: str) -> None:
        self.reduce = reduce
        self.context = context

    def __call__(self, group: Sequence[Frame]) -> Encoded:
        """Fold values."""
        return _folded(self.reduce, group, self.context)


def _folded(reduce: Callable[[Any, Any], Any] | None, group: Sequence[Frame], context: str) -> Encoded:
    values = (decode(memoryview(one.data), digest=one.digest, context=one.context) for one in group)
    value = folded_by(reduce, values)  # type: ignore[arg-type]  # a job that is reduced has one
    try:
        return portable(encode(value, context=context))
    except Exception as error:
        raise ResultNotPicklable(
            refusal("the value of reduce=", error, value),
            hint="return plain data, arrays or importable types",
        ) from error


def frame_of(value: Encoded, context: str) -> Frame:
    """Return a value that has come from a worker, on its way to another one."""
    data = bytearray()
    for part in value.parts:
        data += memoryview(part.view() if isinstance(part, Part) else part)
    return Frame(context, value.digest, Part(data))


def fold(frames: Iterable[Frame], task: Fold | OwnFold, **options: Any) -> Frame:
    """Fold values in their order, into one.

    The order of the folds depends on the number of values and on their sizes alone. What is in memory is bounded: values are
    taken as workers are free, and of what they gave, a few folds of each size are held.

    Args:
        frames: At least one.
        task: Folds a group, in a worker.
        **options: As in `runwide.options.Options`, for the workers.

    Example:
        >>> from runwide.spill.codec import encode
        >>> values = (frame_of(encode(text, context="job"), "job") for text in "abc")
        >>> found = fold(values, OwnFold(lambda left, right: left + right, "job"), workers=1)
        >>> decode(found.data.view(), digest=found.digest, context=found.context)
        'abc'
    """
    from runwide.pool import stream  # a client needs none

    def folds(groups: Iterable[Sequence[Frame]]) -> Iterator[Frame]:
        for value in stream(task, groups, ordered=True, progress=False, **options):
            yield frame_of(value, task.context)

    several = iter(frames)
    first = list(islice(several, 2))
    if len(first) == 1:
        return first[0]
    held: list[tuple[int, Frame]] = []  # how often each was folded, and what it gave
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
    """What a value is bound to on its way between workers."""
    return f"{contexts.node_context(job_digest, 0, 0)}/fold"
