"""Messages of runwide's own errors are shown unchanged, also where logs hide secrets."""

from __future__ import annotations

import ast
from pathlib import Path

import runwide
import runwide_components
from runwide.redaction import redacted

_FOLDERS = [Path(one.__file__).parent for one in (runwide, runwide_components)]


def _texts(tree):
    """Yield the hints and messages of errors in a source, with a name for each value in them."""
    for node in ast.walk(tree):
        if isinstance(node, ast.keyword) and node.arg == "hint":
            yield node.value.lineno, _text(node.value)
        elif isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call) and node.exc.args:
            yield node.lineno, _text(node.exc.args[0])


def _text(node):
    if isinstance(node, ast.BinOp):
        return _text(node.left) + _text(node.right)
    if isinstance(node, ast.JoinedStr):
        return "".join(one.value if isinstance(one, ast.Constant) else "value" for one in node.values)
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""


def test_no_message_reads_like_a_secret():
    found = [
        (path.name, line, text)
        for folder in _FOLDERS
        for path in folder.rglob("*.py")
        for line, text in _texts(ast.parse(path.read_text()))
    ]
    assert len([text for *_, text in found if text]) > 100
    assert (
        redacted("leave them out (secrets= can name secrets)") != "leave them out (secrets= can name secrets)"
    )
    assert [one for one in found if redacted(one[2]) != one[2]] == []
