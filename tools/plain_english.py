"""Refuse phrases that readers have to decode, in docstrings, comments, messages, names of tests, and pages of docs.

    python tools/plain_english.py [PATH...]

Without a path it reads the whole project.
It prints each finding as `file:line: phrase: text`, and exits with 1 after a finding.
It reads text, and no code: names, examples of doctest, expressions in f-strings and strings of one word may be anything.
It skips a line with the comment `plain: REASON`, for a phrase that is data.
"""

from __future__ import annotations

import ast
import io
import re
import sys
import tokenize
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("runtime", "components", "docker", "tools", "tests", "docs", ".ci")
PAGES = ("README.md", "CHANGELOG.md", "SECURITY.md")
WITH_PHRASES = ("tools/plain_english.py", "tests/unit/test_house.py")  # have the phrases as data
TEXTS = {".md", ".html", ".js", ".css", ".sh", ".yaml", ".toml", ""}

# Each phrase with the words to write instead.
PHRASES = {
    r"cannot be meant": "say what is invalid, and what is expected",
    r"\bwhat is\b": "name the thing",
    r"\bthat which\b": "name the thing",
    r"\bwho(?:m|so)?ever\b": "name who it is: the caller, the program, anyone who",
    r"\bnobody\b": "say who or what does not: no caller, no process",
    r"\bsomebody\b": "name who it is: another process, the user",
    r"\bfor good\b": "permanently",
    r"\bin (?:the|its|their|his) place of\b": "instead of",
    r"\bby (?:its|their|his) word\b": "say what it relies on",
    r"\bstands?\b(?! ?(?:alone|still)\b|-)": "is, is written, is at",
    r"\btold\b": "reported, said, given",
    r"\bmade so\b": "say what was done",
    r"\bas it is with\b": "as for, like",
}
_PHRASES = re.compile("|".join(PHRASES), re.IGNORECASE)
_EXPRESSION = re.compile(r"\{[^{}]*\}")  # of an f-string, which is one token before Python 3.12
_STRINGS = {tokenize.STRING, getattr(tokenize, "FSTRING_MIDDLE", -1)}
_OPENINGS = re.compile(r"\s*(What|Who|How|Whether|Where|When|That)(ever|m|se)?\b(?!ever)")
_ADVICE = [(re.compile(pattern, re.IGNORECASE), advice) for pattern, advice in PHRASES.items()]


def findings(path: Path) -> Iterator[tuple[int, str, str]]:
    """Yield each finding in a file: its line, what to write, and the text."""
    text = path.read_text(encoding="utf-8")
    lines = text.splitlines()
    found = _in_python(text) if path.suffix == ".py" else _in_text(path, lines)
    for line, advice, excerpt in sorted(set(found)):
        if "plain: " not in lines[line - 1]:
            yield line, advice, excerpt


def _in_text(path: Path, lines: list[str]) -> Iterator[tuple[int, str, str]]:
    """Yield phrases in a page or script; blocks of code in a page are programs, and not text."""
    fenced = False
    for number, line in enumerate(lines, 1):
        if path.suffix == ".md" and line.lstrip().startswith("```"):
            fenced = not fenced
        elif not fenced:
            yield from _phrases(number, line)


def _in_python(text: str) -> Iterator[tuple[int, str, str]]:
    """Yield phrases in comments, strings and names of tests, and openings of docstrings."""
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT or (token.type in _STRINGS and len(token.string.split()) > 1):
            for offset, line in enumerate(token.string.splitlines()):
                if not line.lstrip().startswith((">>> ", "... ")):
                    yield from _phrases(token.start[0] + offset, _EXPRESSION.sub("{}", line))
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Module)):
            yield from _openings(node)


def _phrases(number: int, line: str) -> Iterator[tuple[int, str, str]]:
    for found in _PHRASES.finditer(line):
        advice = next(text for pattern, text in _ADVICE if pattern.fullmatch(found.group()))
        yield number, f"{found.group()!r}: {advice}", line.strip()[:120]


def _openings(
    node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Module,
) -> Iterator[tuple[int, str, str]]:
    """Yield the docstring's opening, and phrases in a test's name."""
    docstring = ast.get_docstring(node)
    if docstring and (found := _OPENINGS.match(docstring)):
        line = node.body[0].lineno
        yield (
            line,
            f"docstring opens with {found.group().strip()!r}: a verb in the imperative, or the thing's name",
            docstring.splitlines()[0][:120],
        )
    if not isinstance(node, ast.Module) and node.name.startswith("test_"):
        yield from _phrases(node.lineno, node.name.replace("_", " "))


def files(paths: list[str]) -> Iterator[Path]:
    """Yield the files to read: those given, or those of the project."""
    roots = [Path(path) for path in paths] or [ROOT / name for name in (*FOLDERS, *PAGES)]
    for root in roots:
        for path in sorted(root.rglob("*")) if root.is_dir() else [root]:
            plain = path.suffix in TEXTS and _is_text(path)
            if path.is_file() and "__pycache__" not in path.parts and (path.suffix == ".py" or plain):
                yield path


def _is_text(path: Path) -> bool:
    """Return whether a file is text of ours: one without an ending is, if it is a script."""
    if path.suffix or not path.is_file():
        return True
    with path.open("rb") as file:
        return file.read(2) == b"#!"


def main() -> int:
    """Print every finding, and return the exit status."""
    count = 0
    for path in files(sys.argv[1:]):
        shown = path.resolve()
        name = shown.relative_to(ROOT) if shown.is_relative_to(ROOT) else shown
        if name.as_posix() in WITH_PHRASES:
            continue
        for line, advice, excerpt in findings(path):
            count += 1
            print(f"{name}:{line}: {advice}: {excerpt}")
    print(f"{count} findings", file=sys.stderr)
    return 1 if count else 0


if __name__ == "__main__":
    sys.exit(main())
