"""OpenTelemetry spans and metrics of a run, through the API package alone: whoever wants them brings the SDK.

Off unless ``RUNWIDE_OTEL=1``. Made on the thread that writes events, so that the pool pays nothing for them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from runwide import settings
from runwide.errors import InputError
from runwide.job import events
from runwide.redaction import shortened

if TYPE_CHECKING:
    from runwide.job.events import Run
    from runwide.records import TaskEvent


def of(run: Run) -> Telemetry | None:
    """The telemetry of a run; None where it is off.

    Raises:
        InputError: It is on, and the API package is not installed.

    Example:
        >>> from runwide.job.events import Run
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
            "RUNWIDE_OTEL=1, and OpenTelemetry is not installed",
            hint="pip install runwide[otel] and an SDK, or unset it",
        ) from error
    return Telemetry(run, opentelemetry)


class Telemetry:
    """One span for a run, one below it for each attempt at a task, and counters and a histogram of the same.

    Args:
        run: The run.
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
        """One attempt at a task."""
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
                "runwide.worker": event.worker,
                "runwide.attempt": event.attempt,
                "runwide.outcome": outcome["outcome"],
                "runwide.cpu_seconds": event.cpu_seconds,
                "runwide.peak_rss": event.peak_rss,
            },
        )
        if event.kind is not None:
            span.set_status(
                self._trace.Status(self._trace.StatusCode.ERROR, shortened(event.detail, events.DETAIL))
            )
        span.end(_nanoseconds(event.time))

    def end(self, time: float) -> None:
        """The run has ended."""
        self._span.end(_nanoseconds(time))


def _nanoseconds(seconds: float) -> int:
    return int(seconds * 1e9)
