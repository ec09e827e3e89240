"""Failures as the records of a job have them: without the exception, which lies beside them as a value."""

from __future__ import annotations

from typing import Any

from runwide.job import fields
from runwide.records import Failure, FailureKind
from runwide.redaction import shortened

_TRACEBACK = 8000  # characters of a traceback that go into a manifest


def failure_to_json(failure: Failure) -> dict[str, Any]:
    """A failure, without its exception; of a long traceback the end, without secrets: a cut might hide that they are."""
    trace = failure.traceback
    return {
        "attempts": failure.attempts,
        "index": failure.index,
        "kind": failure.kind.value,
        "message": failure.message,
        "traceback": trace if len(trace) <= _TRACEBACK else shortened(trace, _TRACEBACK, tail=True),
        "type": failure.type,
    }


def failure_from_json(about: dict[str, Any]) -> Failure:
    """The failure that `failure_to_json` described."""
    return Failure(
        index=fields.number(about["index"]),
        kind=FailureKind(about["kind"]),
        type=fields.text(about["type"]),
        message=fields.text(about["message"]),
        traceback=fields.text(about.get("traceback", "")),
        attempts=fields.number(about.get("attempts", 1)),
    )
