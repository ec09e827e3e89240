"""A failure as an entry: text that always arrives, and the exception itself if it can be pickled."""

from __future__ import annotations

import traceback
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runwide.naming import text_of
from runwide.pool import transfer

if TYPE_CHECKING:
    from runwide.records import FailureKind

NO_EXCEPTION = b""
"""Stands for a raised KeyboardInterrupt, GeneratorExit or the like: raised in the caller, it would mean something else."""

_OURS = str(Path(__file__).parent)


def failed(
    kind: FailureKind, error: BaseException, what: str = "", message: str | None = None, value: str = ""
) -> tuple[Any, ...]:
    """Return an entry for a failure: text that always arrives, and the exception itself if it can be pickled.

    Args:
        kind: How it is classified.
        error: What was raised.
        what: What could not be pickled or loaded: function, item or result.
        message: What the error says; None for its own text.
        value: The result that could not be pickled, as it is shown.
    """
    text = ""
    with suppress(BaseException):  # whose code is the user's
        text = "".join(traceback.format_exception(type(error), error, _beyond_ours(error)))
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
        kind.value,
        what,
        qualified,
        said,
        text,
        pickled,
        exitcode,
        value,
    )


def _pickled(error: Exception) -> tuple[bytes | None, str]:
    """Return the pickle of an exception; None, and why, where it has none."""
    try:
        body, buffers = transfer.dump_by_reference_first(error)
    except BaseException as reason:  # the code of the user's classes runs here
        from runwide.unpicklable import located

        return None, located(text_of(reason), error)
    return (None, "it has large buffers") if buffers else (body, "")


def _beyond_ours(error: BaseException) -> Any:
    """The traceback without our own first frames, which tell the user nothing."""
    trace = error.__traceback__
    while (
        trace is not None
        and trace.tb_next is not None
        and trace.tb_frame.f_code.co_filename.startswith(_OURS)
    ):
        trace = trace.tb_next
    return trace
