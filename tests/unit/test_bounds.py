"""Input of commands is limited before it is parsed, and text of other programs cannot control the terminal."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
import zlib

import hypothesis
import pytest
from click.testing import CliRunner
from hypothesis import strategies as st

import runwide
from runwide.cli import cli
from runwide.errors import InputError, RunwideError
from runwide.json_text import TooDeep, json_of
from runwide.log import Log, configure
from runwide.streams import printable

DEEP = "[" * 100_000 + "]" * 100_000
ESCAPES = "\x1b]0;evil\x07\x1b[2J\x9b31m\u202e gone\r"


def invoked(*words):
    return CliRunner().invoke(cli, list(words), standalone_mode=False).exception


@pytest.mark.parametrize(
    "text",
    [DEEP, DEEP[:100_000], '{"a":' * 5_000, '["a\\"[", ' + DEEP + "]", '["]]]]\\\\", ' + DEEP],
    ids=["closed", "open", "objects", "behind a quote", "behind a backslash"],
)
def test_deep_json_is_refused_before_it_is_parsed(text):
    with pytest.raises(ValueError, match="nested deeper"):
        json_of(text)
    with pytest.raises(TooDeep):
        json_of(text.encode())


def counted(value):
    """Return the depth of a value."""
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return 0 if parts is None else 1 + max(map(counted, parts), default=0)


TEXTS = st.text(st.sampled_from('[]{}"\\,:a'), max_size=6)
NESTED = st.recursive(
    st.none() | st.booleans() | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=30,
)


@hypothesis.given(NESTED)
def test_json_may_be_as_deep_as_is_allowed_and_no_deeper(value):
    text, depth = json.dumps(value), counted(value)
    assert json_of(text, depth=depth) == value
    if depth:
        with pytest.raises(TooDeep):
            json_of(text, depth=depth - 1)


@hypothesis.given(st.text(st.sampled_from('[]{}"\\,:1'), max_size=40))
def test_text_that_is_not_json_is_reported_as_such(text):
    try:
        right = json.loads(text)
    except ValueError:
        with pytest.raises(ValueError):
            json_of(text, depth=3)
    else:
        assert json_of(text) == right


@pytest.mark.parametrize(
    "text",
    [
        '"' + "[" * 1000 + '"',
        '{"a": "' + '\\"[' * 500 + '"}',
        "[" * 200 + "]" * 200,
        "[" + "[]," * 1000 + "1]",
    ],
)
def test_json_with_little_depth_is_parsed(text):
    assert json_of(text) == json.loads(text)


def given(tmp_path, option, text):
    path = tmp_path / "items.json"
    path.write_text(text)
    words = ["scatter", "--function", "math:sqrt", "--store", str(tmp_path / "store"), "--shards", "1"]
    return {
        "--items-file": [*words, "--items-file", str(path)],
        "--items-json": [*words, "--items-json", text[:100_000]],
        "--items-parameter": [*words, "--items-parameter", text[:100_000]],
        "--items-from": [*words, "--items-from", str(path)],
        "--constants-json": [*words, "--items-json", "[1]", "--constants-json", text[:100_000]],
        "--constants-parameter": [*words, "--items-json", "[1]", "--constants-parameter", text[:100_000]],
        "--composed": [*words, "--composed", "items", text[:100_000]],
        "--given": [*words, "--composed", "items", '[{"name": "a"}]', "--given", "a", text[:100_000]],
        "--constant": [*words, "--items-json", "[1]", "--constant", "a", "list", text[:100_000]],
        "map": ["map", "math:sqrt", str(path)],
    }[option]


OPTIONS = [
    "--items-file",
    "--items-json",
    "--items-parameter",
    "--items-from",
    "--constants-json",
    "--constant",
    "--constants-parameter",
    "--composed",
    "--given",
    "map",
]


@pytest.mark.parametrize("option", OPTIONS)
def test_deep_json_is_one_line_of_a_command(option, tmp_path):
    error = invoked(*given(tmp_path, option, DEEP))
    assert isinstance(error, InputError)
    assert "nested deeper than 200" in str(error)
    assert "\n" not in str(error)


def test_the_depth_can_be_raised(tmp_path, monkeypatch):
    deeper = "[" * 300 + "]" * 300
    assert isinstance(invoked(*given(tmp_path, "--items-file", deeper)), InputError)
    monkeypatch.setenv("RUNWIDE_MAX_JSON_DEPTH", "400")
    assert invoked(*given(tmp_path, "--items-file", deeper)) is None
    monkeypatch.setenv("RUNWIDE_MAX_JSON_DEPTH", "100000")
    assert isinstance(
        invoked(*given(tmp_path, "--items-file", DEEP)), RunwideError
    )  # as deep as this Python can go


def bomb(size):
    packer = zlib.compressobj(9)
    data = b"".join(packer.compress(bytes(1 << 20)) for _ in range(size >> 20)) + packer.flush()
    return b"z:" + base64.b64encode(data)


@pytest.mark.parametrize("option", ["--function-file", "--function-base64"])
def test_a_function_that_blows_up_is_refused_without_its_memory(option, tmp_path):
    data = bomb(1 << 30)
    path = tmp_path / "function"
    path.write_bytes(data)
    words = [
        "scatter",
        option,
        str(path) if option == "--function-file" else data[:60_000].decode(),
        "--items-json",
        "[1]",
    ]
    program = (
        "import resource, sys; from runwide.cli import main\n"
        "resource.setrlimit(resource.RLIMIT_AS, (3 << 29, 3 << 29)); main(sys.argv[1:])"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program, *words, "--store", str(tmp_path / "store"), "--shards", "1"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ran.returncode == 2
    (line,) = ran.stderr.splitlines()
    assert line.startswith("runwide: InputError: ")
    if option == "--function-file":
        assert "RUNWIDE_MAX_FUNCTION_BYTES" in line


def test_a_function_of_a_sparse_file_is_refused(tmp_path):
    path = tmp_path / "function"
    with path.open("wb") as file:
        file.truncate(1 << 40)
    words = [
        "scatter",
        "--function-file",
        str(path),
        "--items-json",
        "[1]",
        "--store",
        str(tmp_path),
        "--shards",
        "1",
    ]
    error = invoked(*words)
    assert isinstance(error, InputError)
    assert "RUNWIDE_MAX_FUNCTION_BYTES" in str(error)


def test_the_size_can_be_raised_and_lowered(tmp_path, monkeypatch):
    from runwide.pickling.functions import function_pickle

    path = tmp_path / "function"
    path.write_bytes(
        b"z:" + base64.b64encode(zlib.compress(function_pickle(lambda x, text="x" * 100_000: x).data))
    )
    words = [
        "scatter",
        "--function-file",
        str(path),
        "--items-json",
        "[1]",
        "--store",
        str(tmp_path),
        "--shards",
        "1",
    ]
    assert invoked(*words) is None
    monkeypatch.setenv("RUNWIDE_MAX_FUNCTION_BYTES", "50000")
    assert isinstance(invoked(*words), InputError)


def raising(text):
    def fail(_):
        raise ValueError(text)

    return fail


@pytest.mark.parametrize("command", ["gather", "report", "status", "results"])
def test_no_command_shows_escapes_of_others(command, tmp_path):
    job = runwide.scatter(raising(ESCAPES), [1, 2], store=str(tmp_path / "store"), shards=1)
    runwide.shard(job, 0, workers=1)
    words = [command, job, *(["--out", str(tmp_path / "page.html")] if command == "report" else [])]
    ran = subprocess.run([sys.executable, "-m", "runwide.cli", *words], capture_output=True, check=False)
    said = (ran.stdout + ran.stderr).decode()
    assert [one for one in "\x1b\x07\x9b\u202e\r" if one in said] == []
    if command in ("gather", "results"):
        assert "gone" in said


def test_log_lines_of_ours_show_none_either(tmp_path):
    try:
        configure(format="text", file=tmp_path / "log")
        Log("job").warning("chunk.ignored", cause=ESCAPES, uri=ESCAPES)
    finally:
        configure()
    ours = (tmp_path / "log").read_text().splitlines()[0]
    assert printable(ours) == ours
    assert "gone" in ours


@pytest.mark.parametrize("text", ["plain", "a\tb\nc", "\u65e5\u672c", "caf\u00e9", "\U0001f600"])
def test_what_can_be_shown_is(text):
    assert printable(text) == text
