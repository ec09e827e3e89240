"""The task that a worker runs for each item of a shard: bytes in, bytes out, so that the parent unpickles nothing."""

from __future__ import annotations

import pickle
import sys
import traceback
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any, TypeAlias

from runwide.api.functions import first_of
from runwide.causes import Cause
from runwide.errors import EnvironmentMismatch, IntegrityError, ItemNotLoadable, ResultNotPicklable
from runwide.job import environment
from runwide.job.model import item_context, result_context
from runwide.pickling import PlainPickle
from runwide.pickling.places import make_way, own_folder
from runwide.pickling.unpicklable import refusal
from runwide.store.codec import Encoded, decode, encode

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from runwide.store.buffers import Buffer

Packet: TypeAlias = "tuple[int, str, Any]"
"""An item, the digest of its frame, and the frame: a `Part`, which is a buffer in the worker."""

_JOINED = 1 << 20  # smaller results are sent to the parent in one piece


class Part(PlainPickle):
    """A part of a buffer that is sent to another process, where it is a buffer; large parts are not copied.

    The view exists only while this is pickled. If a ``pickle.PickleBuffer`` were kept instead and ended in a garbage cycle,
    the collector of Python before 3.13 could not clear the view below it, and might crash.

    Args:
        stop: End, None for the buffer's.
    """

    __slots__ = ("data", "start", "stop")

    def __init__(self, data: Buffer, start: int = 0, stop: int | None = None) -> None:
        self.data = data
        self.start = start
        self.stop = stop

    def view(self) -> memoryview:
        """Return the part as a view, for use in this process."""
        return memoryview(self.data)[self.start : self.stop]

    def __reduce_ex__(self, _protocol: object) -> tuple[Any, ...]:
        return _arrived, (pickle.PickleBuffer(self.view()),)


def _arrived(buffer: Buffer) -> Buffer:
    return buffer


class ItemDamaged(ItemNotLoadable, IntegrityError):
    """The bytes of an item were changed or damaged; they were not unpickled."""


@dataclass(frozen=True, slots=True)
class FunctionLoader(PlainPickle):
    """Loads the function of a stored job, with its imports, in each worker before the first task.

    So the parent needs no time and no memory for it, no task's timeout includes it, and an import that kills the process is
    not charged to an item.

    Args:
        function: The verified pickle of the function.
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
        environment.warn(self.made_by, uri=self.job_uri)  # after the function has imported its packages
        first = first_of(function)
        if first is not None:
            first()
        return function


def _advice(error: Exception) -> str:
    """Return a hint for a function that cannot be loaded."""
    if isinstance(error, ImportError):
        return (
            "install the packages that it imports, in the same versions (requirements=, or an image that has them); name "
            "modules of your own in code="
        )
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{frame.filename}, line {frame.lineno}, raised it during its import; give environment variables with env="


@dataclass(frozen=True, slots=True)
class Task(PlainPickle):
    """Runs the function of a stored job on an item's frame, and returns the frame of the result.

    Args:
        function: The verified pickle of the function.
        job_id: The job's id, for the contexts of items.
        job_digest: The job's digest, for the contexts of results.
        source: Digest of the job whose results the items are, for their contexts; None for other items.
    """

    function: bytes
    job_id: str
    job_digest: str
    source: str | None = None

    def __call__(self, packet: Packet) -> Encoded:
        """Run one item."""
        return _run(loaded(self.function), packet, self)


class OwnTask:
    """Runs a function of this program as `Task` does; the workers get the function as in any other map."""

    __slots__ = ("call", "job_digest", "job_id", "source")

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
    return portable(encode_result(function(item), index, bound.job_digest))


def _item(frame: Buffer, digest: str, context: str, index: int) -> Any:
    try:
        return decode(frame, digest=digest, context=context)
    except IntegrityError as error:
        raise ItemDamaged(error.message, item=index, hint=error.hint) from error
    except Exception as error:
        hint = "make its type importable in the image, or pass plain data"
        reason = f"{type(error).__name__}: {error}"
        raise Cause.ITEM_NOT_LOADABLE.error(item=index, hint=hint, reason=reason) from error


def worker_start(
    loader: FunctionLoader, initializer: Callable[..., object] | None, initargs: tuple[Any, ...]
) -> Callable[[], object]:
    """Return a function that loads the job's function and then calls the user's initializer, if there is one."""
    return loader if initializer is None else partial(_call_all, loader, partial(initializer, *initargs))


def _call_all(*functions: Callable[[], object]) -> None:
    for function in functions:
        function()


def encode_result(result: Any, index: int, job_digest: str) -> Encoded:
    """Return the frame of a result.

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
    """Return a frame that can be sent to another process; a large one is not copied."""
    if value.size < _JOINED:
        return Encoded((b"".join(value.parts),), value.size, value.digest)
    parts: tuple[Any, ...] = tuple(map(Part, value.parts))
    return Encoded(parts, value.size, value.digest)


@lru_cache(maxsize=1)
def loaded(function: bytes) -> Callable[[Any], Any]:
    """Return the function, unpickled once in each process."""
    found: Callable[[Any], Any] = pickle.loads(function)  # noqa: TID251 - `function_loader` has verified it
    return found
