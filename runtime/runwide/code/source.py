"""Read the imports, texts and digest of a source file."""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass, field
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from runwide.code.imports import CATCHING, READERS
from runwide.code.paths import folders_in, node_name, node_text, parsed

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_SUFFIXES = (".py", ".pyw")
_DOTTED = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)+")
_TEXT = 200  # characters of a text that may name a file
_LOADERS = frozenset({"import_module", "__import__", "find_spec", "load_module", "resolve_name"})
LOOKERS = frozenset({
    "__file__", "__path__", "__spec__", "__loader__", "resources", "importlib_resources", "pkgutil", "pkg_resources",
    "get_data", "PackageLoader", "getsourcefile", "getfile",
})  # fmt: skip
"""Names that code uses to find files beside itself."""
_SEARCHERS = frozenset({"iter_modules", "walk_packages"})


@dataclass(frozen=True, slots=True)
class Import:
    """An import statement.

    Args:
        name: The module, after one dot for each level of a relative import.
        members: Names imported from it, which may be modules.
        optional: Whether the import may fail: it is in a function or a branch, or its error is caught.
    """

    name: str
    members: tuple[str, ...] = ()
    optional: bool = False


@dataclass(frozen=True, slots=True)
class Source:
    """A file of the program's own.

    Args:
        digest: SHA-256, in hex, of its syntax tree; of its bytes if it is no source.
        public: The texts in its ``__all__``.
        mentioned: Texts with dots that may be names of modules.
        prefixes: Packages of which it loads modules by computed names; an empty text is its own package.
        texts: Texts that may name files beside it; empty if it does not look for files.
        looks: Whether it looks for files beside itself.
        folders: The texts among these that may name folders.
    """

    digest: str
    imports: tuple[Import, ...] = ()
    public: tuple[str, ...] = ()
    mentioned: frozenset[str] = field(default=frozenset())
    prefixes: frozenset[str] = field(default=frozenset())
    texts: frozenset[str] = field(default=frozenset())
    looks: bool = False
    folders: frozenset[str] = field(default=frozenset())


def is_source(path: str) -> bool:
    """Return whether a file holds source text.

    Example:
        >>> is_source("shop/prices.py"), is_source("shop/native.so")
        (True, False)
    """
    return path.endswith(_SUFFIXES)


def read(data: bytes, path: str) -> Source:
    """Read the content of a file.

    Example:
        >>> read(b"import json, shop.prices", "x.py").imports[1].name
        'shop.prices'
    """
    if not is_source(path):
        return Source(sha256(data).hexdigest())
    try:
        tree = parsed(data)
        return _Reading(tree).source(_digest(tree))
    except (SyntaxError, ValueError, RecursionError, MemoryError):  # importing it raises the error
        return Source(sha256(data).hexdigest())


def _digest(tree: ast.Module) -> str:
    """Return a digest of a syntax tree; without recursion, since long chains of ``elif`` and ``+`` are too deep for it."""
    found = sha256()
    waiting: list[Any] = [tree]
    while waiting:
        value = waiting.pop()
        if isinstance(value, ast.AST):
            text = type(value).__name__
            waiting += [getattr(value, name, None) for name in reversed(value._fields)]
        elif isinstance(value, list):
            text = f"[{len(value)}]"
            waiting += reversed(value)
        else:
            text = hex(value) if type(value) is int else repr(value)
        found.update(f"{text}\n".encode())
    return found.hexdigest()


class _Reading:
    """One walk over a source."""

    def __init__(self, tree: ast.Module) -> None:
        self._imports: list[Import] = []
        self._texts: set[str] = set()
        self._names: set[str] = set()
        self._prefixes: set[str] = set()
        self._public = _public(tree)
        self._tree = tree
        self._walk(tree)

    def source(self, digest: str) -> Source:
        """Return the result of the walk."""
        looks = not LOOKERS.isdisjoint(self._names)
        if not _SEARCHERS.isdisjoint(self._names):
            self._prefixes.add("")
        mentioned = {text for text in self._texts if _DOTTED.fullmatch(text)}
        return Source(
            digest,
            tuple(self._imports),
            self._public,
            frozenset(mentioned),
            frozenset(self._prefixes),
            frozenset(self._texts) if looks else frozenset(),
            looks,
            folders_in(self._tree) if looks else frozenset(),
        )

    def _walk(self, tree: ast.AST) -> None:
        waiting: list[tuple[ast.AST, bool]] = [(tree, False)]
        while waiting:
            node, optional = waiting.pop()
            self._note(node, optional=optional)
            waiting += _inside(node, optional=optional)

    def _note(self, node: ast.AST, *, optional: bool) -> None:
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
            self._imports += [Import(name, optional=optional) for name in names]
            self._names.update(part for name in names for part in name.split("."))
        elif isinstance(node, ast.ImportFrom):
            members = tuple(alias.name for alias in node.names)
            self._imports.append(Import("." * node.level + (node.module or ""), members, optional))
            self._names.update(members, (node.module or "").split("."))
        elif isinstance(node, ast.Call):
            self._called(node)
        elif isinstance(node, ast.Name):
            self._names.add(node.id)
        elif isinstance(node, ast.Attribute):
            self._names.add(node.attr)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and 0 < len(node.value) <= _TEXT:
            self._texts.add(node.value)

    def _called(self, node: ast.Call) -> None:
        """Record the module that a call imports or reads from, if its first argument is a text or begins with one."""
        called = node_name(node.func)
        first = node.args[0] if node.args else None
        name = node_text(first)
        if called in READERS and name and not name.startswith("."):
            self._imports.append(Import(name, optional=True))
        if called not in _LOADERS or first is None:
            return
        if name:
            self._imports.append(Import(name, optional=True))
        elif name is None and called != "find_spec":
            self._prefixes.add((_beginning(first) or "").strip("."))


def _inside(node: ast.AST, *, optional: bool) -> Iterator[tuple[ast.AST, bool]]:
    """Yield the parts of a node, and whether imports in these may fail."""
    if isinstance(node, ast.If):
        # imports under `if TYPE_CHECKING:` never run
        body = () if node_name(node.test) == "TYPE_CHECKING" else (node.test, *node.body)
        yield from ((part, True) for part in (*body, *node.orelse))
    elif isinstance(node, ast.Try):
        caught = any(_catches(handler) for handler in node.handlers)
        yield from ((part, optional or caught) for part in node.body)
        rest = (*node.handlers, *node.orelse, *node.finalbody)
        yield from ((part, True) for part in rest)
    elif isinstance(node, (ast.With, ast.AsyncWith)):
        suppressed = any(_suppresses(item.context_expr) for item in node.items)
        yield from ((part, optional or suppressed) for part in ast.iter_child_nodes(node))
    else:
        inner = optional or isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
        yield from ((part, inner) for part in ast.iter_child_nodes(node))


def _catches(handler: ast.ExceptHandler) -> bool:
    """Return whether a handler catches the error of an import."""
    if handler.type is None:
        return True
    return _has_missing(handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type])


def _suppresses(context: ast.expr) -> bool:
    """Return whether a context is a call of ``contextlib.suppress`` with the error of an import."""
    return (
        isinstance(context, ast.Call) and node_name(context.func) == "suppress" and _has_missing(context.args)
    )


def _has_missing(kinds: Iterable[ast.expr]) -> bool:
    return any(node_name(kind) in CATCHING for kind in kinds)


def _beginning(node: ast.expr) -> str | None:
    """Return the text with which a computed text begins, such as ``shop.plugins.`` in ``f"shop.plugins.{name}"``."""
    if isinstance(node, ast.JoinedStr) and node.values:
        return node_text(node.values[0])
    if isinstance(node, ast.BinOp):
        return node_text(node.left) or _beginning(node.left)
    return None


def _public(tree: ast.Module) -> tuple[str, ...]:
    """Return the texts in ``__all__``."""
    found: list[str] = []
    for node in tree.body:
        if not isinstance(node, (ast.Assign, ast.AnnAssign, ast.AugAssign)) or node.value is None:
            continue
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        if any(getattr(target, "id", None) == "__all__" for target in targets):
            found += filter(None, map(node_text, ast.walk(node.value)))
    return tuple(found)
