"""Decode the outcome of an item from its frame in a verified chunk."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from runwide.causes import Cause
from runwide.errors import RemoteTraceback
from runwide.job import contexts
from runwide.records import Failure, FailureKind, Outcome
from runwide.spill.codec import decode_verified

if TYPE_CHECKING:
    from runwide.job import code
    from runwide.job.model import Job
    from runwide.spill.buffers import Buffer


def outcome(
    frame: Buffer, item: int, job: Job, failure: Failure | None, uri: str, *, late: code.Late
) -> Outcome:
    """Return the outcome of an item.

    Args:
        frame: Its frame, verified.
        item: Its index.
        job: The job.
        failure: The record of its failure, if it failed.
        uri: URI of the chunk, for errors.
        late: The job's code, for modules that are missing in this process.
    """
    context = contexts.result_context(job.digest, item)
    load = partial(decode_verified, frame, context=context, uri=uri)
    try:
        value = late.loaded(load)
    except Exception as error:
        return Outcome(item, failure=failure or _not_loadable(error, item, uri, late.hint(error)))
    if failure is None:
        return Outcome(item, value)
    if isinstance(value, BaseException) and failure.traceback:
        value.__cause__ = RemoteTraceback("in a worker", item=item, traceback=failure.traceback)
    return Outcome(item, failure=failure.but(exception=value))


def _not_loadable(error: Exception, item: int, uri: str, hint: str | None) -> Failure:
    hint = hint or "install here what the function's image has, or return plain data"
    reason = f"{type(error).__name__}: {error}"
    raised = Cause.RESULT_NOT_LOADABLE.error(item=item, hint=hint, facts={"uri": uri}, reason=reason)
    raised.__cause__ = error
    return Failure(item, FailureKind.PICKLING, type(raised).__name__, raised.message, exception=raised)
