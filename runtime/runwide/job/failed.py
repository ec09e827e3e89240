"""Failures as the records of a job have them: without the exception, which lies beside them as a value."""

from __future__ import annotations

from typing import Any

from runwide.job import fields
from runwide.records import Failure, FailureKind
from runwide.redaction import shortened

_TRACEBACK = 8000  # characters of a traceback that go into a manifest
_MESSAGE = 2000  # of a message: with it, a shard all of whose items have failed has a manifest that can be read again
_TYPE = 200


def failure_to_json(failure: Failure) -> dict[str, Any]:
    """A failure, without its exception; of long texts a part, without secrets: a cut might hide that they are."""
    trace = failure.traceback
    return {
        "attempts": failure.attempts,
        "index": failure.index,
        "kind": failure.kind.value,
        "message": _within(failure.message, _MESSAGE),
        "traceback": trace if len(trace) <= _TRACEBACK else shortened(trace, _TRACEBACK, tail=True),
        "type": _within(failure.type, _TYPE),
    }


def _within(text: str, most: int) -> str:
    return text if len(text) <= most else shortened(text, most)


def failure_from_json(about: dict[str, Any]) -> Failure:
    """The failure that `failure_to_json` described."""
    return Failure(
        index=fields.number(about["index"]),
        kind=FailureKind(fields.text(about["kind"])[:100]),  # what is none is shown in an error
        type=fields.text(about["type"]),
        message=fields.text(about["message"]),
        traceback=fields.text(about.get("traceback", "")),
        attempts=fields.number(about.get("attempts", 1)),
    )
