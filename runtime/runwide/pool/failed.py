"""Entries of failures: text that always arrives, and the exception itself if it can be pickled."""

from __future__ import annotations

import traceback
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runwide.naming import text_of
from runwide.pool import transfer

if TYPE_CHECKING:
    from runwide.causes import Cause

NO_EXCEPTION = b""
"""The pickle of KeyboardInterrupt and the like. They are not passed on: in the caller, they would mean something else."""

_OURS = str(Path(__file__).parent)


def failed(
    cause: Cause, error: BaseException, message: str | None = None, value: str = ""
) -> tuple[Any, ...]:
    """Return an entry for a failure: text that always arrives, and the exception itself if it can be pickled.

    Args:
        cause: The cause of the failure.
        error: The exception.
        message: The error's text; None for its own text.
        value: The result that could not be pickled, as text.
    """
    text = ""
    with suppress(BaseException):  # the code of the user's classes runs here
        text = "".join(traceback.format_exception(type(error), error, _without_own_frames(error)))
    said = text_of(error) if message is None else message
    pickled: bytes | None = NO_EXCEPTION
    if isinstance(error, Exception):
        pickled, why = _pickled(error)
        said = f"{said}; {why}" if why and said else said or why
    name = type(error).__qualname__
    module = type(error).__module__
    qualified = name if module in ("builtins", "__main__") else f"{module}.{name}"
    exited = error.code if isinstance(error, SystemExit) else None
    exitcode = exited if isinstance(exited, int) else None
    return (
        transfer.FAILED,
        cause.name,
        qualified,
        said,
        text,
        pickled,
        exitcode,
        value,
    )


def _pickled(error: Exception) -> tuple[bytes | None, str]:
    """Return the pickle of an exception, and an empty text; or None, and the reason why it has none."""
    try:
        body, buffers = transfer.dump_by_reference_first(error)
    except BaseException as reason:  # the code of the user's classes runs here
        from runwide.unpicklable import located

        return None, located(text_of(reason), error)
    return (None, "it has large buffers") if buffers else (body, "")


def _without_own_frames(error: BaseException) -> Any:
    """Return the traceback without its first frames, if they are runwide's own."""
    trace = error.__traceback__
    while (
        trace is not None
        and trace.tb_next is not None
        and trace.tb_frame.f_code.co_filename.startswith(_OURS)
    ):
        trace = trace.tb_next
    return trace
