"""Digests of the program's own modules that a function needs, found without loading any."""

from __future__ import annotations

import ast
import os
import sys
import threading
import warnings
from dataclasses import dataclass
from hashlib import sha256
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import resolve_name, spec_from_file_location
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

_OURS = ("runwide", "runwide_components")
_INSTALLED = ("site-packages", "dist-packages")
_SOURCE = (".py", ".pyw")
_STANDARD = tuple(
    {
        os.path.dirname(os.__file__),  # noqa: PTH120 - compared with texts
        os.path.join(  # noqa: PTH118 - likewise
            sys.base_exec_prefix, sys.platlibdir, f"python{sys.version_info[0]}.{sys.version_info[1]}"
        ),
    }
)
"""The folders of the standard library: its modules, and the compiled ones."""


def needed_by(names: Iterable[str]) -> dict[str, str]:
    """Find the program's own modules that some modules are, or reach through imports.

    A module is the program's own if its file is not in the standard library, in a folder of installed packages, or one of
    runwide's. An editable install is the program's own. ``__main__`` is left out: its functions travel by value.

    Imports are read from the source, also those inside functions; ``import_module`` and ``__import__`` count where their
    argument is a text. Names that are computed when the program runs are not seen.

    Args:
        names: Names of modules; those that are not found, or not the program's own, are passed over.

    Returns:
        By the name of each module, in order, a SHA-256 in hex. Comments, blank lines and line numbers of a source do not
        count. Of an extension module, and of a source that cannot be parsed, it is that of the bytes. Each minor version of
        Python has its own.

    Example:
        >>> import sys
        >>> from pathlib import Path
        >>> Path("steps.py").write_text("import json, tools")
        18
        >>> Path("tools.py").write_text("SCALE = 3  # or 4")
        17
        >>> sys.path.insert(0, str(Path.cwd()))
        >>> list(needed_by(["steps"]))
        ['steps', 'tools']
        >>> "steps" in sys.modules
        False
        >>> del sys.path[0]
    """
    seen: dict[str, _Module | None] = {}
    needed: dict[str, str] = {}
    waiting = list(names)
    while waiting:
        name, star = _parted(waiting.pop())
        for one in _with_parents(name):
            if one not in seen:
                seen[one] = module = _found(one, seen.get(one.rpartition(".")[0]))
                if module is not None and module.source is not None:
                    needed[one] = module.source.digest
                    waiting += _imported(one, module)
        if star:
            waiting += _public_of(name, seen.get(name))
    return dict(sorted(needed.items()))


@dataclass(frozen=True, slots=True)
class _Import:
    """An import statement.

    Args:
        name: The module, with a dot in front for each level.
        members: What is taken from it, which may be modules too.
    """

    name: str
    members: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Source:
    """A file of the program's own.

    Args:
        digest: SHA-256, in hex.
        imports: What it imports.
        public: Its ``__all__``, as far as it is written as texts.
    """

    digest: str
    imports: tuple[_Import, ...] = ()
    public: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Module:
    """A module that may be the program's own, or have ones below it.

    Args:
        folders: Where its submodules are; None for what is no package.
        source: Its file; None for a namespace package.
    """

    folders: tuple[str, ...] | None
    source: _Source | None


# --- where a module is


def _parted(name: str) -> tuple[str, bool]:
    """A module, and whether all that is public in it is imported."""
    return name.removesuffix(".*"), name.endswith(".*")


def _public_of(name: str, module: _Module | None) -> Iterator[str]:
    """What ``import *`` takes from a module, some of which may be submodules."""
    source = None if module is None else module.source
    return (f"{name}.{member}" for member in (() if source is None else source.public))


def _with_parents(name: str) -> Iterator[str]:
    """The packages that are loaded before a module, and the module; nothing of ours, of `__main__` or of no name."""
    parts = name.split(".")
    if "" in parts or parts[0] in (*_OURS, "__main__"):
        return
    for stop in range(1, len(parts) + 1):
        yield ".".join(parts[:stop])


def _found(name: str, parent: _Module | None) -> _Module | None:
    if "." in name and (parent is None or parent.folders is None):
        return None
    spec = _spec(name, None if parent is None else parent.folders)
    if spec is None:
        return None
    folders = None if spec.submodule_search_locations is None else _folders(name, spec)
    if not spec.has_location or spec.origin is None:  # built in, frozen or a namespace
        return None if folders is None else _Module(folders, None)
    if _is_installed(spec.origin):
        return None
    source = _source(spec.origin, spec.loader)
    return None if source is None else _Module(folders, source)


def _spec(name: str, folders: Sequence[str] | None) -> ModuleSpec | None:
    module = sys.modules.get(name)
    if isinstance(module, ModuleType):  # anything may be there
        spec, file = vars(module).get("__spec__"), vars(module).get("__file__")
        if isinstance(spec, ModuleSpec):
            return spec
        if isinstance(file, str):
            return spec_from_file_location(name, file)
    for finder in tuple(sys.meta_path):
        spec = _asked(finder, name, folders)
        if isinstance(spec, ModuleSpec):
            return spec
    return None


def _asked(finder: Any, name: str, folders: Sequence[str] | None) -> Any:
    # a name with dots has it look for the package among the modules that are loaded, if there is no file
    wanted = name.rpartition(".")[2] if finder is PathFinder and folders is not None else name
    try:
        return finder.find_spec(wanted, folders)
    except Exception:  # of somebody else's finder; the import itself would say so
        return None


def _folders(name: str, spec: ModuleSpec) -> tuple[str, ...]:
    """Where submodules are: a package that is loaded may have added to its path."""
    module = sys.modules.get(name)
    path = vars(module).get("__path__") if isinstance(module, ModuleType) else None
    try:
        return tuple(spec.submodule_search_locations or () if path is None else path)
    except (
        KeyError,
        AttributeError,
        TypeError,
    ):  # the path of a namespace whose parent is not loaded any more
        return ()


def _is_installed(path: str) -> bool:
    if any(f"{os.sep}{folder}{os.sep}" in path for folder in _INSTALLED):
        return True
    return path.startswith(tuple(f"{folder}{os.sep}" for folder in _STANDARD))


# --- what is in its file

_known: dict[str, tuple[tuple[int, int], _Source]] = {}
_parsing = threading.Lock()  # filters of warnings are those of the whole process


def _source(path: str, loader: Any) -> _Source | None:
    """What is in a file; None where it is not there."""
    try:
        about = os.stat(path)  # noqa: PTH116 - of a text
        state = about.st_mtime_ns, about.st_size
        if path in _known and _known[path][0] == state:
            return _known[path][1]
        with open(path, "rb") as file:  # noqa: PTH123 - likewise
            source = _read(file.read(), path)
    except OSError:
        return _archived(path, loader)
    _known[path] = state, source
    return source


def _archived(path: str, loader: Any) -> _Source | None:
    """What is in a file of an archive."""
    try:
        return _read(loader.get_data(path), path)
    except (AttributeError, OSError):
        return None


def _read(data: bytes, path: str) -> _Source:
    if not path.endswith(_SOURCE):
        return _Source(sha256(data).hexdigest())
    try:
        with _parsing, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(data)
        digest = sha256(ast.dump(tree).encode(errors="surrogatepass")).hexdigest()
        return _Source(digest, tuple(_imports(tree)), _public(tree))
    except (SyntaxError, ValueError, RecursionError, MemoryError):  # importing it will say what is wrong
        return _Source(sha256(data).hexdigest())


def _imports(tree: ast.AST) -> Iterator[_Import]:
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Import):
            yield from (_Import(alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            members = tuple(alias.name for alias in node.names)
            yield _Import("." * node.level + (node.module or ""), members)
        elif isinstance(node, ast.Call):
            yield from _called(node)
        if isinstance(node, ast.If) and _is_type_checking(node.test):
            waiting += node.orelse
        else:
            waiting += ast.iter_child_nodes(node)


def _is_type_checking(test: ast.expr) -> bool:
    """Whether it is the test of `if TYPE_CHECKING:`, whose imports never run."""
    return "TYPE_CHECKING" in (getattr(test, "id", None), getattr(test, "attr", None))


def _called(node: ast.Call) -> Iterator[_Import]:
    """The import that a call of `import_module` or `__import__` is, where its argument is a text."""
    called = getattr(node.func, "id", None) or getattr(node.func, "attr", None)
    name = _text(node.args[0] if node.args else None)
    if called in ("import_module", "__import__") and name:
        yield _Import(name)


def _public(tree: ast.Module) -> tuple[str, ...]:
    """The texts of ``__all__``."""
    found: list[str] = []
    for node in tree.body:
        if not isinstance(node, (ast.Assign, ast.AnnAssign, ast.AugAssign)) or node.value is None:
            continue
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        if any(getattr(target, "id", None) == "__all__" for target in targets):
            found += filter(None, map(_text, ast.walk(node.value)))
    return tuple(found)


def _text(node: ast.AST | None) -> str | None:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else None


def _imported(name: str, module: _Module) -> Iterator[str]:
    """Names that may be modules, and that a module imports."""
    package = name if module.folders is not None else name.rpartition(".")[0]
    for one in () if module.source is None else module.source.imports:
        try:
            base = resolve_name(one.name, package)
        except (ImportError, ValueError):  # above the top
            continue
        yield base
        yield from (f"{base}.{member}" for member in one.members)
