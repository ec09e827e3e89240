"""The lint finds text that readers have to decode, and a house whose figures break their bars."""

from __future__ import annotations

import doctest
from pathlib import Path

import house
import plain_english
import pytest

ROOT = Path(__file__).parents[2]


# plain English


def found(tmp_path, text, name="module.py"):
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return [(line, advice.split(":")[0]) for line, advice, _ in plain_english.findings(path)]


def test_phrases_are_found_in_docstrings_comments_and_messages(tmp_path):
    text = (
        '"""One.\n\nA file that nobody reads.\n"""\n# kept for good\nraise ValueError("it cannot be meant")\n'
    )
    assert found(tmp_path, text) == [(3, "'nobody'"), (5, "'for good'"), (6, "'cannot be meant'")]


@pytest.mark.parametrize(
    "text",
    [
        "told = stands = 1\n",
        'rows = {"told": 1}\n',
        '"""One.\n\n    >>> told = 1\n"""\n',
        'told = 1\ntext = f"it was {told} here"\n',
        "# it stands alone\n# they stand still\n",
        "# nobody  plain: the name of a user\n",
    ],
    ids=["names", "words", "examples", "expressions", "idioms", "exceptions"],
)
def test_code_and_exceptions_are_no_findings(tmp_path, text):
    assert found(tmp_path, text) == []


@pytest.mark.parametrize("opening", ["What", "Whatever", "Who", "How", "Whether", "Where", "When", "That"])
def test_docstrings_that_open_with_a_pronoun_are_found(tmp_path, opening):
    text = f'def f():\n    """{opening} it does."""\n'
    assert found(tmp_path, text) == [(2, f"docstring opens with '{opening}'")]


def test_names_of_tests_are_text(tmp_path):
    assert found(tmp_path, "def test_what_is_read():\n    pass\n") == [(1, "'what is'")]


def test_blocks_of_code_in_pages_are_not_read(tmp_path):
    page = "Nobody.\n\n```python\nnobody = 1\n```\n"
    assert found(tmp_path, page, "page.md") == [(1, "'Nobody'")]


def test_only_scripts_and_text_are_read(tmp_path):
    for name, content in {
        "script": "#!/bin/sh\n",
        "data": "x",
        "page.md": "x",
        "picture.png": "x",
        "a.py": "",
    }.items():
        (tmp_path / name).write_text(content)
    assert {path.name for path in plain_english.files([str(tmp_path)])} == {"script", "page.md", "a.py"}


# the figures of the house

GOOD = {"runwide/pool/workers.py": "x = 1\n" * 100, "runwide/pool/__init__.py": "", "runwide/errors.py": ""}


def complaints(texts):
    return [
        *house.too_long(texts),
        *house.too_short(texts),
        *house.too_many(texts, house.shared_names(texts)),
    ]


def test_a_house_in_order_has_no_complaints():
    assert complaints(GOOD) == []


def test_modules_that_are_too_long_or_too_short_are_named():
    long, short = {"runwide/a.py": "x = 1\n" * 401}, {"runwide/b.py": "x = 1\n" * 59}
    assert [text.split(":")[0] for text in complaints({**GOOD, **long, **short})] == [
        "runwide/a.py has 401 lines, more than 400",
        "runwide/b.py has 59 lines, fewer than 60",
    ]


def test_names_that_two_modules_define_are_counted(monkeypatch):
    texts = {
        f"runwide/{name}.py": "def read(): ...\ndef _hidden(): ...\n" * 40
        for name in ("log/a", "log/b", "pool/a")
    }
    shared = house.shared_names(texts)
    assert shared == {"read": list(texts)}
    assert house.in_one_room(shared) == shared
    assert complaints(texts) == []
    monkeypatch.setattr(house, "MOST_NAMES_SHARED_IN_ROOM", 0)
    assert complaints(texts) == [
        "there are 1 public names that several modules of one room define, more than 0"
    ]


def test_lines_that_moved_count_as_neither_added_nor_removed():
    before = {"runwide/a.py": "import os\nx = 1\n", "runwide/b.py": "import os\ny = 1\n"}
    merged = {"runwide/c.py": "import os\nx = 1\ny = 1\nz = 1\n"}
    assert house.changed_lines(before, merged) == (1, 1)  # z, and one of the imports


def test_the_program_compares_with_a_commit_and_exits_with_1_if_a_bar_is_broken(monkeypatch, capsys):
    monkeypatch.setattr(house, "modules", lambda _: GOOD)
    monkeypatch.setattr(house, "modules_at", lambda _: {**GOOD, "runwide/a.py": "y = 1\n" * 10})
    assert house.main(["commit", "--least", "10"]) == 0
    assert "since commit: 0 lines added, 10 removed, -10 net" in capsys.readouterr().out
    assert house.main(["commit", "--least", "11"]) == 1
    assert "10 lines net were removed, fewer than 11" in capsys.readouterr().err


def test_the_modules_of_the_checkout_are_those_of_the_packages():
    found = house.modules(ROOT)
    assert {"runwide/__init__.py", "runwide_components/__init__.py"} <= found.keys()


def test_examples_are_true():
    assert doctest.testmod(house).failed == 0
