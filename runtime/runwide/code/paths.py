"""Find the texts with which code names files and folders."""

from __future__ import annotations

import ast
import os
import threading
import warnings
from collections import defaultdict, deque
from functools import lru_cache
from itertools import islice, pairwise
from pathlib import PurePath
from types import CodeType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from types import FunctionType


_PATHS = frozenset({
    "Path", "PurePath", "PosixPath", "joinpath", "with_name", "relative_to", "join", "abspath", "realpath", "open", "glob",
    "iglob", "rglob", "listdir", "scandir", "walk", "copytree", "isdir", "exists", "files", "get_data", "FileSystemLoader",
    "PackageLoader", "resource_filename", "resource_listdir", "contents",
})  # fmt: skip
"""Functions whose arguments are parts of paths."""
_parsing = threading.Lock()  # filters of warnings belong to the whole process


def parsed(data: bytes) -> ast.Module:
    """Parse a source without the warnings that importing it shows."""
    with _parsing, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return ast.parse(data)


def node_name(node: ast.AST | None) -> str | None:
    """Return the name of an expression that is a name or an attribute; None for any other."""
    return getattr(node, "id", None) or getattr(node, "attr", None)


def node_text(node: ast.AST | None) -> str | None:
    """Return the text of an expression that is a text; None for any other."""
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else None


def folders_in(tree: ast.AST) -> frozenset[str]:
    r"""Return texts that are parts of paths, directly or through variables.

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
        """Record the parts of paths, and the assignments, of a node."""
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div):
            self._parts((node.left, node.right))
        elif isinstance(node, ast.Call):
            self._called(node)
        elif isinstance(node, ast.Assign):
            for target in node.targets:
                self._assigned(node_name(target), [node.value])
        elif isinstance(node, (ast.AnnAssign, ast.NamedExpr)):
            self._assigned(node_name(node.target), [node.value] if node.value else [])
        elif isinstance(node, (ast.For, ast.AsyncFor, ast.comprehension)):
            self._assigned(node_name(node.target), [node.iter])
            self._loops.append((node_name(node.target), node_name(node.iter)))
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            self._defined(node)

    def result(self) -> frozenset[str]:
        """Return the texts that were found."""
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
        """Record the texts and variables in the parts of a path."""
        waiting = list(nodes)
        while waiting:
            node = waiting.pop()
            if (text := node_text(node)) is not None:
                self._texts.add(text)
            elif isinstance(node, ast.JoinedStr):
                waiting += node.values
            elif isinstance(node, ast.BinOp) and not isinstance(node.op, ast.Div):
                waiting += (node.left, node.right)
            elif isinstance(node, ast.IfExp):
                waiting += (node.body, node.orelse)
            elif isinstance(node, (ast.Starred, ast.Subscript, ast.FormattedValue)):
                waiting.append(node.value)
            elif name := node_name(node):
                self._names.add(name)

    def _called(self, node: ast.Call) -> None:
        called = node_name(node.func)
        if called in _PATHS:
            self._parts(node.args)
        self._calls.append((called, node.args))
        for keyword in node.keywords:
            if keyword.arg:
                self._assigned(keyword.arg, [keyword.value])

    def _defined(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        """Record the parameters of a function, and their defaults."""
        positional = [one.arg for one in (*node.args.posonlyargs, *node.args.args)]
        self._parameters[node.name] = positional[1:] if positional[:1] in (["self"], ["cls"]) else positional
        for name, default in zip(reversed(positional), reversed(node.args.defaults), strict=False):
            self._assigned(name, [default])
        for one, value in zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True):
            self._assigned(one.arg, [value] if value else [])

    def _assigned(self, name: str | None, values: Iterable[ast.expr | None]) -> None:
        """Record the texts assigned to a name, also in a list or as values of a dict."""
        for value in values if name else ():
            if (text := node_text(value)) is not None:
                self._values[str(name)].add(text)
            elif isinstance(value, (ast.Tuple, ast.List, ast.Set)):
                self._assigned(name, value.elts)
            elif isinstance(value, ast.Dict):
                self._assigned(name, value.values)


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


_MOST = 10_000  # containers of one function, and values of one container
_KEYS = frozenset({"BUILD_CONST_KEY_MAP", "BINARY_SUBSCR", "STORE_SUBSCR", "DELETE_SUBSCR", "COMPARE_OP"})
_CONTAINERS = (tuple, list, set, frozenset)


def codes_of(code: CodeType) -> Iterator[CodeType]:
    """Yield the code of a function, and of the functions in it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from codes_of(constant)


def texts_of(function: FunctionType, values: Mapping[str, Any]) -> frozenset[str]:
    """Return the texts and relative paths of a function, also in containers, and in ``values``: the globals that it uses.

    Example:
        >>> def f(name="one.csv"): return [name, *("two.csv", "three.csv"), OTHER]
        >>> sorted(texts_of(f, {"OTHER": ["four.csv"]}))
        ['four.csv', 'one.csv', 'three.csv', 'two.csv']
    """
    waiting: deque[Any] = deque(code.co_consts for code in codes_of(function.__code__))
    waiting += [function.__defaults__, function.__kwdefaults__, list(values.values())]
    waiting += map(_content, function.__closure__ or ())
    found: set[str] = set()
    seen: set[int] = set()
    while waiting and len(seen) < _MOST:
        value = waiting.popleft()
        kind = type(value)
        if issubclass(kind, (str, PurePath)):
            found.add(str(value))
        elif issubclass(kind, (dict, *_CONTAINERS)) and id(value) not in seen:
            seen.add(id(value))
            waiting += islice(value, _MOST)
            waiting += islice(value.values(), _MOST) if issubclass(kind, dict) else ()
    return frozenset(found)


def keys_of(function: FunctionType) -> frozenset[str]:
    """Return texts that the code of a function only uses as keys or in comparisons.

    Example:
        >>> def f(x): return {"env": 1, "data": x}["data"], x / "tables"
        >>> sorted(keys_of(f))
        ['data', 'env']
    """
    import dis  # slow to load

    keys: set[str] = set()
    others: set[str] = set()
    for code in codes_of(function.__code__):
        instructions = [
            one for one in dis.get_instructions(code) if one.opname not in ("EXTENDED_ARG", "CACHE")
        ]
        for one, after in pairwise([*instructions, None]):
            if one is not None and one.opname.startswith("LOAD_CONST"):
                is_key = after is not None and (after.opname in _KEYS or after.argrepr == "[]")
                (keys if is_key else others).update(_texts(one.argval))
    return frozenset(keys - others)


def _texts(constant: Any) -> Iterator[str]:
    group = constant if isinstance(constant, (tuple, frozenset)) else (constant,)
    yield from (one for one in group if isinstance(one, str))


def _content(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # it has no value yet
        return None
