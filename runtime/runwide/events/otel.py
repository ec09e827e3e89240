"""OpenTelemetry spans and metrics of a run.

They are off unless ``RUNWIDE_OTEL=1``. Only the API package is used: the program installs and configures an SDK. The thread
that writes events makes them, so that they cost the pool nothing.
"""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Any

from runwide import settings
from runwide.errors import InputError
from runwide.events.lines import DETAIL
from runwide.events.model import TaskEvent
from runwide.redaction import shortened

if TYPE_CHECKING:
    from runwide.events.model import Run

# Fields that a span has in another form, or not at all. A new field becomes an attribute: text of the user belongs here too,
# since it must be redacted.
_NO_ATTRIBUTE = {
    "name", "time", "index", "seconds", "detail", "queued", "started", "kind", "pid", "cpu", "bytes",
}  # fmt: skip
_SHOWN = [one.name for one in fields(TaskEvent) if one.name not in _NO_ATTRIBUTE]


def of(run: Run) -> Spans | None:
    """Return the spans of a run; None if they are off.

    Raises:
        InputError: They are on, but the API package is not installed.

    Example:
        >>> from runwide.events.model import Run
        >>> of(Run("r", 0.0)) is None
        True
    """
    if not settings.read().otel:
        return None
    try:
        import opentelemetry.metrics
        import opentelemetry.propagate
        import opentelemetry.trace
    except ImportError as error:
        raise InputError(
            "RUNWIDE_OTEL=1 needs OpenTelemetry, which is not installed",
            hint="pip install runwide[otel] and an SDK, or unset RUNWIDE_OTEL",
        ) from error
    return Spans(run, opentelemetry)


class Spans:
    """A span of a run, a span below it for each attempt at a task, and counters and a histogram of the attempts.

    Args:
        api: The package ``opentelemetry``.
    """

    def __init__(self, run: Run, api: Any) -> None:
        self._trace = api.trace
        self._tracer = api.trace.get_tracer("runwide")
        meter = api.metrics.get_meter("runwide")
        self._attempts = meter.create_counter("runwide.task.attempts", unit="{attempt}")
        self._seconds = meter.create_histogram("runwide.task.duration", unit="s")
        self._cpu = meter.create_counter("runwide.task.cpu_time", unit="s")
        parent = api.propagate.extract({"traceparent": settings.value("TRACEPARENT") or ""})
        about = {"runwide.job": run.job, "runwide.shard": run.shard, "runwide.function": run.function}
        self._span = self._tracer.start_span(
            "runwide.run", context=parent, start_time=_nanoseconds(run.started), attributes=about
        )
        self._context = api.trace.set_span_in_context(self._span)

    def task(self, event: TaskEvent, item: int) -> None:
        """Record one attempt at a task."""
        outcome = {
            "outcome": event.name.removeprefix("task."),
            "kind": event.kind.value if event.kind else "",
        }
        self._attempts.add(1, outcome)
        self._seconds.record(event.seconds, outcome)
        self._cpu.add(event.cpu_seconds, outcome)
        span = self._tracer.start_span(
            "runwide.task",
            context=self._context,
            start_time=_nanoseconds(event.started),
            attributes={
                "runwide.item": item,
                "runwide.outcome": outcome["outcome"],
                **{f"runwide.{name}": getattr(event, name) for name in _SHOWN},
            },
        )
        if event.kind is not None:
            span.set_status(self._trace.Status(self._trace.StatusCode.ERROR, shortened(event.detail, DETAIL)))
        span.end(_nanoseconds(event.time))

    def end(self, time: float) -> None:
        """End the span of the run."""
        self._span.end(_nanoseconds(time))


def _nanoseconds(seconds: float) -> int:
    return int(seconds * 1e9)
