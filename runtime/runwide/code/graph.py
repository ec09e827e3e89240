"""The graph of modules that import each other."""

from __future__ import annotations

import os
import pkgutil
import sys
from dataclasses import dataclass
from importlib.machinery import EXTENSION_SUFFIXES, ModuleSpec, PathFinder
from importlib.util import resolve_name, spec_from_file_location
from types import ModuleType
from typing import TYPE_CHECKING, Any

from runwide.code.data import Beside, files_beside
from runwide.code.distributions import SITES
from runwide.code.files import File, file_at, source_of
from runwide.code.source import is_source

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Iterator, Sequence

    from runwide.code.source import Source

OURS = ("runwide", "runwide_components")
_STANDARD = tuple(
    {
        os.path.dirname(os.__file__),  # noqa: PTH120 - compared with texts
        os.path.join(  # noqa: PTH118 - likewise
            sys.base_exec_prefix, sys.platlibdir, f"python{sys.version_info[0]}.{sys.version_info[1]}"
        ),
    }
)
"""The folders of the standard library: its modules, and the compiled ones."""
_NO_MODULES = frozenset({"__pycache__", "node_modules"})
_STAR, ALL = "*", "**"  # all public names of a package; all modules below it


@dataclass(frozen=True, slots=True)
class Reached:
    """The files of the program's own that some modules need.

    Args:
        files: By their path below a folder of Python's search path, with ``/``.
        installed: Installed modules that they must have, such as ``sklearn`` or ``google.cloud.storage``.
        left_out: Data files that were left out, since they are large or many.
    """

    files: dict[str, File]
    installed: tuple[str, ...]
    left_out: tuple[str, ...]

    @property
    def digests(self) -> dict[str, str]:
        """The digest of each file by its path, sorted."""
        return {path: file.digest for path, file in sorted(self.files.items())}


@dataclass(frozen=True, slots=True)
class Module:
    """A module that is the program's own, or that may have such modules below it, or that is installed.

    Args:
        folders: The folders of its submodules; None if it is not a package.
        source: Its source; None for a namespace package and for an installed module.
        loader: Reads the file if it is in an archive.
    """

    folders: tuple[str, ...] | None
    source: Source | None = None
    origin: str = ""
    loader: Any = None
    installed: bool = False


class Graph:
    """The modules that have been found so far."""

    def __init__(self) -> None:
        self._seen: dict[str, Module | None] = {}
        self._needed: dict[str, bool] = {}
        """Whether the program can run without a module, for modules of its own."""
        self._whole: set[str] = set()
        self._installed: set[str] = set()
        self._spaces: set[str] = set()
        """Namespace packages of the program's own that are imported or read from by name."""

    def module(self, name: str) -> Module | None:
        """Return a module, or None if it or a package above it is not found."""
        found = None
        for one in _with_parents(name):
            if one not in self._seen:
                self._seen[one] = _found(one, self._seen.get(one.rpartition(".")[0]))
            found = self._seen[one]
            if found is None or found.installed:
                break
        return found

    def follow(self, first: Iterable[tuple[str, str, bool]]) -> None:
        """Follow imports until no new modules are found.

        Args:
            first: For each module its name, `ALL`, ``"*"`` or an empty text, and whether the program can run without it.
        """
        waiting = list(first)
        while waiting:
            while waiting:
                waiting += self._step(*waiting.pop())
            waiting += self._mentioned()

    def _step(self, name: str, taken: str, optional: bool) -> Iterator[tuple[str, str, bool]]:  # noqa: FBT001 - arguments come from the queue
        module = None
        for one in _with_parents(name):
            module = self.module(one)
            if module is None:
                return
            if module.installed:
                if not optional:
                    self._installed.add(one)
                return
            if (
                module.source is not None
                and self._needed.get(one, True)
                and not (optional and one in self._needed)
            ):
                self._needed[one] = optional
                yield from self._imported(one, module, optional=optional)
        if module is not None and module.source is None and not any(map(is_installed, module.folders or ())):
            self._spaces.add(name)
        if taken == _STAR:
            source = None if module is None else module.source
            yield from (
                (f"{name}.{member}", "", True) for member in (() if source is None else source.public)
            )
        elif taken == ALL and module is not None and module.folders is not None and name not in self._whole:
            self._whole.add(name)
            yield from ((below, ALL, True) for below in _below(name, module.folders, self._around(name)))

    def _around(self, name: str) -> set[str]:
        """Return the folders of a package and of those above it, without links."""
        above = (self._seen[one] for one in _with_parents(name))
        return {os.path.realpath(folder) for one in above if one for folder in one.folders or ()}

    def _imported(self, name: str, module: Module, *, optional: bool) -> Iterator[tuple[str, str, bool]]:
        """Yield the names that a module imports, some of which may be modules."""
        if module.source is None:
            return
        package = name if module.folders is not None else name.rpartition(".")[0]
        for one in module.source.imports:
            try:
                base = resolve_name(one.name, package)
            except (ImportError, ValueError):  # a relative import beyond the top package
                continue
            without = optional or one.optional
            yield base, (_STAR if _STAR in one.members else ""), without
            yield from ((f"{base}.{member}", "", without) for member in one.members if member != _STAR)
        for prefix in module.source.prefixes:
            if below := prefix or package:
                yield below, ALL, True

    def _mentioned(self) -> list[tuple[str, str, bool]]:
        """Return modules of the program's own packages that sources mention in texts."""
        tops = {name.partition(".")[0] for name in self._needed}
        sources = (self._seen[name] for name in self._needed)
        texts = {text for one in sources if one and one.source for text in one.source.mentioned}
        return [
            (text, "", True)
            for text in texts
            if text.partition(".")[0] in tops and text not in self._needed and self._is_new(text)
        ]

    def _is_new(self, name: str) -> bool:
        module = None if name in self._seen else self.module(name)
        return module is not None and module.source is not None

    def result(self, whole: set[str], beside: Iterable[Beside]) -> Reached:
        """Return the modules that were found, with the files beside them."""
        files = {}
        places = list(beside)
        packages = {}
        for name in self._needed:
            module = self._seen[name]
            if module is None or module.source is None:
                continue
            path = _path_of(name, module)
            files[path] = File(module.origin, module.source.digest, name, module.loader)
            places.append(Beside.of(path, module.origin, module.source))
        for name, module in self._seen.items():
            if module is not None and module.folders is not None and self._has_own(name):
                packages[name.replace(".", "/")] = module.folders
        every = {
            name.replace(".", "/") for name in self._whole if name.partition(".")[0] in whole or name in whole
        }
        data, left_out = files_beside(packages, places, every)
        for path, place in data.items():
            files.setdefault(path, file_at(place))
        return Reached(files, tuple(sorted(self._installed)), left_out)

    def _has_own(self, name: str) -> bool:
        """Return whether a package is the program's own, or has a module of its own."""
        return name in self._spaces or any(one == name or one.startswith(f"{name}.") for one in self._needed)


def _path_of(name: str, module: Module) -> str:
    """Return the path of a module below a folder of the search path."""
    path, file = name.replace(".", "/"), os.path.basename(module.origin)  # noqa: PTH119 - a text
    suffixes = (*EXTENSION_SUFFIXES, ".pyc")
    suffix = ".py" if is_source(file) else next((one for one in suffixes if file.endswith(one)), ".py")
    return f"{path}/__init__{suffix}" if module.folders is not None else f"{path}{suffix}"


def _below(name: str, folders: Sequence[str], around: Container[str]) -> Iterator[str]:
    """Yield the names of all modules and packages in a package, except links to a folder that contains them."""
    found = {one.name for one in pkgutil.iter_modules(list(folders))}
    for folder in folders:
        try:
            inner = [one for one in os.scandir(folder) if one.is_dir()]
        except OSError:  # an archive
            continue
        found.update(one.name for one in inner if one.name.isidentifier())
        found.difference_update(
            one.name for one in inner if one.name in _NO_MODULES or os.path.realpath(one.path) in around
        )
    yield from (f"{name}.{one}" for one in sorted(found))


# --- finding a module


def _with_parents(name: str) -> Iterator[str]:
    """Yield the packages above a module, and the module; nothing for runwide, `__main__` and names with empty parts."""
    parts = name.split(".")
    if "" in parts or parts[0] in (*OURS, "__main__"):
        return
    for stop in range(1, len(parts) + 1):
        yield ".".join(parts[:stop])


def _found(name: str, parent: Module | None) -> Module | None:
    if "." in name and (parent is None or parent.folders is None):
        return None
    spec = _spec(name, None if parent is None else parent.folders)
    if spec is None:
        return None
    folders = None if spec.submodule_search_locations is None else _folders(name, spec)
    if not spec.has_location or spec.origin is None:  # built in, frozen or a namespace
        return None if folders is None else Module(folders)
    if is_installed(spec.origin):
        return None if name.partition(".")[0] in sys.stdlib_module_names else Module(folders, installed=True)
    source = source_of(spec.origin, spec.loader)
    return None if source is None else Module(folders, source, spec.origin, spec.loader)


def _spec(name: str, folders: Sequence[str] | None) -> ModuleSpec | None:
    module = sys.modules.get(name)
    if isinstance(module, ModuleType):  # sys.modules may have any object
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
    # With a dotted name, PathFinder would look for the parent package among the loaded modules.
    wanted = name.rpartition(".")[2] if finder is PathFinder and folders is not None else name
    try:
        return finder.find_spec(wanted, folders)
    except Exception:  # an error of a foreign finder; importing the module raises it
        return None


def _folders(name: str, spec: ModuleSpec) -> tuple[str, ...]:
    """Return the folders of submodules; a loaded package may have added to its path."""
    module = sys.modules.get(name)
    path = vars(module).get("__path__") if isinstance(module, ModuleType) else None
    try:
        return tuple(spec.submodule_search_locations or () if path is None else path)
    except (KeyError, AttributeError, TypeError):  # a namespace package whose parent is no longer loaded
        return ()


def is_installed(path: str) -> bool:
    """Return whether a file is in the standard library, or in a folder of installed packages."""
    if any(f"{os.sep}{folder}{os.sep}" in path for folder in SITES):
        return True
    return path.startswith(tuple(f"{folder}{os.sep}" for folder in _STANDARD))
