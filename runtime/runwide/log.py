"""The only configuration of structlog: Cloud Logging's JSON in a container, colours on a terminal.

structlog takes a tenth of a second to import, so it is imported when the first line is written.
"""

from __future__ import annotations

import logging
import sys
import threading
from typing import TYPE_CHECKING, Any

from runwide import settings

if TYPE_CHECKING:
    from collections.abc import MutableMapping

_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
_lock = threading.Lock()
_root: Any = None


class Log:
    """A named logger that costs nothing until it writes.

    Event names are ``noun.verb_past``; everything else is a keyword.

    Example:
        >>> Log("doc").debug("chunk.spilled", bytes=3)
    """

    __slots__ = ("_name",)

    def __init__(self, name: str) -> None:
        self._name = name

    def debug(self, event: str, **fields: Any) -> None:
        """Write a line for those who look for a fault."""
        _logger().debug(event, logger=self._name, **fields)

    def info(self, event: str, **fields: Any) -> None:
        """Write a line about the normal course of things."""
        _logger().info(event, logger=self._name, **fields)

    def warning(self, event: str, **fields: Any) -> None:
        """Write a line about something that somebody should look at."""
        _logger().warning(event, logger=self._name, **fields)

    def error(self, event: str, **fields: Any) -> None:
        """Write a line about something that failed."""
        _logger().error(event, logger=self._name, **fields)


def _logger() -> Any:
    global _root  # noqa: PLW0603 - one logger a process, made on first use
    if _root is None:
        with _lock:
            if _root is None:
                _root = _configured(settings.read())
    return _root


def _configured(wanted: settings.Settings) -> Any:
    import structlog

    as_json = wanted.log_format == "json" or (not wanted.log_format and not sys.stderr.isatty())
    common: list[Any] = [structlog.contextvars.merge_contextvars, structlog.processors.format_exc_info]
    stamp = structlog.processors.TimeStamper(fmt="iso", utc=True, key="time" if as_json else "timestamp")
    finish = (
        [_cloud_logging, structlog.processors.JSONRenderer(default=str)]
        if as_json
        else [structlog.processors.add_log_level, structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())]
    )
    bound = structlog.make_filtering_bound_logger(_LEVELS[wanted.log_level])
    return bound(_StandardError(), [*common, stamp, *finish], {})


class _StandardError:
    """Writes to whatever ``sys.stderr`` is at that moment, so that capturing and redirecting work."""

    @staticmethod
    def _write(message: str) -> None:
        sys.stderr.write(message + "\n")
        sys.stderr.flush()

    debug = info = warning = error = _write


def _cloud_logging(_logger: Any, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Name the fields as Cloud Logging's agent parses them (structured logging: severity, message, time)."""
    event["severity"] = method.upper()
    event["message"] = event.pop("event")
    return event
