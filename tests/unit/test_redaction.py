"""Secrets do not get through, and what is none stays."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runwide.redaction import Lines, hide, redacted, redacted_fields, redacted_json

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
        ("-----BEGIN RSA PRIVATE KEY-----\\nMIIEvQ\\nand cut", "MIIEvQ"),
        ("go?to=https%3A%2F%2Fb%2Fo%3FX-Goog-Signature%3D0bad%26x%3D1", "0bad"),
        ("<a href='https://b/o?x=1&amp;X-Goog-Signature=0bad'>", "0bad"),
        ('{"u": "https://b/o?x=1\\u0026X-Goog-Signature=0bad"}', "0bad"),
        ("{'token': b'abc-123'}", "abc-123"),
        ("{'token': 'it\\'s-me'}", "s-me"),
        ("password='cut off here", "cut"),
        ('"{\\"password\\": \\"hunter2 and more\\"}"', "hunter2 and more"),
        ("curl --password hunter2 https://x", "hunter2"),
        ("gsutil --hmac-secret hunter2", "hunter2"),
        ("AccountName=a;AccountKey=aGFzaA==;EndpointSuffix=x", "aGFzaA"),
        ("hmac_key: 4f7a9c", "4f7a9c"),
        ("access id GOOG1EXAMPLEEXAMPLEEXAMPLE12345", "GOOG1EXAMPLE"),
        ("id AKIAIOSFODNN7EXAMPLE", "AKIAIOSFODNN7"),
        ("refresh 1//0gabcdefghijklmnopqrstuvwxyz", "0gabcdef"),
        ("pushed with ghp_0123456789abcdefghijABCDEFGHIJ", "0123456789"),
        ("Set-Cookie: session=abc; Path=/", "abc"),
        ("{'Authorization': 'Basic dXNlcjpodW50ZXIy'}", "dXNlcjpodW50ZXIy"),
        ("redis://:hunter2@cache:6379/0", "hunter2"),
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
        "kernel: risk-free, task 3 of sketches",
        "the key=17 of the table, sort_key='day'",
        "cookies were eaten",
    ],
)
def test_what_is_no_secret_stays(text):
    assert redacted(text) == text


SERVICE_ACCOUNT = {
    "type": "service_account",
    "project_id": "shop",
    "private_key_id": "0123",
    "private_key": "-----BEGIN PRIVATE KEY-----\nMIIEvQIBADAN\nQCxyz\n-----END PRIVATE KEY-----\n",
    "client_email": "robot@shop.iam.gserviceaccount.com",
}


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("write", [json.dumps, lambda value, indent: repr(value)], ids=["json", "repr"])
def test_a_service_accounts_key_is_hidden_and_whose_it_is_is_not(write, indent):
    shown = redacted(write(SERVICE_ACCOUNT, indent=indent))
    assert "MIIEvQ" not in shown
    assert "QCxyz" not in shown
    assert "robot@shop.iam.gserviceaccount.com" in shown


def test_a_key_that_comes_line_by_line_is_hidden_and_what_follows_is_not():
    hidden = Lines()
    key = [
        "x -----BEGIN RSA PRIVATE KEY-----",
        "Proc-Type: 4,ENCRYPTED",
        "",
        "MIIEvQ+/=",
        "-----END RSA PRIVATE KEY-----, said I",
    ]
    shown = [hidden(line) for line in [*key, "item 3 is done"]]
    assert "MIIEvQ" not in "".join(shown)
    assert "ENCRYPTED" not in "".join(shown)
    assert shown[-2:] == ["[redacted], said I", "item 3 is done"]


def test_a_key_that_breaks_off_hides_no_more_than_could_be_of_it():
    hidden = Lines()
    shown = [
        hidden(line)
        for line in ["-----BEGIN PRIVATE KEY-----", "MIIEvQ", "Traceback (most recent call last):", "MIIEvQ"]
    ]
    assert shown == ["[redacted]", "[redacted]", "Traceback (most recent call last):", "MIIEvQ"]


def test_a_line_of_json_keeps_its_form_and_loses_its_secrets_at_any_depth():
    line = '{"message":  "https://b/o?X-Goog-Signature=0bad", "about": [{"token": "t0ken"}, "password=hunter2"], "n": 1}'
    shown = redacted_json(line)
    assert not any(secret in shown for secret in ("0bad", "t0ken", "hunter2"))
    assert json.loads(shown)["n"] == 1
    assert redacted_json('{"message":  "mine"}') == '{"message":  "mine"}'
    assert redacted_json("{password=hunter2}") is None
    assert redacted_json("[" * 100_000 + "1") is None


def test_a_value_that_is_known_to_be_secret_is_hidden_without_any_sign(monkeypatch):
    from runwide import redaction

    monkeypatch.setattr(redaction, "_known", set())
    hide("0123456789abcdef")
    hide("short")
    assert redacted("it is 0123456789abcdef, in short") == "it is [redacted], in short"


def test_the_signing_key_is_hidden_once_it_was_read(monkeypatch):
    from runwide import redaction
    from runwide.spill import signing

    monkeypatch.setattr(redaction, "_known", set())
    monkeypatch.setenv("RUNWIDE_SIGNING_KEY", "correct horse battery staple")
    signing._key.cache_clear()
    signing.key()
    assert redacted("I have the correct horse battery staple.") == "I have the [redacted]."
    signing._key.cache_clear()


def test_objects_among_the_fields_are_hidden_as_they_would_be_shown():
    found = redacted_fields(
        {"cause": ValueError("password=hunter2"), "urls": ("u?sig=0bad",), "n": 1.5, "none": None}
    )
    assert found == {"cause": "password=[redacted]", "urls": ["u?sig=[redacted]"], "n": 1.5, "none": None}


@given(st.text(st.characters(codec="ascii"), max_size=300))
def test_hiding_ends_in_no_time_and_hides_nothing_twice(text):
    once = redacted(text)
    assert redacted(once) == once


def test_fields_are_hidden_by_name_and_by_content():
    assert redacted_fields({"password": 1, "nested": {"authorization": "x"}, "url": "u?sig=1", "n": 2}) == {
        "password": "[redacted]",
        "nested": {"authorization": "[redacted]"},
        "url": "u?sig=[redacted]",
        "n": 2,
    }
