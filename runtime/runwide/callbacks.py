"""Calls of the user's callbacks, whose exceptions are logged."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from runwide.log import Log
from runwide.naming import text_of
from runwide.redaction import shortened

if TYPE_CHECKING:
    from collections.abc import Callable

_log = Log("pool")

_SAID = 2_000  # characters of an error


def undisturbed(function: Callable[..., object], *args: Any, logs: bool = True) -> bool:
    """Call a callback of the user; an exception is logged, and does not stop the caller.

    Args:
        function: The callback.
        *args: Its arguments.
        logs: False to log no exception.

    Returns:
        True if it raised no exception.
    """
    try:
        function(*args)
    except BaseException as error:
        if logs:
            said = shortened(text_of(error), _SAID)  # the scheduler's thread must not spend much time here
            _log.error("callback.failed", type=type(error).__name__, error=said)
        return False
    return True
