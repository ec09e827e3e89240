"""Find the program's own modules and files that a function needs, without importing them."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from runwide.code.files import File, file_at, is_secret, visits
from runwide.code.graph import ALL, OURS, Graph, Reached, is_installed
from runwide.code.imports import DOTTED
from runwide.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from runwide.code.data import Beside


_PIPELINES = frozenset({"kfp", "runwide_components"})


def reached(
    names: Iterable[str],
    *,
    optional: Iterable[str] = (),
    whole: Iterable[str] = (),
    beside: Iterable[Beside] = (),
) -> Reached:
    """Find the program's own modules among some modules and their imports, and the files that these read.

    A module is the program's own if its file is not in the standard library, not in a folder of installed packages, and not
    in runwide. An editable install is the program's own. ``__main__`` is left out: its functions travel by value.

    Imports are read from the source, also inside functions. Calls of ``import_module`` and similar functions are followed
    if their argument is a text, or begins with one. If a package computes names of modules to load, all its modules are
    included. Files beside modules are included if any of the program's own code looks for files, see `runwide.code.data`.

    Args:
        names: Names of modules; modules that are not found, or are not the program's own, are ignored.
        optional: Further names; installed modules that only these need may be missing.
        whole: Names of packages to include with all their modules, and of modules.
        beside: Functions that travel by value, with the files that they look for.

    Example:
        >>> import sys
        >>> from pathlib import Path
        >>> Path("steps.py").write_text("import json, tools, numpy")
        25
        >>> Path("tools.py").write_text("SCALE = 3  # or 4")
        17
        >>> sys.path.insert(0, str(Path.cwd()))
        >>> found = reached(["steps"])
        >>> list(found.digests), found.installed
        (['steps.py', 'tools.py'], ('numpy',))
        >>> "steps" in sys.modules
        False
        >>> del sys.path[0]
    """
    graph = Graph()
    whole = tuple(whole)
    first = [(name, "", False) for name in names] + [(name, "", True) for name in optional]
    graph.follow((*first, *((name, ALL, True) for name in whole)))
    return graph.result(set(whole), beside)


def kind_of(name: str) -> str:
    """Return ``"own"`` or ``"installed"`` (also for modules of Python) for a module; an empty text if it is not found.

    Example:
        >>> kind_of("numpy"), kind_of("json"), kind_of("no_such_module")
        ('installed', 'installed', '')
    """
    module = Graph().module(name)
    if module is None:
        return "installed" if name.partition(".")[0] in (*sys.stdlib_module_names, *OURS) else ""
    return "installed" if module.installed else "own"


def goes_by_value(name: str) -> bool:
    """Return whether functions and classes of a loaded module travel by value, like those of a script.

    This holds for three kinds of modules: a module that was made at run time, since it has no file; a module whose name
    includes a package that cannot be imported; and a module of the program's own that imports libraries for pipelines.
    Importing the last in a component would define the pipelines there, and run all other statements of the file. A package
    always goes by name, since its modules are loaded after it. So does a module that is imported by another module that
    travels, see `runwide.pickling.own_code`.

    Example:
        >>> goes_by_value("json"), goes_by_value("__main__")
        (False, False)
    """
    module = sys.modules.get(name)
    if not isinstance(module, ModuleType) or name.partition(".")[0] in (*OURS, "__main__", "__mp_main__"):
        return False
    known = _by_value.get(module)
    if known is None:
        known = _by_value[module] = (
            _is_made_here(module) or _is_without_package(name, module) or _defines_pipelines(name)
        )
    return known


_by_value: WeakKeyDictionary[ModuleType, bool] = WeakKeyDictionary()


def _is_made_here(module: ModuleType) -> bool:
    about = vars(module)
    known = about.get("__spec__"), about.get("__file__"), about.get("__path__"), about.get("__loader__")
    name = module.__name__
    return (
        type(module) is ModuleType
        and known == (None, None, None, None)
        and ("." not in name or _is_nowhere(name))
    )


def _is_without_package(name: str, module: ModuleType) -> bool:
    """Return whether a module was loaded from a file under a name that cannot be imported, as loaders of plug-ins do."""
    file = vars(module).get("__file__")
    return isinstance(file, str) and not is_installed(file) and "." in name and _is_nowhere(name)


def _is_nowhere(name: str) -> bool:
    """Return whether Python finds no module with this name."""
    return name.partition(".")[0] not in sys.stdlib_module_names and Graph().module(name) is None


def _defines_pipelines(name: str) -> bool:
    module = Graph().module(name)
    if module is None or module.source is None or module.folders is not None:
        return False
    imports = (one for one in module.source.imports if not one.optional)
    return any(one.name.partition(".")[0] in _PIPELINES for one in imports)


def check_there(names: Iterable[str]) -> None:
    """Reject modules of the program's own that are loaded, but whose files are gone: they could not travel.

    Example:
        >>> check_there(["json", "no_such_module"])
    """
    for name in sorted(names):
        module = sys.modules.get(name)
        spec = vars(module).get("__spec__") if isinstance(module, ModuleType) else None
        file = getattr(spec, "origin", None)
        if (
            type(getattr(spec, "loader", None)) is SourceFileLoader
            and isinstance(file, str)
            and name.partition(".")[0] not in OURS
            and not is_installed(file)
            and not os.path.exists(file)  # noqa: PTH110 - a text
            and not goes_by_value(name)
        ):
            raise InputError(
                f"the module {name!r} is loaded here, but its file does not exist any more, so it cannot be sent",
                uri=file,
                hint="restore the file, or start this program again with the present files",
            )


def loaded() -> list[str]:
    """Return the names of the loaded modules of the program's own, with those that were made at run time."""
    found = []
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] in (*OURS, "__main__", "__mp_main__") or not isinstance(module, ModuleType):
            continue
        file = vars(module).get("__file__")
        if (isinstance(file, str) and not is_installed(file)) or _is_made_here(module):
            found.append(name)
    return found


@dataclass(frozen=True, slots=True)
class Asked:
    """Code to send since ``code=`` asks for it.

    Args:
        files: Other files, by their path below a folder of the search path.
        left_out: Files in these folders that are hidden or look like keys.
    """

    names: tuple[str, ...]
    files: dict[str, File]
    left_out: tuple[str, ...] = ()


def asked_for(asked: Iterable[str | os.PathLike[str]]) -> Asked:
    """Find packages, modules, files and folders.

    Args:
        asked: Names such as ``"shop"`` or ``"shop.prices"``, and paths. In the archive, a path below a folder of the
            search path is relative to that folder; any other path is at the top.

    Example:
        >>> from pathlib import Path
        >>> Path("labels.json").write_text("{}")
        2
        >>> list(asked_for(["labels.json"]).files)
        ['labels.json']
    """
    if isinstance(asked, (str, os.PathLike)):
        asked = [asked]
    names: list[str] = []
    files: dict[str, File] = {}
    left_out: set[str] = set()
    for one in _checked(asked):
        if isinstance(one, str) and DOTTED.fullmatch(one) and (kind := kind_of(one)):
            if kind == "installed":
                raise InputError(
                    f"code={one!r} is an installed package, and not code of the program's own",
                    hint="name it in requirements=, or build an image with it",
                )
            names.append(one)
            if not reached((), whole=[one]).files and Path(one).exists():  # a folder without modules
                files.update(_below(Path(one), left_out))
        else:
            files.update(_below(Path(one), left_out))
    return Asked(tuple(names), files, tuple(sorted(left_out)))


def _checked(asked: Any) -> list[Any]:
    try:
        found = list(asked)
    except TypeError:
        found = [None]
    if not all(isinstance(one, (str, os.PathLike)) and os.fspath(one) for one in found):
        raise InputError(
            f"code={asked!r} is not a list of names or paths",
            hint='give a list such as ["shop", "data/labels.json"]',
        )
    return found


def _below(path: Path, left_out: set[str]) -> Iterator[tuple[str, File]]:
    place = Path(os.path.abspath(path))  # noqa: PTH100 - links stay as they are
    if not place.exists():
        raise InputError(
            f"code={str(path)!r} is not a module of the program's own, and there is no such file or folder",
            hint="give the name of a package that can be imported here, or a path",
        )
    if not place.is_dir() and not place.is_file():
        raise InputError(
            f"code={str(path)!r} is not a regular file",
            hint="give files with content, and no pipes, sockets or devices",
        )
    for file in _files(place, left_out) if place.is_dir() else [place]:
        yield _name(file, place), file_at(str(file))


def _files(folder: Path, left_out: set[str]) -> Iterator[Path]:
    def entered(place: str) -> bool:
        name = os.path.basename(place)  # noqa: PTH119 - a text
        if name.startswith("."):
            left_out.add(place)
        return not name.startswith(".") and name != "__pycache__"

    for above, names in visits(str(folder), entered):
        secret = {name for name in names or () if is_secret(name)}
        left_out.update(f"{above}/{name}" for name in secret)
        yield from (Path(above, name) for name in names or () if name not in secret)


def _name(file: Path, asked: Path) -> str:
    """Return the path of a file relative to the nearest folder of the search path, or else to the parent of ``asked``."""
    folders = [Path(os.path.abspath(entry)) for entry in sys.path]  # noqa: PTH100 - as above
    above = [folder for folder in folders if folder in (asked, *asked.parents) and folder != file]
    folder = max(above, key=lambda one: len(one.parts), default=asked.parent)
    return file.relative_to(folder).as_posix()
