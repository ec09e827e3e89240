"""Find the data files that the program's own code reads."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from importlib.machinery import BYTECODE_SUFFIXES, EXTENSION_SUFFIXES, SOURCE_SUFFIXES
from typing import TYPE_CHECKING, Any

from runwide.code.files import archived_size, archived_sizes, is_secret, may_travel, visits
from runwide.code.imports import reads_in
from runwide.code.paths import codes_of, keys_of, texts_of
from runwide.code.source import LOOKERS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from types import FunctionType

    from runwide.code.source import Source

FILE_BYTES = 16 << 20
"""Most bytes of a data file that is sent without being asked for."""
ALL_BYTES = 64 << 20
"""Most bytes of all data files that are sent without being asked for."""
_MOST = 10_000  # files and folders that are read in one folder
_ALL = 100_000  # files and folders that are read in all folders of a package
_LEVELS = 4  # texts in one path, as in ``FOLDER / "data" / "days" / "monday.csv"``
_CODE = (*SOURCE_SUFFIXES, *BYTECODE_SUFFIXES, *EXTENSION_SUFFIXES, ".pyw")


@dataclass(frozen=True, slots=True)
class Beside:
    """A file of the program's own, with texts by which it may look for files beside itself.

    Args:
        path: Its path below the folder from which it is imported, with ``/``.
        looks: Whether it looks for files.
        folders: The texts that may name a whole folder.
    """

    path: str
    place: str
    texts: frozenset[str]
    looks: bool
    folders: frozenset[str] = frozenset()

    @classmethod
    def of(cls, path: str, place: str, source: Source) -> Beside:
        """Return the record of a source that was read."""
        return cls(path, place, source.texts, source.looks, source.folders)

    @classmethod
    def of_function(
        cls, function: FunctionType, values: Mapping[str, Any], named: Iterable[str] = ()
    ) -> Beside | None:
        """Return the record of a function that travels by value; None if it looks for no files, or its module has no file.

        Args:
            named: Paths beside its file that are among its values.
        """
        about = function.__globals__
        file, spec = about.get("__file__"), about.get("__spec__")
        codes = codes_of(function.__code__)
        looks = not LOOKERS.isdisjoint(name for code in codes for name in code.co_names)
        if not isinstance(file, str) or not (looks or named or reads_in(function.__code__)):
            return None
        name = getattr(spec, "name", None)
        path = f"{name.replace('.', '/')}.py" if isinstance(name, str) else os.path.basename(file)  # noqa: PTH119 - a text
        texts = texts_of(function, values).union(named)
        return cls(path, file, texts, looks=True, folders=texts.difference(keys_of(function)).union(named))

    def above(self) -> Iterator[tuple[str, str]]:
        """Yield the folders from its own up to the one from which it is imported, each with its path below the latter."""
        path, place = os.path.dirname(self.path), os.path.dirname(self.place)  # noqa: PTH120 - texts
        while True:
            yield path, place
            if not path:
                return
            path, place = os.path.dirname(path), os.path.dirname(place)  # noqa: PTH120 - texts


def files_beside(
    packages: Mapping[str, Sequence[str]], code: Iterable[Beside], whole: Iterable[str]
) -> tuple[dict[str, str], tuple[str, ...]]:
    """Find the data files to send with code.

    If any of the code looks for files, two groups are sent: the files of all its packages, except modules, hidden files and
    unused subpackages; and files and folders beside modules that texts of these modules name, in whatever way the paths are
    built. If ``code=`` asks for a package, all its files are sent.

    Args:
        packages: Folders of each package, by its path.
        whole: Paths of packages that ``code=`` asks for.

    Returns:
        The full path of each file, by its path below the folder from which the code is imported; and what was left out:
        files that are too large or cannot be in an archive, and folders with too many files.
    """
    modules = list(code)
    looks = any(one.looks for one in modules)
    chosen = set(whole)
    finding = _Finding()
    for path, folders in packages.items():
        for folder in folders if looks or path in chosen else ():
            finding.tree(path, folder, bounded=path not in chosen)
    for one in modules if looks else ():
        finding.named(one)
    return finding.files, tuple(sorted(map(_shown, finding.left_out)))


class _Finding:
    def __init__(self) -> None:
        self.files: dict[str, str] = {}
        self.left_out: set[str] = set()
        self._bytes = 0

    def tree(self, path: str, folder: str, *, bounded: bool) -> None:
        """Add the data files of a folder, and of folders below it that are not packages."""
        bounds = {"most": _MOST, "total": _ALL} if bounded else {}
        for above, names in visits(folder, _is_data_folder, **bounds):
            if names is None:
                self.left_out.add(above)
            below = above[len(folder) :].replace(os.sep, "/")
            for name in names or ():
                place = f"{above}/{name}"
                if is_secret(name) and not name.startswith("."):
                    self.left_out.add(place)
                if not _is_data(name):
                    continue
                self._add(f"{path}{below}/{name}".lstrip("/"), place, _size(place), bounded=bounded)
        for name, size in _archived(folder).items():
            self._add(f"{path}/{name}".lstrip("/"), f"{folder}/{name}", size, bounded=bounded)

    def named(self, code: Beside) -> None:
        """Add the files and folders that the texts of a module name."""
        texts = sorted(text for text in code.texts if _may_name(text))
        for path, folder in code.above():
            self._below(path, folder, texts, code.folders, _LEVELS)

    def _below(
        self, path: str, folder: str, texts: Sequence[str], whole: frozenset[str], levels: int
    ) -> bool:
        """Add the files and folders that texts name in a folder; return whether there were any."""
        added = False
        for text in texts:
            place, name = os.path.normpath(f"{folder}/{text}"), os.path.normpath(f"{path}/{text}".lstrip("/"))
            if name.startswith(("..", "/")):
                continue
            name = name.replace(os.sep, "/")
            size = _size(place)
            if size is not None:
                if is_secret(os.path.basename(place)):  # noqa: PTH119 - a text
                    self.left_out.add(place)
                else:
                    self._add(name, place, size, bounded=False)
                added = True
            elif (
                levels and place != os.path.normpath(folder) and (_is_data_folder(place) or _archived(place))
            ):
                # If texts name files in the folder, these are added; otherwise the whole folder.
                if self._below(name, place, texts, whole, levels - 1):
                    added = True
                elif text in whole:
                    self.tree(name, place, bounded=True)
                    added = True
        return added

    def _add(self, path: str, place: str, size: int | None, *, bounded: bool) -> None:
        if path in self.files or size is None:
            return
        if not may_travel(path) or (bounded and self._is_too_much(place, size)):
            self.left_out.add(place)
            return
        self._bytes += size
        self.files[path] = place

    def _is_too_much(self, place: str, size: int) -> bool:
        """Return whether a file is only sent if asked for: it is large, or cannot be read."""
        is_large = size > FILE_BYTES or self._bytes + size > ALL_BYTES
        return is_large or (os.path.exists(place) and not os.access(place, os.R_OK))  # noqa: PTH110 - a text


def _shown(place: str) -> str:
    """Return a path as text that can be encoded; bytes that are not text are escaped."""
    return place.encode(errors="backslashreplace").decode()


def _size(place: str) -> int | None:
    """Return the size of a regular file, also in an archive; None if there is no such file."""
    try:
        about = os.stat(place)  # noqa: PTH116 - a text
    except (OSError, ValueError):  # it does not exist, or the text is not a path
        return archived_size(place)
    return about.st_size if stat.S_ISREG(about.st_mode) else None


def _archived(folder: str) -> dict[str, int]:
    """Return the sizes of the data files below a folder in an archive, by their paths below it."""
    if os.path.isdir(folder):  # noqa: PTH112 - a text
        return {}
    sizes = archived_sizes(folder)
    packages = {name.rpartition("/")[0] for name in sizes if name.endswith("/__init__.py")}

    def is_inside(name: str) -> bool:
        above = name.split("/")[:-1]
        folders = ("/".join(above[: stop + 1]) for stop in range(len(above)))
        return all(map(_is_of_data, above)) and packages.isdisjoint(folders)

    found = [name for name in sizes if _is_data(name.rpartition("/")[2]) and is_inside(name)]
    return {name: sizes[name] for name in sorted(found)}


def _is_data(name: str) -> bool:
    """Return whether a file has the name of a data file: not hidden, and neither of code nor of keys."""
    return not is_secret(name) and not name.endswith(_CODE)


def _may_name(text: str) -> bool:
    """Return whether a text may be a relative path."""
    return "\0" not in text and "\n" not in text and not os.path.isabs(text) and text.strip(" ./\\") != ""  # noqa: PTH117 - a text


def _is_data_folder(place: str) -> bool:
    """Return whether a path is a folder of data: not hidden, not a package and not a virtual environment."""
    return (
        os.path.isdir(place)  # noqa: PTH112 - a text
        and _is_of_data(os.path.basename(place))  # noqa: PTH119 - likewise
        and not os.path.exists(f"{place}/__init__.py")  # noqa: PTH110 - likewise
        and not os.path.exists(f"{place}/pyvenv.cfg")  # noqa: PTH110 - likewise
    )


def _is_of_data(name: str) -> bool:
    """Return whether a folder with this name may have data."""
    return (
        not name.startswith(".")
        and name not in ("__pycache__", "node_modules")
        and not name.endswith(".egg-info")
    )
