"""The only configuration of logging: Cloud Logging's JSON in a container, structlog's text where somebody looks.

structlog takes a tenth of a second to import, which a shard would pay at its first line; so JSON is written without it.
"""

from __future__ import annotations

import json
import logging
import sys
import threading
import time
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from runwide import settings, writing
from runwide.errors import InputError
from runwide.redaction import redacted, redacted_fields, redacted_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, MutableMapping
    from types import FrameType

    Writer = Callable[[str, dict[str, Any]], None]  # of a level and an event's fields

_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
_LOCATION = "logging.googleapis.com/sourceLocation"
_LABELS = "logging.googleapis.com/labels"
_TRACE = "logging.googleapis.com/trace"
_BOUND = ("job", "shard", "item", "worker", "attempt")

_lock = threading.Lock()
_root: Writer | None = None
_here: ContextVar[Mapping[str, Any] | None] = ContextVar("runwide-log", default=None)
_anywhere: Mapping[str, Any] = {}  # of this process, for threads that were started before or beside
_task: Callable[[], Mapping[str, Any]] | None = None


class Log:
    """A named logger that costs nothing until it writes, and never raises: a line that cannot be written is dropped.

    Event names are ``noun.verb_past``; everything else is a keyword.

    Example:
        >>> Log("doc").debug("chunk.spilled", bytes=3)
    """

    __slots__ = ("_name",)

    def __init__(self, name: str) -> None:
        self._name = name

    def debug(self, event: str, **fields: Any) -> None:
        """Write a line for those who look for a fault."""
        _log("debug", {"logger": self._name, **fields, "event": event})

    def info(self, event: str, **fields: Any) -> None:
        """Write a line about the normal course of things."""
        _log("info", {"logger": self._name, **fields, "event": event})

    def warning(self, event: str, **fields: Any) -> None:
        """Write a line about something that somebody should look at."""
        _log("warning", {"logger": self._name, **fields, "event": event})

    def error(self, event: str, **fields: Any) -> None:
        """Write a line about something that failed."""
        _log("error", {"logger": self._name, **fields, "event": event})


@contextmanager
def bound(**fields: Any) -> Iterator[None]:
    """Have every line of this process carry some fields while the block runs.

    Lines of other threads carry those that were bound last.

    Example:
        >>> with bound(job="a-1", shard=3):
        ...     fields()
        {'job': 'a-1', 'shard': 3}
    """
    global _anywhere  # noqa: PLW0603 - a fact about this process
    before = _anywhere
    token = _here.set({**(_here.get() or {}), **fields})
    _anywhere = {**before, **fields}
    try:
        yield
    finally:
        _anywhere = before
        _here.reset(token)


def fields() -> dict[str, Any]:
    """What every line carries now."""
    found = {**(_here.get() or _anywhere)}
    if _task is not None:
        found |= _task()
    return found


def become_worker(known: Mapping[str, Any], task: Callable[[], Mapping[str, Any]]) -> None:
    """Have every line of this worker process carry what the pool's lines carry, and the task that runs.

    Args:
        known: Fields of the process that has the pool, and the worker's number.
        task: The item and the attempt that run now.
    """
    global _anywhere, _task
    _anywhere, _task = dict(known), task
    take_over_logging()


def is_watched() -> bool:
    """Whether somebody sees this program's standard error as it comes: on a terminal, or in a notebook."""
    return writing.is_terminal(sys.stderr) or ("ipykernel" in sys.modules and not settings.in_cloud())


def is_collected() -> bool:
    """Whether a log collector reads this process's output: ``RUNWIDE_LOG=json``, or Vertex's or Kubernetes' variables.

    Only then are the user's prints and log lines wrapped in JSON: elsewhere somebody may be piping them.
    """
    wanted = settings.read().log_format
    return wanted == "json" or (not wanted and settings.in_cloud())


def take_over_logging() -> None:
    """Have the user's own ``logging`` write lines of this form, unless they have set it up, where logs are collected."""
    root = logging.getLogger()
    if is_collected() and not root.handlers:
        root.addHandler(_Handler())
        root.setLevel(_LEVELS[settings.read().log_level])


def print_line(text: str, *, severity: str, known: Mapping[str, Any]) -> str:
    r"""A line that a task has printed, as JSON that a log collector reads; a line that is such JSON stays so.

    Args:
        text: The line, without its end.
        severity: ``INFO`` for standard output, ``WARNING`` for standard error.
        known: The worker, the item and the attempt, as far as they are known.

    Example:
        >>> json.loads(print_line("hello", severity="INFO", known={"item": 3}))["logging.googleapis.com/labels"]
        {'item': '3'}
        >>> print_line('{"message": "mine"}', severity="INFO", known={})
        '{"message": "mine"}'
    """
    if text.startswith("{") and text.endswith("}") and (as_it_is := redacted_json(text)) is not None:
        return as_it_is
    event: dict[str, Any] = {
        "message": redacted(text),
        "severity": severity,
        "time": _now(),
        **fields(),
        **known,
    }
    return _dumped(event)


class _Handler(logging.Handler):
    """Writes the user's log records as lines of ours."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            message = record.getMessage()
            if record.exc_info:
                message += "\n" + logging.Formatter().formatException(record.exc_info)
            location = {"file": record.pathname, "line": str(record.lineno), "function": record.funcName}
            event = {
                "message": message,
                "severity": record.levelname
                if record.levelno in _LEVELS.values()
                else _severity(record.levelno),
                "time": _iso(record.created),
                "logger": record.name,
                **fields(),
                _LOCATION: location,
            }
            writing.write(sys.stderr, _dumped(redacted_fields(event)) + "\n")
        except Exception:
            with suppress(Exception):  # standard error may be anything
                self.handleError(record)


def _severity(level: int) -> str:
    """The name that Cloud Logging has for a level between or beyond the standard ones.

    Example:
        >>> _severity(50), _severity(25), _severity(5)
        ('CRITICAL', 'INFO', 'DEBUG')
    """
    names = ((50, "CRITICAL"), (40, "ERROR"), (30, "WARNING"), (20, "INFO"))
    return next((name for least, name in names if level >= least), "DEBUG")


def _log(level: str, given: dict[str, Any]) -> None:
    with suppress(Exception):  # a field may be of any type, and structlog of any version
        _writer()(level, given)


def _writer() -> Writer:
    global _root  # noqa: PLW0603 - one a process, made on first use
    if _root is None:
        with _lock:
            if _root is None:
                _root = _configured(_settings())
    return _root


def _settings() -> settings.Settings:
    try:
        return settings.read()
    except InputError:  # the pool, or the command, says so
        return settings.Settings()


def _configured(wanted: settings.Settings) -> Writer:
    as_json = wanted.log_format == "json" or (not wanted.log_format and not is_watched())
    render, least = _json if as_json else _text_or_json(), _LEVELS[wanted.log_level]

    def write(level: str, given: dict[str, Any]) -> None:
        if _LEVELS[level] >= least:
            # Whatever it is at that moment, so that capturing and redirecting work.
            writing.write(sys.stderr, render(level, redacted_fields({**fields(), **given})) + "\n")

    return write


def _json(level: str, known: dict[str, Any]) -> str:
    """Name the fields as Cloud Logging's agents parse them (cloud.google.com/logging/docs/structured-logging)."""
    known["time"] = _now()
    known["severity"] = level.upper()
    known["message"] = known.pop("event")
    frame = _caller()
    if frame is not None:
        code = frame.f_code
        known[_LOCATION] = {"file": code.co_filename, "line": str(frame.f_lineno), "function": code.co_name}
    return _dumped(known)


def _text_or_json() -> Callable[[str, dict[str, Any]], str]:
    try:
        return _text()
    except Exception:  # of an installation that is not whole
        return _json


def _text() -> Callable[[str, dict[str, Any]], str]:
    import structlog

    stamp = structlog.processors.TimeStamper(fmt="iso", utc=True)
    render: Any = structlog.dev.ConsoleRenderer(colors=writing.is_terminal(sys.stderr))

    return lambda level, known: render(None, level, stamp(None, level, {**known, "level": level}))


def _dumped(event: MutableMapping[str, Any]) -> str:
    return json.dumps(_labelled(event), default=str)


def _now() -> str:
    return _iso(time.time())


def _iso(unix: float) -> str:
    seconds, micros = divmod(round(unix * 1_000_000), 1_000_000)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(seconds))}.{micros:06d}Z"


def _caller() -> FrameType | None:
    """The frame that called a method of `Log`."""
    frame: FrameType | None = sys._getframe(1)  # noqa: SLF001 - what logging itself does
    while frame is not None and frame.f_globals is globals():
        frame = frame.f_back
    return frame


def _labelled(event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Put what is bound into labels too, which are indexed, and name the trace that the process is part of."""
    labels = {name: str(event[name]) for name in _BOUND if event.get(name) is not None}
    if labels:
        event[_LABELS] = labels
    trace = settings.trace()
    if trace:
        event[_TRACE] = trace
    return event
