"""Secrets do not get through, and what is none stays."""

from __future__ import annotations

import pytest

from runwide.redaction import redacted, redacted_fields

JWT = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.c2lnbmF0dXJl"


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        ("https://storage.googleapis.com/b/o?X-Goog-Algorithm=a&X-Goog-Signature=0bad", "0bad"),
        ("https://s3/b?AWSAccessKeyId=AKIA1&Signature=c2lnbg%3D", "c2lnbg"),
        ("https://x.blob.core.windows.net/c?sv=2&sig=aGFzaA%3D%3D", "aGFzaA"),
        ("Authorization: Bearer ya29.a0AfH6SMBx", "a0AfH6SMBx"),
        ("token was ya29.a0AfH6SMBx", "a0AfH6SMBx"),
        (f"jwt {JWT}", "c2lnbmF0dXJl"),
        ("postgres://user:hunter2@db/base", "hunter2"),
        ("connect(password='hunter two')", "hunter two"),
        ('{"api_key": "abc123"}', "abc123"),
        ("RUNWIDE_SIGNING_KEY=s3cr3t-value", "s3cr3t-value"),
        ("client_secret=shh", "shh"),
        ("-----BEGIN PRIVATE KEY-----\nMIIEvQ\n-----END PRIVATE KEY-----", "MIIEvQ"),
    ],
)
def test_a_secret_is_hidden(text, secret):
    assert secret in text
    assert secret not in redacted(text)
    assert "[redacted]" in redacted(text)


@pytest.mark.parametrize(
    "text",
    [
        "item 3: ValueError: no basic unit",
        "gs://bucket/runs/a-20261124t231308-36c13f7040d35a90/job.json#sha256=36c13f",
        "https://example.com/a?page=2&sort=name",
        'File "/app/tokens.py", line 3, in tokenize',
        "a = 1; b == 2",
        "12:30:45 user@host",
    ],
)
def test_what_is_no_secret_stays(text):
    assert redacted(text) == text


def test_fields_are_hidden_by_name_and_by_content():
    assert redacted_fields({"password": 1, "nested": {"authorization": "x"}, "url": "u?sig=1", "n": 2}) == {
        "password": "[redacted]",
        "nested": {"authorization": "[redacted]"},
        "url": "u?sig=[redacted]",
        "n": 2,
    }
