"""A client needs no Linux: none of its modules imports the pool, or a module that Windows does not have.

Imports inside of functions are not followed: ``tests/pipelines/test_client_elsewhere.py`` runs those of a client.
"""

from __future__ import annotations

import ast
from importlib.metadata import entry_points
from pathlib import Path

import pytest

import runwide
import runwide_components
from runwide.cli.commands import _COMMANDS

ROOTS = {one.__name__: Path(one.__file__).parent for one in (runwide, runwide_components)}
ABSENT = {"crypt", "fcntl", "grp", "posix", "pty", "pwd", "resource", "spwd", "syslog", "termios", "tty"}
RUN_TASKS = {
    "imap",
    "imap_unordered",
    "register_joblib",
    "rerun",
    "shard",
    "shutdown",
}
NAMES = {
    f"{package.__name__}.{name}": getattr(package, name).__module__
    for package in (runwide, runwide_components)
    for name in sorted(set(package.__all__) - RUN_TASKS)
}
COMMANDS = {f"runwide {name}": module for name, module in _COMMANDS.items()} | {
    f"runwide {one.name}": one.module for one in entry_points(group="runwide.commands")
}


def file_of(module):
    """Return the file of a module of ours; None for other modules, and for names in modules."""
    top, *rest = module.split(".")
    base = ROOTS[top].joinpath(*rest) if top in ROOTS else None
    places = (base / "__init__.py", base.with_suffix(".py")) if base else ()
    return next((place for place in places if place.is_file()), None)


def imported(node):
    """Return the names that a module imports when it is loaded, without imports in functions and for types."""
    for part in ast.iter_child_nodes(node):
        if isinstance(part, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            continue
        if isinstance(part, ast.If) and ast.unparse(part.test) == "TYPE_CHECKING":
            continue
        if isinstance(part, ast.Import):
            yield from (one.name for one in part.names)
        elif isinstance(part, ast.ImportFrom):
            assert not part.level
            yield from (part.module, *(f"{part.module}.{one.name}" for one in part.names))
        else:
            yield from imported(part)


def chains(entry):
    """Return each module that an entry loads, with the chain of modules that leads to it."""
    waiting, seen = [(entry,)], set()
    while waiting:
        chain = waiting.pop()
        parts = chain[-1].split(".")
        for module in (".".join(parts[:end]) for end in range(1, len(parts) + 1)):
            if module in seen:
                continue
            seen.add(module)
            found = chain if module == chain[-1] else (*chain, module)
            yield found
            file = file_of(module)
            if file is not None:
                tree = ast.parse(file.read_text(encoding="utf-8"))
                waiting.extend((*found, one) for one in imported(tree))


def is_absent(module):
    top = module.partition(".")[0]
    return top in ABSENT or module == "runwide.pool" or module.startswith("runwide.pool.")


@pytest.mark.parametrize("entry", sorted({**NAMES, **COMMANDS}))
def test_a_client_imports_neither_the_pool_nor_a_module_of_posix(entry):
    module = {**NAMES, **COMMANDS}[entry]
    found = list(chains(module))
    assert len(found) > 3
    wrong = [" imports ".join(chain) for chain in found if is_absent(chain[-1])]
    assert not wrong, "\n".join(wrong)


def test_the_walk_finds_the_modules_of_the_pool():
    loaded = {chain[-1] for chain in chains("runwide.api.stored_pool")}
    assert {"runwide.pool.folders", "fcntl"} <= loaded
