"""The last lines of a worker are kept in bounded memory, and shown without secrets wherever the cut has come."""

from __future__ import annotations

import random

import pytest

from runwide.pool.prints import Tail, frame_of

BEGIN, END = "-----BEGIN RSA PRIVATE KEY-----", "-----END RSA PRIVATE KEY-----"
DATA = ["MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQC7" + f"{number:012d}" for number in range(60)]
KEY = [BEGIN, "Proc-Type: 4,ENCRYPTED", *DATA, END]


def tail_of(text, size=4096):
    """Return the tail of a text that comes in pieces."""
    tail, data = Tail(), text.encode(errors="surrogateescape")
    for at in range(0, len(data), size):
        tail.add(data[at : at + size])
    return tail


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("", []),
        ("one", ["one"]),
        ("one\n", ["one"]),
        ("one\n\ntwo\n", ["one", "", "two"]),
        ("password=hunter2\nnaïve \udcff\n", ["password=[redacted]", "naïve \\xff"]),
        (frame_of({"item": 3, "attempt": 1}) + "said\nnative " + frame_of({"item": 3, "attempt": 1}) + "said\n",
         ["said", "native said"]),
        ("\n".join([*KEY, "done"]), [*["[redacted]"] * 19, "done"]),
        ("".join(f"{number}\n" for number in range(50_000)), [str(number) for number in range(49_980, 50_000)]),
        ("x" * 300_000, ["…"]),  # a word that began before the kept text may be a secret
        ("x " * 150_000, ["…" + "x " * 999 + " "]),
    ],
    ids=["nothing", "unfinished", "finished", "empty", "secrets", "frames", "key", "many", "word", "words"],
)  # fmt: skip
@pytest.mark.parametrize("size", [1, 7, 4096, 1 << 20])
def test_the_last_lines_are_shown_however_they_have_come(text, lines, size):
    shown = tail_of(text, size).lines()
    if lines and lines[-1].startswith("…x"):
        assert len(shown[-1]) == 2000
        assert set(shown[-1][1:]) == {"x", " "}
    else:
        assert shown == lines


FORMS = {
    "lines": "\n".join(KEY) + "\n",
    "one line": "{'key': '" + "\\n".join(KEY) + "'}\n",
    "framed": "".join(frame_of({"item": 1, "attempt": 1}) + line + "\n" for line in KEY),
    "without an end": "\n".join(KEY[:-1]) + "\n",
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("share", range(4))
def test_no_part_of_a_key_is_shown_wherever_its_beginning_is_cut_off(form, share):
    key = FORMS[form]
    for after in range(36_000 + share, 41_000, 211):
        filler = "filling up\n" * 8000 + "\n"
        tail = tail_of(
            filler + key + ("x " * 40 + "\n") * 12 + "y " * ((after - 960 - len(key)) // 2), 80_000
        )
        shown = "\n".join(tail.lines())
        assert not any(line[-20:] in shown for line in DATA), after


@pytest.mark.parametrize("form", FORMS)
def test_no_part_of_a_key_is_shown_wherever_the_pieces_end(form):
    chance = random.Random(form)
    for _ in range(60):
        before, after = chance.randrange(90_000), chance.randrange(1_500)
        tail, data = Tail(), ("- " * before + "\n" + FORMS[form] + "z " * after + "\n").encode()
        while data:
            size = chance.choice([1000, 5000, 30_000, 65_536])
            tail.add(data[:size])
            data = data[size:]
        shown = "\n".join(tail.lines())
        assert not any(line[-20:] in shown for line in DATA)
        assert shown.rstrip().endswith("z") or after == 0


@pytest.mark.parametrize("secret", ["password=hunter2hunter2", "https://me:hunter2hunter2@host/path"])
def test_no_secret_is_shown_wherever_the_cut_has_come(secret):
    for shift in range(0, 200, 7):
        line = ("a " * 200 + secret + " ") * 600
        shown = tail_of(line[shift:], 80_001).lines()
        assert "hunter2" not in "".join(shown)
        assert "[redacted]" in shown[-1]


def test_the_kept_text_is_bounded():
    tail = Tail()
    for _ in range(200):
        tail.add(b"x" * 65_536)
    assert len(tail._data) <= 80_000
    assert all(len(line) <= 2_000 for line in tail.lines())
