"""Texts of a source that stand where paths are put together, so that they may name a folder of data."""

from __future__ import annotations

import ast
from collections import defaultdict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

_PATHS = frozenset({
    "Path", "PurePath", "PosixPath", "joinpath", "with_name", "relative_to", "join", "abspath", "realpath", "open", "glob",
    "iglob", "rglob", "listdir", "scandir", "walk", "copytree", "isdir", "exists", "files", "get_data", "FileSystemLoader",
    "PackageLoader", "resource_filename", "resource_listdir", "contents",
})  # fmt: skip
"""Functions whose arguments are parts of paths."""


def folders_in(tree: ast.AST) -> frozenset[str]:
    r"""Return texts that are parts of paths, also by the names to which they are assigned.

    Args:
        tree: The source, parsed.

    Example:
        >>> text = "FOLDER = 'tables'\nrow = {'env': 1}\n(HERE / FOLDER / row['build'], open('data/x.csv'))"
        >>> sorted(folders_in(ast.parse(text)))
        ['data/x.csv', 'tables']
    """
    reading = _Reading()
    for node in ast.walk(tree):
        reading.note(node)
    return reading.result()


class _Reading:
    """One walk over a source."""

    def __init__(self) -> None:
        self._texts: set[str] = set()
        self._names: set[str] = set()
        """Names of variables that are parts of paths."""
        self._values: dict[str, set[str]] = defaultdict(set)
        """Texts by the names to which they are assigned."""
        self._parameters: dict[str, list[str]] = {}
        self._calls: list[tuple[str | None, list[ast.expr]]] = []
        self._loops: list[tuple[str | None, str | None]] = []

    def note(self, node: ast.AST) -> None:
        """Note what a node says of paths and of names."""
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div):
            self._parts((node.left, node.right))
        elif isinstance(node, ast.Call):
            self._called(node)
        elif isinstance(node, ast.Assign):
            for target in node.targets:
                self._assigned(_name(target), [node.value])
        elif isinstance(node, (ast.AnnAssign, ast.NamedExpr)):
            self._assigned(_name(node.target), [node.value] if node.value else [])
        elif isinstance(node, (ast.For, ast.AsyncFor, ast.comprehension)):
            self._assigned(_name(node.target), [node.iter])
            self._loops.append((_name(node.target), _name(node.iter)))
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            self._defined(node)

    def result(self) -> frozenset[str]:
        """Return the texts."""
        for called, arguments in self._calls:
            for name, argument in zip(self._parameters.get(called or "", ()), arguments, strict=False):
                self._assigned(name, [argument])
        for target, group in self._loops:
            if target in self._names and group:
                self._names.add(group)
        return frozenset(
            self._texts.union(*(self._values[name] for name in self._names if name in self._values))
        )

    def _parts(self, nodes: Iterable[ast.AST]) -> None:
        """Note parts of a path."""
        waiting = list(nodes)
        while waiting:
            node = waiting.pop()
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                self._texts.add(node.value)
            elif isinstance(node, ast.JoinedStr):
                waiting += node.values
            elif isinstance(node, ast.BinOp) and not isinstance(node.op, ast.Div):
                waiting += (node.left, node.right)
            elif isinstance(node, ast.IfExp):
                waiting += (node.body, node.orelse)
            elif isinstance(node, (ast.Starred, ast.Subscript, ast.FormattedValue)):
                waiting.append(node.value)
            elif name := _name(node):
                self._names.add(name)

    def _called(self, node: ast.Call) -> None:
        called = _name(node.func)
        if called in _PATHS:
            self._parts(node.args)
        self._calls.append((called, node.args))
        for keyword in node.keywords:
            if keyword.arg:
                self._assigned(keyword.arg, [keyword.value])

    def _defined(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        """Note the parameters of a function, and their defaults."""
        positional = [one.arg for one in (*node.args.posonlyargs, *node.args.args)]
        self._parameters[node.name] = positional[1:] if positional[:1] in (["self"], ["cls"]) else positional
        for name, default in zip(reversed(positional), reversed(node.args.defaults), strict=False):
            self._assigned(name, [default])
        for one, value in zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True):
            self._assigned(one.arg, [value] if value else [])

    def _assigned(self, name: str | None, values: Iterable[ast.expr | None]) -> None:
        """Note texts that a name has, also in a list or as the values of a dict."""
        for value in values if name else ():
            if isinstance(value, ast.Constant) and isinstance(value.value, str):
                self._values[str(name)].add(value.value)
            elif isinstance(value, (ast.Tuple, ast.List, ast.Set)):
                self._assigned(name, value.elts)
            elif isinstance(value, ast.Dict):
                self._assigned(name, value.values)


def _name(node: ast.AST | None) -> str | None:
    """Return the name, or that of the attribute, which an expression is."""
    return getattr(node, "id", None) or getattr(node, "attr", None)
