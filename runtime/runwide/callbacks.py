"""Calls of the user's code that call back, and stop nobody else's work."""

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
    """Call what calls back: whatever the user's code raises is logged, and stops nobody else's work.

    Args:
        function: What to call.
        *args: Its arguments.
        logs: Whether an exception is logged.

    Returns:
        Whether it raised nothing.
    """
    try:
        function(*args)
    except BaseException as error:
        if logs:
            said = shortened(text_of(error), _SAID)  # on the scheduler's thread, which is to be back soon
            _log.error("callback.failed", type=type(error).__name__, error=said)
        return False
    return True
