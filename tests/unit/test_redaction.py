"""Secrets are removed, and other text stays."""

from __future__ import annotations

import html
import json
import resource
import subprocess
import sys
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runwide.redaction import Lines, hide, redacted, redacted_fields, redacted_json, shortened

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
MIB = 1 << 20

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
        ("pwd=hunter2", "hunter2"),
        ("DB_PASS=hunter2", "hunter2"),
        ("db-pass: hunter2", "hunter2"),
        ("dbPass='hunter2'", "hunter2"),
        ("--pass hunter2", "hunter2"),
        ("pass=hunter2", "hunter2"),
        ("Authorization: Token 9944b09199c62bcf", "9944b"),
        ("Authorization: Token abcdefgh", "abcdefgh"),
        ('curl -H "Authorization: Token abcd" https://x', "abcd"),
        ('Authorization: Digest username="me", response="6629fae4"', "6629"),
        ("{'Authorization': 'Token abc'}", "abc"),
        ("Proxy-Authorization: Basic dXNlcjpodW50ZXIy", "dXNl"),
        ("authorization=abc123def", "abc123"),
        ("Authorization: abcdefghijkl", "abcdefghijkl"),
        ("Authorization: GoogleLogin auth=abcd", "abcd"),
        ('{"headers": "{\\"Authorization\\": \\"Token abcd\\"}"}', "abcd"),
        ("api_keys: ['abc', 'def']", "def"),
        ("api_keys=abc", "abc"),
        ("passwords: {'me': 'hunter2'}", "hunter2"),
        ("secrets=['a1b', 'c2d']", "c2d"),
        ('tokens: ["abc", "def"]', "def"),
        ('secret_key=["abc def", "ghi"]', "ghi"),
        ('secret_key=("abc def", "ghi")', "ghi"),
        ('"secrets": {\n  "a": "hunter2",\n  "b": "hunter3"\n}', "hunter3"),
        ('"tokens": [\n  "abc",\n  "hunter3"\n ], "x": 1', "hunter3"),
        ("password: str = 'hunter2'", "hunter2"),
        ('password: str | None = "hunter2"', "hunter2"),
        ("token: Optional[str] = 'hunter2'", "hunter2"),
        ("apiKey: 'hunter2'", "hunter2"),
        ("clientSecret=hunter2", "hunter2"),
        ("accessToken: hunter2", "hunter2"),
        ("X-Api-Key: hunter2", "hunter2"),
        ("x-goog-api-key: hunter2", "hunter2"),
        ("API key: hunter2", "hunter2"),
        ("password=>hunter2", "hunter2"),
        ('"password" => "hunter2"', "hunter2"),
        ("password := 'hunter2'", "hunter2"),
        ("config['password'] = 'hunter2'", "hunter2"),
        ("<password>hunter2</password>", "hunter2"),
        ("password%3Dhunter2%26user%3Dme", "hunter2"),
        ("?token=hunter2&x=1", "hunter2"),
        ("Command '['curl', '--password', 'hunter2']' returned", "hunter2"),
        ("--api-key=hunter2", "hunter2"),
        ("--db-password 'hunter two'", "two"),
        ("password=ab\\cd", "cd"),
        ("password='ab\\\\cd'", "cd"),
        ("password=a)b", "b"),
        ("password=a]hunter2", "hunter2"),
        ("password=SecretStr('hunter2')", "hunter2"),
        ("Token(value='x'), token=Token(value='hunter2')", "hunter2"),
        ("password='''hunter\n2x'''", "2x"),
        ('password="abc', "abc"),
        ("mysql://root:p@ss:w@rd@db:3306/x", "w@rd"),
        ("postgres://me:hun'ter2@db", "ter2"),
        ("https://user:@hunter2@db", "hunter2"),
        ("redis://:12345@x", "12345"),
        ("Bearer abcDEFghijkl", "abcDEF"),
        ("bearer 0123456789abcdef", "0123456"),
        ("Basic dXNlcjpodW50ZXIy", "dXNl"),
        ("basic OmFiY2RlZmdoaWprbA==", "OmFi"),
        ("token=eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.c2lnbmF0dXJl", "c2lnbm"),
        ("x-eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.c2lnbmF0dXJl", "c2lnbm"),
        ("GOCSPX-0123456789abcdefghij", "0123456"),
        ("glpat-0123456789abcdefghij", "0123456"),
        ("password2=hunter2", "hunter2"),
        ("PASSWORD_1: hunter2", "hunter2"),
        ("private_key=abc", "abc"),
        ("credentials=abc", "abc"),
        ("aws_secret_access_key = wJalrXUtnFEMI/K7MDENG", "wJalr"),
        ("token=abc.def-ghi_jkl/mno+pqr==", "pqr"),
        ("token: 123456", "123456"),
        ("password=1234", "1234"),
        ("password: 12 34", "12"),
        ("$env:TOKEN='hunter2'", "hunter2"),
        ("export TOKEN=hunter2", "hunter2"),
        ("password: hunter2", "hunter2"),
        ("cookie: session=abc", "abc"),
        ("{'Cookie': 'session=abc', 'x': 1}", "abc"),
        ("passwd: hunter2", "hunter2"),
        ("passphrase = 'a b c'", "b c"),
        ('"token": "abc\\"def"', "def"),
        ('{\\"token\\": \\"abc\\"}', "abc"),
        ('{\\\\\\"token\\\\\\": \\\\\\"abc def\\\\\\"}', "def"),
        ("password\\u003dhunter2", "hunter2"),
        ("pass='hunter2'", "hunter2"),
        ("password:hunter2", "hunter2"),
        ("user=me;password=hunter2;x=1", "hunter2"),
        ('password: "none of it"', "of it"),
    ],
)
def test_a_secret_is_hidden(text, secret):
    assert secret in text
    once = redacted(text)
    assert secret not in once
    assert "[redacted]" in once
    assert redacted(once) == once


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
        "RUNWIDE_SIGNING_KEY_SECRET=projects/p/secrets/s/versions/1",
        "Basic understanding",
        "basic authentication is",
        "1 token = 4 chars",
        "token: int",
        "password: str | None = None",
        "token: Optional[str]",
        "Bearer certificates are checked",
        "max_tokens=512",
        "items,nextPageToken: Request is prohibited",
        "page_token=abc",
        "tokens: 3",
        "PWD=/home/user",
        "bypass=true",
        "compass=north",
        "--token-file path",
        "secret: bool",
        "passes=3",
        "pass=3 fail=2",
        "def f(password: str, token: bytes = b'') -> None:",
        "token: Dict[str, List[int]] = None",
        "password: SecretStr",
        "prompt_tokens: 12, completion_tokens=34",
        "tokens=1_000",
        "tokens: 12k",
        "tokens=[1, 2, 3]",
        "{'tokens': 3, 'max_tokens': None}",
        '{"total_tokens": 3.5}',
        "password=None",
        "token=null",
        "token: true",
        "secret = False",
        "Enter password:",
        "password: ",
        "Invalid token: unexpected end",
        "missing --token option",
        "use --token or --password to log in",
        "the --password is wrong",
        "password == expected",
        "if token != other:",
        "connect(password=password)",
        "token=self.token",
        "password={password}",
        "password=%s",
        "token=${TOKEN}",
        "token=<token>",
        "token=***",
        "password=''",
        'token=""',
        "OLDPWD=/tmp",
        "pwd: /home/me",
        "pwd='/home'",
        "compass: north",
        "trespass=no",
        "overpass: 3",
        "first pass: done",
        "second pass: merging",
        "bypass: yes",
        "mypass_count=3",
        "passing=12",
        "passed=3",
        "passage: 12",
        "tokenizer=bert",
        "token_count=3",
        "tokens_per_second=12.5",
        "secretary: Bob",
        "password_file=/x",
        "secret_name: my",
        "private_key_id: 0123",
        "key: value",
        "monkey=banana",
        "keyboard: us",
        "authorization: required",
        "authorization_url=https://x",
        "basic: 12345678",
        "basics",
        "Bearer authentication",
        "bearer_token_count",
        "http://h:8080/x@y",
        "http://localhost:8080,",
        "'http://h:8080', 'me@x.org'",
        "http://h:80?x=a@b",
        "time 12:30 me@host",
        "std::token::Kind",
        "secret://projects/x",
        "token->next = 3",
        "hmac=sha256",
        "hmac: 'sha256'",
        "sk-learn",
        "task-oriented-dialogue-systems",
        "cookie: str | None = None",
        "cookies: 3",
        "tokenise: 3",
        "1 token = 0.75 words",
        "token = 4 chars",
        "password: string;",
        "token?: string",
        "token: list[str] | None",
        "secrets: dict[str, str]",
        "The secret: be patient",
        "password must be set",
        "no credentials: not found",
        'token: "str | None" = None',
        "token limit: 4096",
        "passwords=0",
        "credentials: Credentials | None = None",
        "credentials: google.auth.Credentials",
        "token: 3 of 5",
        "--tokens 512",
        "--max-tokens 512",
        "--max-tokens=512",
        "token: ClassVar[str]",
        "password=settings.password",
        "token=os.environ['TOKEN']",
        "pwd=$PWD",
        "pwd=$(pwd)",
        " api_key: Annotated[str, Field()] = ...",
        "Signature: abc",
        "secret_key: Final = None",
        "eyJournal",
        "bearer of bad news",
        "basic auth: user",
        "basicConfig(level=3)",
    ],
)
def test_text_without_a_secret_stays(text):
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
def test_a_service_accounts_key_is_hidden_and_its_account_is_not(write, indent):
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


def test_an_incomplete_key_hides_only_lines_that_can_be_part_of_it():
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
    from runwide.store import signing

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
def test_hiding_is_fast_and_hides_nothing_twice(text):
    once = redacted(text)
    assert redacted(once) == once


def test_fields_are_hidden_by_name_and_by_content():
    assert redacted_fields({"password": 1, "nested": {"authorization": "x"}, "url": "u?sig=1", "n": 2}) == {
        "password": "[redacted]",
        "nested": {"authorization": "[redacted]"},
        "url": "u?sig=[redacted]",
        "n": 2,
    }


@pytest.mark.parametrize(
    ("fields", "hidden"),
    [
        ({"api_keys": ["abc"], "passwords": {"me": "x"}, "secrets": ("a",), "tokens": "abc"}, True),
        (
            {
                "apiKey": "abc",
                "DB_PASS": "abc",
                "pwd": "abc",
                "x-api-key": "abc",
                "Proxy-Authorization": "abc",
            },
            True,
        ),
        ({"tokens": ["the", "cat"], "access_tokens": {"a": "b"}, "client-secret": b"abc"}, True),
        (
            {
                "max_tokens": 512,
                "tokens": [1, 2],
                "secrets": 3,
                "token": None,
                "password": "",
                "api_keys": [],
            },
            False,
        ),
        (
            {"secret": True, "password": "str", "token": "Optional[str]", "PWD": "/home/me", "OLDPWD": "/"},
            False,
        ),
        (
            {
                "compass": "north",
                "bypass": "x",
                "passes": 3,
                "tokenizer": "bert",
                "secretary": "Bob",
                "key": "v",
            },
            False,
        ),
    ],
)
def test_fields_are_hidden_where_their_names_mean_a_secret(fields, hidden):
    shown = redacted_fields(fields)
    for name, value in fields.items():
        expected = "[redacted]" if hidden else value
        assert shown[name] == expected, name


def test_a_secret_in_the_name_of_a_nested_value_is_hidden():
    assert redacted_fields({"urls": {"u?sig=0bad": 1}}) == {"urls": {"u?sig=[redacted]": 1}}
    assert json.loads(redacted_json('{"postgres://me:hunter2@db": {"n": 1}}')) == {
        "postgres://me:[redacted]@db": {"n": 1}
    }


@pytest.mark.parametrize(
    "value", ["back\\slash\\key", 'it\'s "quoted" & <more>', "p\u00e4ssw\u00f6rd 100%", "line one\nline two"]
)
def test_a_known_value_is_hidden_however_it_is_spelled(monkeypatch, value):
    from runwide import redaction

    monkeypatch.setattr(redaction, "_known", set())
    hide(value)
    spellings = [
        value,
        repr(value),
        repr([value]),
        json.dumps(value),
        json.dumps({"x": value}, ensure_ascii=False),
        json.dumps(json.dumps({"x": value})),
        repr({"x": json.dumps(value)}),
        quote(value),
        quote(value, safe=""),
        html.escape(value),
    ]
    for text in spellings:
        shown = redacted(f"see {text}.")
        assert "[redacted]" in shown, text
        assert not any(part in shown for part in ("slash", "quoted", "100", "line")), shown


def test_json_that_is_too_deep_for_a_log_line_counts_as_text():
    deep = '{"a":' * 90 + '{"token": "abc"}' + "}" * 90
    assert "abc" not in redacted_json(deep)
    for levels in (150, 900, 20_000):
        assert redacted_json('{"a":' * levels + "1" + "}" * levels) is None


WORDS = (
    "token", "password", "=", ": ", " ", '"', "'", "\\", '\\"', "[", "]", "(", ")", "{", "}", "\n", "--token ", "Bearer ",
    "abc123", "://", "@", ":", "cookie", "Authorization: ", "Basic ", "dXNlcjpodW50ZXIy", "?sig=", "&", "%3D", "str", "None",
    "-----BEGIN PRIVATE KEY-----", "-----END PRIVATE KEY-----", "[redacted]", "api_key", ",", "1", "ya29.x", "_",
)  # fmt: skip  # a few lines are enough


@given(st.lists(st.sampled_from(WORDS), max_size=12).map("".join))
def test_no_text_raises_an_error_and_a_cut_text_keeps_the_length(text):
    assert len(shortened(text, 20)) <= 20
    assert len(shortened(text * 1000, 20, tail=True)) <= 20
    assert isinstance(redacted(text), str)


CUT = [
    "postgres://me:hunter2hunter2@db/base",
    "password='hunter2 and hunter2'",
    "Authorization: Token hunter2hunter2",
    "--password hunter2hunter2",
    '{"api_key": "hunter2hunter2"}',
    "-----BEGIN PRIVATE KEY-----\nhunter2hunter2hunter2\nhunter2hunter2\n-----END PRIVATE KEY-----",
    "https://b/o?X-Goog-Signature=hunter2hunter2",
]


@pytest.mark.parametrize("secret", CUT)
def test_wherever_a_text_is_cut_no_part_of_a_secret_is_left(secret):
    most = 60
    window = 2 * most + 4096
    for before in (*range(0, most + 1, 3), *range(window - 70, window + 5, 4)):
        shown = shortened("y " * (before // 2) + "y" * (before % 2) + " " + secret + " z" * 5000, most)
        assert "hun" not in shown, before
        assert len(shown) <= most
    for after in (*range(0, most + 1, 3), *range(window - 70, window + 5, 4)):
        shown = shortened(
            "z " * 5000 + secret + " " + "y " * (after // 2) + "y" * (after % 2), most, tail=True
        )
        assert not any(part in shown for part in ("hun", "ter2", "er2")), after
        assert len(shown) <= most


def test_a_long_key_whose_beginning_was_cut_off_is_hidden_to_its_last_line():
    key = (
        "-----BEGIN PRIVATE KEY-----\n"
        + "MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSj\n" * 200
        + "-----END PRIVATE KEY-----\n"
    )
    shown = shortened(key + "Error: the rest", 200, tail=True)
    assert "MII" not in shown
    assert shown.endswith("Error: the rest")
    assert "MII" not in redacted(key[500:] + "Error: the rest")


def test_a_word_without_an_end_is_left_out_where_a_text_is_cut():
    assert shortened("ValueError: " + "x" * 10_000, 100).startswith("ValueError:")
    assert shortened("x" * 10_000, 100) == "\N{HORIZONTAL ELLIPSIS}"
    assert shortened("short", 100) == "short"
    assert shortened("any", 0) == shortened("any", 0, tail=True) == ""


def run_limited(program, *arguments):
    """Run a program with 200 seconds of CPU time: a quadratic search takes hours for a mebibyte."""
    code = f"import sys; sys.path.insert(0, {str(BENCHMARKS)!r}); import redaction as families\n{program}"
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_CPU, (200, 200)),
    )


@pytest.mark.parametrize("share", range(6))
def test_a_line_of_a_mebibyte_takes_no_time_whatever_it_is_made_of(share):
    ran = run_limited(
        "for family in list(families.FAMILIES)[int(sys.argv[1])::6]:\n"
        "    print(family, file=sys.stderr)\n"
        f"    families.redacted(families.adversarial(family, {MIB}))\n",
        str(share),
    )
    assert ran.returncode == 0, ran.stderr[-500:]


@pytest.mark.parametrize("way", ["Lines", "shortened", "shortened, tail", "redacted_json"])
def test_each_other_way_to_look_for_secrets_takes_no_time_either(way):
    ran = run_limited(
        "for family in ('dashes', 'blanks', 'base64', 'underscores', 'key begins', 'key ends', 'a value of many kinds'):\n"
        "    print(family, file=sys.stderr)\n"
        f"    families.WAYS[{way!r}](families.adversarial(family, {MIB}))\n"
    )
    assert ran.returncode == 0, ran.stderr[-500:]
