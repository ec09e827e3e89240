"""What a worker runs for each item of a shard: bytes in, bytes out, so that the parent unpickles nothing."""

from __future__ import annotations

import pickle
import sys
import traceback
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any, TypeAlias

from runwide.calls import first_of
from runwide.errors import EnvironmentMismatch, IntegrityError, ItemNotLoadable, ResultNotPicklable
from runwide.job import environment
from runwide.job.contexts import item_context, result_context
from runwide.places import make_way, own_folder
from runwide.plain_pickle import PlainPickle
from runwide.spill.codec import Encoded, decode, encode
from runwide.unpicklable import refusal

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from runwide.spill.buffers import Buffer

Packet: TypeAlias = "tuple[int, str, Any]"  # item, digest of its frame, the frame: a Part, then a buffer

_JOINED = 1 << 20  # smaller results cross to the parent in one piece


class Part(PlainPickle):
    """A part of a buffer on its way to another process, where it arrives as a buffer, large ones without a copy.

    The view is made only while this is pickled. A ``pickle.PickleBuffer`` that is kept would do the same, but when it ends
    in a garbage cycle, the collector of Pythons before 3.13 cannot clear the view below it, and may crash.

    Args:
        data: The whole buffer.
        start: First byte.
        stop: End, None for the buffer's.
    """

    __slots__ = ("data", "start", "stop")

    def __init__(self, data: Buffer, start: int = 0, stop: int | None = None) -> None:
        self.data = data
        self.start = start
        self.stop = stop

    def view(self) -> memoryview:
        """The part, for use in this process."""
        return memoryview(self.data)[self.start : self.stop]

    def __reduce_ex__(self, _protocol: object) -> tuple[Any, ...]:
        return _arrived, (pickle.PickleBuffer(self.view()),)


def _arrived(buffer: Buffer) -> Buffer:
    return buffer


class ItemDamaged(ItemNotLoadable, IntegrityError):
    """The bytes of the item are not those that were spilled; they were not unpickled."""


@dataclass(frozen=True, slots=True)
class Loading(PlainPickle):
    """What a worker does before its first task, and nobody else: load the function of a stored job, and what that imports.

    So the parent needs neither the time nor the memory for it, no task's timeout counts it, and an import that kills is
    the start's fault and no item's.

    Args:
        function: The verified pickle of it.
        name: Its name, to be shown.
        uri: Where it is stored.
        job_uri: Where its job is.
        made_by: The environment that made the job.
    """

    function: bytes
    name: str
    uri: str
    job_uri: str
    made_by: Mapping[str, str]

    def __call__(self) -> Callable[[Any], Any]:
        """Load it, and do what comes before its first task; returns it.

        Raises:
            EnvironmentMismatch: It cannot be loaded here.
        """
        try:
            folder = own_folder()
            if folder and folder == sys.path[0]:  # behind other code, it makes way for that
                make_way(folder)
            function = loaded(self.function)
        except Exception as error:
            raise EnvironmentMismatch(
                f"the function {self.name} cannot be loaded here: {type(error).__name__}: {error}",
                uri=self.uri,
                hint=_advice(error),
            ) from error
        environment.warn(self.made_by, uri=self.job_uri)  # of what came with the function
        first = first_of(function)
        if first is not None:
            first()
        return function


def _advice(error: Exception) -> str:
    """Return what to do about a function that cannot be loaded."""
    if isinstance(error, ImportError):
        return (
            "install what it imports (requirements=, or an image that has it), as it was where the job was made; name a "
            "module of your own in code="
        )
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{frame.filename}, line {frame.lineno}, raised it when it was imported; a variable may be given with env="


@dataclass(frozen=True, slots=True)
class Task(PlainPickle):
    """The function of a stored job between two frames.

    Args:
        function: The verified pickle of it.
        job_id: Binds the items.
        job_digest: Binds the results.
        source: Digest of the job whose results the items are; that binds them then.
    """

    function: bytes
    job_id: str
    job_digest: str
    source: str | None = None

    def __call__(self, packet: Packet) -> Encoded:
        """Run one item."""
        return _run(loaded(self.function), packet, self)


class OwnTask:
    """A function of this program between two frames; its workers have it as those of any other map do.

    Args:
        function: The function itself.
        job_id: Binds the items.
        job_digest: Binds the results.
        source: Digest of the job whose results the items are; that binds them then.
    """

    __slots__ = ("call", "job_digest", "job_id", "source")  # what the function carries was looked at before

    def __init__(
        self, function: Callable[[Any], Any], job_id: str, job_digest: str, source: str | None = None
    ) -> None:
        self.call = function
        self.job_id = job_id
        self.job_digest = job_digest
        self.source = source

    def __call__(self, packet: Packet) -> Encoded:
        """Run one item."""
        return _run(self.call, packet, self)


def _run(function: Callable[[Any], Any], packet: Packet, bound: Task | OwnTask) -> Encoded:
    index, digest, frame = packet
    context = (
        item_context(bound.job_id, index) if bound.source is None else result_context(bound.source, index)
    )
    item = _item(memoryview(frame), digest, context, index)
    return portable(framed(function(item), index, bound.job_digest))


def _item(frame: Buffer, digest: str, context: str, index: int) -> Any:
    try:
        return decode(frame, digest=digest, context=context)
    except IntegrityError as error:
        raise ItemDamaged(error.message, item=index, hint=error.hint) from error
    except Exception as error:
        raise ItemNotLoadable(
            f"the item cannot be unpickled in the worker: {type(error).__name__}: {error}",
            item=index,
            hint="make its type importable in the image, or pass plain data",
        ) from error


def both(
    first: Loading, initializer: Callable[..., object] | None, initargs: tuple[Any, ...]
) -> Callable[[], object]:
    """Return what loads a function and then calls the user's initializer, where there is one."""
    return first if initializer is None else partial(_in_turn, first, partial(initializer, *initargs))


def _in_turn(*ones: Callable[[], object]) -> None:
    for one in ones:
        one()


def framed(result: Any, index: int, job_digest: str) -> Encoded:
    """Return the frame of a result.

    Args:
        result: What the function has returned.
        index: Of its item.
        job_digest: Binds the result.

    Raises:
        ResultNotPicklable: It cannot be pickled.
    """
    try:
        return encode(result, context=result_context(job_digest, index))
    except Exception as error:
        raise ResultNotPicklable(
            refusal("the result", error, result),
            item=index,
            hint="return plain data, arrays or importable types",
        ) from error


def portable(value: Encoded) -> Encoded:
    """A frame that can be sent to another process, its large parts without a copy."""
    if value.size < _JOINED:
        return Encoded((b"".join(value.parts),), value.size, value.digest)
    parts: tuple[Any, ...] = tuple(map(Part, value.parts))
    return Encoded(parts, value.size, value.digest)


@lru_cache(maxsize=1)
def loaded(function: bytes) -> Callable[[Any], Any]:
    """The function, unpickled once in each process."""
    found: Callable[[Any], Any] = pickle.loads(function)  # noqa: TID251 - `loading` has verified it
    return found
