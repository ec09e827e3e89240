"""The loggers of runwide's own modules."""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from runwide.log import handler
from runwide.log.state import fields

if TYPE_CHECKING:
    from collections.abc import Iterator

_held: list[Line] | None = None
_lock = threading.RLock()


@dataclass(frozen=True, slots=True)
class Line:
    """A line to be written.

    Args:
        level: A number as in `logging`.
        fields: Its own fields and those that were bound.
        time: In Unix seconds.
        place: File, line and function of the caller.
    """

    logger: logging.Logger
    level: int
    event: str
    fields: dict[str, Any]
    time: float
    place: tuple[str, int, str]


class Log:
    """A logger of ``logging`` below ``runwide``, which never raises.

    It costs almost nothing until it writes: the first line whose level is enabled loads structlog. A line that cannot be
    written is dropped. Event names are ``noun.verb_past``; everything else is a keyword.

    Args:
        name: Its name without ``runwide.``.

    Example:
        >>> Log("doc").debug("chunk.spilled", bytes=3)
    """

    __slots__ = ("_name",)

    def __init__(self, name: str) -> None:
        self._name = f"{handler.ROOT}.{name}"

    def debug(self, event: str, **fields: Any) -> None:
        """Write a line that helps to find a fault."""
        self._write(logging.DEBUG, event, fields)

    def info(self, event: str, **fields: Any) -> None:
        """Write a line about normal operation."""
        self._write(logging.INFO, event, fields)

    def warning(self, event: str, **fields: Any) -> None:
        """Write a line about a possible problem."""
        self._write(logging.WARNING, event, fields)

    def error(self, event: str, **fields: Any) -> None:
        """Write a line about a failure."""
        self._write(logging.ERROR, event, fields)

    def _write(self, level: int, event: str, given: dict[str, Any]) -> None:
        with suppress(Exception):  # a field may be of any type, and structlog of any version
            handler.attend()
            logger = logging.getLogger(self._name)
            if logger.isEnabledFor(level):
                caller = sys._getframe(2)  # noqa: SLF001 - logging itself does the same
                place = (caller.f_code.co_filename, caller.f_lineno, caller.f_code.co_name)
                _put(Line(logger, level, event, {**fields(), **given}, time.time(), place))


@contextmanager
def held() -> Iterator[None]:
    """Hold back lines below WARNING while the block runs, or until `release`, since loading structlog would delay the block.

    Example:
        >>> with held():
        ...     Log("doc").debug("container.started")
    """
    global _held  # noqa: PLW0603 - a fact about this process
    _held = []
    try:
        yield
    finally:
        _release()


def release() -> None:
    """Write the lines that are held back, on a thread of its own, and hold back no more."""
    if _held is not None:
        with suppress(RuntimeError):  # no thread could be started; they are written at the end of the block
            threading.Thread(target=_release, name="runwide-log", daemon=True).start()


def _release() -> None:
    global _held
    with _lock:
        lines, _held = _held, None
        for line in lines or ():
            _emit(line)


def _put(line: Line) -> None:
    with _lock:
        if _held is not None and line.level < logging.WARNING:
            _held.append(line)
            return
        _release()
    _emit(line)


def _renew() -> None:
    """Replace the lock in a forked child: another thread of the parent may have held it."""
    global _lock  # noqa: PLW0603 - a fact about this process
    _lock = threading.RLock()


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_renew)


def _emit(line: Line) -> None:
    from runwide.log import chain

    with suppress(Exception):
        chain.emit(line, handler.configuration().processors)
