"""The one chain of processors that every line goes through; the only module that imports structlog."""

from __future__ import annotations

import json
import logging
import sys
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import structlog
from structlog.stdlib import ProcessorFormatter

from runwide import settings
from runwide.log.state import LABELS, Dropped, fields, text
from runwide.redaction import redacted_fields
from runwide.streams import is_hindrance, printable

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from structlog.typing import EventDict, Processor

    from runwide.log.lines import Line

_GOOGLE = "logging.googleapis.com/"
_LOCATION = f"{_GOOGLE}sourceLocation"
_LABELS = f"{_GOOGLE}labels"
_SEVERITIES = ("DEFAULT", "DEBUG", "INFO", "NOTICE", "WARNING", "ERROR", "CRITICAL", "ALERT", "EMERGENCY")
"""The names that Cloud Logging uses, ``LogSeverity`` in cloud.google.com/logging/docs/reference/v2/rest/v2/LogEntry."""

_MOST_CHARACTERS = 200_000
"""The longest message; Cloud Logging refuses entries of more than 256 KiB ("Quotas and limits")."""

_PLACE = ("pathname", "lineno", "func_name")
_HIDDEN = (*_PLACE, "level", "logger", "timestamp", "trace_id", "span_id", "trace_sampled")
_META = ("_record", "_from_structlog", "exc_info", "stack_info")


class Event(dict[str, Any]):
    """The fields of a line; handlers that expect text show the event and its fields.

    Example:
        >>> str(Event(event="pool.narrowed", level="warning", workers=1))
        'pool.narrowed workers=1'
    """

    def __str__(self) -> str:
        shown = (f" {name}={value!r}" for name, value in self.items() if name not in ("event", *_HIDDEN))
        return f"{self.get('event')}{''.join(shown)}"


def shared(processors: Sequence[Processor]) -> list[Processor]:
    """Return the processors of all lines, runwide's and those of ``logging``, before the renderer.

    Args:
        processors: The user's own. If one raises, the line stays as it was and gets a field with the error.
    """
    return [
        structlog.contextvars.merge_contextvars,
        _bound,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        _origin,
        _span,
        structlog.processors.StackInfoRenderer(),
        structlog.processors.format_exc_info,
        *map(_Guarded, processors),
        without_secrets,
    ]


def emit(line: Line, processors: Sequence[Processor]) -> None:
    """Pass a line of runwide to the handlers of its logger, as structlog passes its own to `ProcessorFormatter`."""
    level = logging.getLevelName(line.level)
    path, number, function = line.place
    event: Any = {
        **line.fields,
        "event": line.event,
        "timestamp": iso(line.time),
        **dict(zip(_PLACE, line.place, strict=True)),
    }
    try:
        for processor in shared(processors):
            event = processor(line.logger, level.lower(), event)
    except Dropped:
        return
    (message,), given = ProcessorFormatter.wrap_for_formatter(line.logger, level.lower(), Event(event))
    record = line.logger.makeRecord(
        line.logger.name, line.level, path, number, message, (), None, function, given["extra"]
    )
    record.created, record.msecs = line.time, line.time % 1 * 1000
    line.logger.handle(record)


def formatter(*, as_json: bool, colors: bool, processors: Sequence[Processor]) -> ProcessorFormatter:
    """Return the formatter of a handler, for lines of runwide and of the user's ``logging``.

    Args:
        as_json: One JSON object a line, as Cloud Logging's agents parse it; otherwise a short line of text.
        colors: Whether text has colors.
    """
    console = structlog.dev.ConsoleRenderer(
        0, colors=colors, pad_level=False, sort_keys=False, exception_formatter=structlog.dev.plain_traceback
    )
    rendering: list[Processor] = (
        [_entry, structlog.processors.JSONRenderer(dumped)] if as_json else [_brief, console]
    )
    return ProcessorFormatter(processors=[_Completed(processors), *rendering])


class _Completed:
    """Runs the shared processors over records of the user's: of ``logging``, and of structlog as the user configured it."""

    def __init__(self, processors: Sequence[Processor]) -> None:
        self._chain: list[Any] = shared(processors)

    def __call__(self, logger: Any, method: str, event: EventDict) -> EventDict:
        if isinstance(event["_record"].msg, Event):  # runwide's own line has been through the processors
            return event
        for processor in self._chain if event["_from_structlog"] else (_extra, *self._chain):
            event = processor(logger, method, event)
        return event


def printed(event: Any, severity: str, processors: Sequence[Processor]) -> str | None:
    """Return the JSON of a line that a task has printed; None if a processor of the user's drops it."""
    try:
        chain: list[Any] = [_bound, _span, *map(_Guarded, processors), without_secrets]
        for processor in chain:
            event = processor(None, severity.lower(), event)
    except Dropped:
        return None
    return dumped(_entry(None, severity, event))


class _Guarded:
    """A processor of the user's, which may fail or log; the lines that it logs skip the user's processors."""

    _running = threading.local()

    def __init__(self, processor: Processor) -> None:
        self._processor = processor

    def __call__(self, logger: Any, method: str, event: EventDict) -> EventDict:
        if getattr(self._running, "now", False):
            return event
        self._running.now = True
        try:
            found = self._processor(logger, method, {**event})
            if not isinstance(found, dict) or "event" not in found:
                raise TypeError("it must return the event dictionary")  # noqa: TRY301 - reported like any other error
        except structlog.DropEvent as error:
            raise Dropped from error
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt) and not is_hindrance(error):
                raise
            name = getattr(self._processor, "__name__", type(self._processor).__name__)
            event["processor_failed"] = f"{name}: {type(error).__name__}: {error}"
            return event
        finally:
            self._running.now = False
        return found


def _bound(_logger: Any, _method: str, event: EventDict) -> EventDict:
    for name, value in fields().items():
        event.setdefault(name, value)
    return event


def _origin(_logger: Any, _method: str, event: EventDict) -> EventDict:
    """Add time and place to a record of ``logging``; lines of runwide already have theirs."""
    record = event.get("_record")
    if record is not None:
        event["timestamp"] = iso(record.created)
        event.update(zip(_PLACE, (record.pathname, record.lineno, record.funcName), strict=True))
    return event


def _span(_logger: Any, _method: str, event: EventDict) -> EventDict:
    """Add the ids of OpenTelemetry's current span, if the program has one."""
    trace = sys.modules.get("opentelemetry.trace")
    if trace is not None:
        with suppress(Exception):
            current = trace.get_current_span().get_span_context()
            if current.is_valid:
                event["trace_id"] = f"{current.trace_id:032x}"
                event["span_id"] = f"{current.span_id:016x}"
                event["trace_sampled"] = bool(current.trace_flags.sampled)
    return event


def _extra(logger: Any, method: str, event: EventDict) -> EventDict:
    """Add the fields that ``extra=`` gave a record, which may have any name."""
    message = event["event"]
    found = structlog.stdlib.ExtraAdder()(logger, method, event)
    if found["event"] != message:
        found["event_"], found["event"] = found["event"], message
    return found


def without_secrets(_logger: Any, _method: str, event: EventDict) -> EventDict:
    """Remove values that look like secrets, and replace values that cannot be shown."""
    return {name: value if name in _META else _redacted(name, value) for name, value in event.items()}


def _redacted(name: str, value: Any) -> Any:
    try:
        return redacted_fields({name: value})[name]
    except Exception:  # it cannot be shown, or contains itself
        return f"<{type(value).__name__}>"


def last(message: str, severity: str) -> str:
    """Return the JSON of the message that ends a program; it skips the user's processors, so that it is always written."""
    event = without_secrets(None, "", {**fields(), "event": message, "timestamp": iso(time.time())})
    return dumped(_entry(None, severity, event))


def _entry(_logger: Any, severity: str, event: EventDict) -> EventDict:
    """Name the fields as Cloud Logging's agents parse them (cloud.google.com/logging/docs/structured-logging)."""
    record = event.pop("_record", None)
    event = {name: value for name, value in event.items() if name not in _META}
    message = "\n".join(str(event.pop(name)) for name in ("event", "exception", "stack") if name in event)
    place = dict(zip(("file", "line", "function"), [event.pop(name, None) for name in _PLACE], strict=True))
    event.pop("level", None)
    entry = {
        "message": _shortened(message),
        "severity": severity.upper() if record is None else _severity(record.levelno),
        "time": event.pop("timestamp", None),
        **_traced(event),
    }
    if place["file"]:
        entry[_LOCATION] = {**place, "line": str(place["line"])}
    if event.get("severity") in _SEVERITIES:
        entry["severity"] = event.pop("severity")
    labels = {name: str(event[name]) for name in LABELS if event.get(name) is not None}
    given = event.pop(_LABELS, None)
    if labels or isinstance(given, dict):
        entry[_LABELS] = {**labels, **(given if isinstance(given, dict) else {})}
    for name, value in event.items():
        # A field of the user's must not be taken for one of the agent's.
        entry[f"{name}_" if name in entry and not name.startswith(_GOOGLE) else name] = value
    return entry


def _traced(event: EventDict) -> dict[str, Any]:
    """Return the trace of a line's span, or else of the process."""
    trace, span = event.pop("trace_id", None), event.pop("span_id", None)
    sampled = event.pop("trace_sampled", None)
    if trace is not None:
        found = {f"{_GOOGLE}trace": settings.trace_name(trace), f"{_GOOGLE}spanId": span}
        return {**found, f"{_GOOGLE}trace_sampled": sampled}
    known = settings.trace()
    return {f"{_GOOGLE}trace": known} if known else {}


def _brief(_logger: Any, _method: str, event: EventDict) -> EventDict:
    """Keep the fields of a line that a person reads."""
    record = event["_record"]
    event = {name: value for name, value in event.items() if name not in (*_META, *_HIDDEN)}
    if record.name.partition(".")[0] == "runwide":  # other programs may color their own lines
        event = {name: printable(value) if isinstance(value, str) else value for name, value in event.items()}
    clock = time.strftime("%H:%M:%S", time.localtime(record.created))
    return {"timestamp": clock, "level": record.levelname.lower(), "logger": record.name, **event}


def _severity(level: int) -> str:
    """Return Cloud Logging's name for any level.

    Example:
        >>> _severity(50), _severity(25), _severity(5)
        ('CRITICAL', 'INFO', 'DEBUG')
    """
    names = ((50, "CRITICAL"), (40, "ERROR"), (30, "WARNING"), (20, "INFO"))
    return next((name for least, name in names if level >= least), "DEBUG")


def _shortened(message: str) -> str:
    left = len(message) - _MOST_CHARACTERS
    return message if left <= 0 else f"{message[:_MOST_CHARACTERS]}… ({left} more characters)"


def dumped(entry: Any, **_: Any) -> str:
    """Return JSON for any fields, in one line of ASCII; a value that JSON cannot express becomes text.

    Example:
        >>> dumped({"message": "m", "seconds": float("nan"), 3: {1, }})
        '{"message": "m", "seconds": "nan", "3": "{1}"}'
    """
    try:
        return json.dumps(entry, default=str, allow_nan=False)
    except (ValueError, TypeError, RecursionError):
        return json.dumps(dict(_plain(entry)))


def _plain(entry: dict[Any, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in entry.items():
        try:
            json.dumps(value, allow_nan=False)
        except (ValueError, TypeError, RecursionError):
            yield str(name), text(value)
        else:
            yield str(name), value


def iso(unix: float) -> str:
    """Return a time in the form of RFC 3339, in UTC.

    Example:
        >>> iso(0.25)
        '1970-01-01T00:00:00.250000Z'
    """
    seconds, micros = divmod(round(unix * 1_000_000), 1_000_000)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(seconds))}.{micros:06d}Z"
