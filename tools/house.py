"""Print the figures of the house; exit with 1 if one of them breaks its bar.

    python tools/house.py [BASE] [--least LINES]

The figures: modules and lines of each room; modules that are too long or too short; public names that several modules
define. With BASE, a commit, also the lines that were added to runtime/ and components/, and removed from them, since then.
A line that moved to another module counts as neither. With --least, it is an error if fewer lines net were removed.
"""

from __future__ import annotations

import argparse
import ast
import io
import subprocess
import sys
import tarfile
from collections import Counter, defaultdict
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

ROOT = Path(__file__).resolve().parent.parent
HOMES = ("runtime", "components")
PACKAGES = ("runwide", "runwide_components")

MOST_LINES = 400
LEAST_LINES = 60
# Ceilings of what there is today: lower them with each change that lowers the figure.
MOST_MODULES = 277
MOST_NAMES_SHARED = 108
MOST_NAMES_SHARED_IN_ROOM = 1

SHORT = {
    "runwide/deaths.py": "its classes need half of multiprocessing, which `runwide.errors` must not load",
    "runwide/errors.py": "users import it",
    "runwide/systems.py": "every client and worker imports it before anything of POSIX",
    "runwide/interpreter.py": "pickling and the pool ask it, and it must load nothing",
    "runwide/joblib.py": "users import it",
    "runwide/lazy.py": "every package uses it",
    "runwide/origin.py": "it must run first when runwide is imported",
    "runwide/pool/loky_process.py": "it alone loads loky, when the first worker starts",
    "runwide/testing/plugin.py": "pytest imports it",
    "runwide_components/image.py": "users import it, and it must load nothing",
}
"""Modules that may be short, each with the reason."""


def modules(root: Path) -> dict[str, str]:
    """Return the text of each module by its path from its package on, such as ``runwide/pool/workers.py``."""
    found = {}
    for home in HOMES:
        for package in PACKAGES:
            for path in sorted((root / home / package).rglob("*.py")):
                if "__pycache__" not in path.parts:
                    found[path.relative_to(root / home).as_posix()] = path.read_text(encoding="utf-8")
    return found


def room_of(module: str) -> str:
    """Return the room of a module: its package.

    Example:
        >>> room_of("runwide/pool/workers.py"), room_of("runwide/errors.py")
        ('runwide/pool', 'runwide')
    """
    return module.rpartition("/")[0]


def lines_of(text: str) -> int:
    """Return the number of lines of a text."""
    return len(text.splitlines())


def too_long(texts: Mapping[str, str]) -> Iterator[str]:
    """Yield a complaint for each module that has too many lines."""
    for module, text in texts.items():
        if lines_of(text) > MOST_LINES:
            yield f"{module} has {lines_of(text)} lines, more than {MOST_LINES}: split it by subject"


def too_short(texts: Mapping[str, str]) -> Iterator[str]:
    """Yield a complaint for each module that has too few lines, and no reason in `SHORT`."""
    for module, text in texts.items():
        exempt = module in SHORT or module.endswith(("/__init__.py", "/__main__.py"))
        if lines_of(text) < LEAST_LINES and not exempt:
            yield f"{module} has {lines_of(text)} lines, fewer than {LEAST_LINES}: merge it, or give the reason in SHORT"


def public_names(text: str) -> set[str]:
    r"""Return the public functions and classes that a module defines at its top level.

    Example:
        >>> sorted(public_names("def map(): ...\nclass Pool: ...\ndef _hidden(): ..."))
        ['Pool', 'map']
    """
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    return {
        node.name
        for node in ast.parse(text).body
        if isinstance(node, kinds) and not node.name.startswith("_")
    }


def shared_names(texts: Mapping[str, str]) -> dict[str, list[str]]:
    """Return the public names that several modules define, with these modules."""
    homes = defaultdict(list)
    for module, text in texts.items():
        for name in public_names(text):
            homes[name].append(module)
    return {name: where for name, where in sorted(homes.items()) if len(where) > 1}


def in_one_room(shared: Mapping[str, list[str]]) -> dict[str, list[str]]:
    """Return the shared names that two modules of the same room define.

    Example:
        >>> in_one_room({"read": ["a/x.py", "a/y.py"], "show": ["a/x.py", "b/x.py"]})
        {'read': ['a/x.py', 'a/y.py']}
    """
    return {name: where for name, where in shared.items() if len(set(map(room_of, where))) < len(where)}


def too_many(texts: Mapping[str, str], shared: Mapping[str, list[str]]) -> Iterator[str]:
    """Yield a complaint for each count that is above its ceiling."""
    for count, most, what in (
        (len(texts), MOST_MODULES, "modules"),
        (len(shared), MOST_NAMES_SHARED, "public names that several modules define"),
        (
            len(in_one_room(shared)),
            MOST_NAMES_SHARED_IN_ROOM,
            "public names that several modules of one room define",
        ),
    ):
        if count > most:
            yield f"there are {count} {what}, more than {most}"


def modules_at(commit: str) -> dict[str, str]:
    """Return the modules of a commit, as `modules` does."""
    packed = subprocess.run(
        ["git", "archive", commit, *HOMES], cwd=ROOT, check=True, capture_output=True
    ).stdout
    found = {}
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        for member in archive:
            home, _, module = member.name.partition("/")
            file = archive.extractfile(member) if member.isfile() and module.endswith(".py") else None
            if file is not None and home in HOMES and module.split("/")[0] in PACKAGES:
                found[module] = file.read().decode()
    return found


def changed_lines(before: Mapping[str, str], now: Mapping[str, str]) -> tuple[int, int]:
    r"""Return how many lines were added and removed; a line that moved to another module counts in neither.

    Blank lines count as the others do. Lines are compared without their indentation.

    Example:
        >>> changed_lines({"a.py": "x = 1\ny = 2\n"}, {"b.py": "y = 2\nz = 3\nw = 4\n"})
        (2, 1)
    """
    old, new = (
        Counter(line.strip() for text in texts.values() for line in text.splitlines())
        for texts in (before, now)
    )
    return (new - old).total(), (old - new).total()


def table(texts: Mapping[str, str]) -> Iterator[str]:
    """Yield a row for each room, and one for the whole."""
    rooms = defaultdict(list)
    for module, text in texts.items():
        rooms[room_of(module)].append(lines_of(text))
    rooms_and_total = {**dict(sorted(rooms.items())), "total": [lines_of(text) for text in texts.values()]}
    for room, sizes in rooms_and_total.items():
        yield f"{room:<36} {len(sizes):>4} modules {sum(sizes):>7,} lines"


def main(words: list[str] | None = None) -> int:
    """Print the figures and the complaints; return the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("base", nargs="?", help="the commit to compare with")
    parser.add_argument("--least", type=int, help="how many lines must have been lost since BASE")
    asked = parser.parse_args(words)
    texts = modules(ROOT)
    shared = shared_names(texts)
    print(*table(texts), sep="\n")
    print(
        f"{len(shared)} public names are defined in several modules, {len(in_one_room(shared))} of them in one room:"
    )
    print(*(f"    {name}: {', '.join(where)}" for name, where in in_one_room(shared).items()), sep="\n")
    complaints = [*too_long(texts), *too_short(texts), *too_many(texts, shared)]
    if asked.base:
        added, removed = changed_lines(modules_at(asked.base), texts)
        print(
            f"since {asked.base}: {added:,} lines added, {removed:,} removed, {added - removed:+,} net; moves excluded"
        )
        if asked.least is not None and removed - added < asked.least:
            complaints.append(
                f"since {asked.base}, {removed - added:,} lines net were removed, fewer than {asked.least:,}"
            )
    for complaint in complaints:
        print(complaint, file=sys.stderr)
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main())
