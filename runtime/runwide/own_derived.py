"""Find the variables that a source computes from ``__file__``, such as ``HERE``."""

from __future__ import annotations

import ast
import os
from functools import lru_cache
from typing import TYPE_CHECKING

from runwide.own_folders import parsed

if TYPE_CHECKING:
    from collections.abc import Iterator

_FILE = "__file__"
_BODIES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)


def derived_in(file: str) -> frozenset[str]:
    """Return the names that a file sets from ``__file__``, or from other such names.

    Example:
        >>> from pathlib import Path
        >>> Path("shop.py").write_text("HERE = Path(__file__).parent; DATA = HERE / 'data'; OUT = Path('/mnt/out')")
        74
        >>> sorted(derived_in("shop.py"))
        ['DATA', 'HERE']
    """
    try:
        return _derived(file, os.stat(file).st_mtime_ns)  # noqa: PTH116 - a text
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):  # the file may have changed since
        return frozenset()


@lru_cache(maxsize=8)
def _derived(file: str, _changed: int) -> frozenset[str]:
    with open(file, "rb") as opened:  # noqa: PTH123 - a text
        tree = parsed(opened.read())
    found = {_FILE}
    for node in _statements(tree):
        if isinstance(node, (ast.Assign, ast.AnnAssign)) and node.value is not None:
            used = {one.id for one in ast.walk(node.value) if isinstance(one, ast.Name)}
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            if not found.isdisjoint(used):
                found.update(
                    one.id for target in targets for one in ast.walk(target) if isinstance(one, ast.Name)
                )
    return frozenset(found - {_FILE})


def _statements(node: ast.AST) -> Iterator[ast.AST]:
    """Yield the statements of a module in order, but not those inside its functions and classes."""
    for one in ast.iter_child_nodes(node):
        if not isinstance(one, _BODIES):
            yield one
            yield from _statements(one)
