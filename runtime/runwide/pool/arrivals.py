"""Deliver the results of a chunk to its call: values, failures, and tasks that are tried again."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any

from runwide import errors
from runwide.errors import ScratchError
from runwide.events import emit
from runwide.pool import failures, reserve, transfer
from runwide.records import Failure, FailureKind

if TYPE_CHECKING:
    from runwide.events.emit import End
    from runwide.pool.call import Chunk
    from runwide.pool.policy import Charges


_NO_DESCRIPTORS = (errno.EMFILE, errno.ENFILE)


def deliver(
    chunk: Chunk, first: int, entries: list[Any], mapping: memoryview | ScratchError | None
) -> dict[int, End]:
    """Deliver results to their call. Each is loaded separately, so that one that cannot be loaded fails alone.

    Args:
        chunk: The chunk of the tasks.
        first: Position of the first of these tasks in the chunk.
        entries: The entries of the results.
        mapping: The payload file that came with them, or the error of reading it.

    Returns:
        The attempts that have no value, by position in the chunk.
    """
    if chunk.call.over:
        return {}
    without_value = {}
    for position, entry in enumerate(entries, first):
        end = _end(chunk, position, entry, mapping)
        if end is not None:
            without_value[position] = end
    return without_value


def _end(chunk: Chunk, position: int, entry: Any, mapping: memoryview | ScratchError | None) -> End | None:
    index, charges = chunk.tasks.first + position, chunk.tasks.charges.started()
    if type(entry) is tuple and entry[0] == transfer.FAILED:
        return _fail(chunk, position, failures.of_entry(entry, index, charges))
    if isinstance(mapping, ScratchError):
        if type(entry) is tuple and entry[0] == transfer.MAPPED:
            return _lost(chunk, position, mapping)
        mapping = None
    try:
        value = transfer.load(entry, mapping)
    except ScratchError as error:
        return _lost(chunk, position, error)
    except BaseException as error:
        failure = failures.of_result(error, index, charges)
        chunk.call.sink.failure(failure)
        return emit.of_failure(failure, again=False)
    chunk.call.sink.values(index, [value])
    return None


def _lost(chunk: Chunk, position: int, error: ScratchError) -> End | None:
    charges = chunk.tasks.charges.started().crashed()  # the attempt counts, though its result is lost
    failure = failures.of_scratch(error, chunk.tasks.first + position, charges)
    return _end_of(chunk, position, failure, charges, retryable=True)


def _fail(chunk: Chunk, position: int, failure: Failure) -> End:
    charges = chunk.tasks.charges.started().raised()
    reserve.load("runwide.deaths")
    raised = failure.exception
    chunk.exhausted |= isinstance(raised, ScratchError) and raised.errno in _NO_DESCRIPTORS
    retryable = failure.kind is FailureKind.EXCEPTION and not isinstance(failure.exception, errors.WorkerDied)
    return _end_of(chunk, position, failure, charges, retryable=retryable)


def _end_of(chunk: Chunk, position: int, failure: Failure, charges: Charges, *, retryable: bool) -> End:
    if retryable and chunk.call.budget.allows(charges):
        task = chunk.tasks.part(position, position + 1)
        task.charges = charges
        chunk.call.again.append(task)
        return emit.of_failure(failure, again=True)
    chunk.call.sink.failure(failure)
    return emit.of_failure(failure, again=False)
