"""Convert failures to JSON and back; the exception is stored beside them as a value."""

from __future__ import annotations

from typing import Any

from runwide.job import fields
from runwide.records import Failure, FailureKind
from runwide.redaction import shortened

# Characters in a manifest; the limits keep the manifest of a shard readable if all of its items have failed.
_TRACEBACK = 8000
_MESSAGE = 2000
_TYPE = 200


def failure_to_json(failure: Failure) -> dict[str, Any]:
    """Return a failure as JSON; long texts are redacted before they are cut, since a cut might hide a secret's form."""
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
    """Return the failure that `failure_to_json` was given."""
    return Failure(
        index=fields.number(about["index"]),
        kind=FailureKind(fields.text(about["kind"])[:100]),  # an invalid kind is shown in the error
        type=fields.text(about["type"]),
        message=fields.text(about["message"]),
        traceback=fields.text(about.get("traceback", "")),
        attempts=fields.number(about.get("attempts", 1)),
    )
