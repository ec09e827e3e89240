"""In the image, keep root's Python from modules that another user may have put into a shared directory.

`python3 -c` and `python3 -m` search the working directory first, and a script its own folder. If that is the home of the
image or /tmp, any user can write there. In such a directory, root's Python finds only files that root owns.
"""

from __future__ import annotations

import os
import stat
import sys
from importlib.machinery import (
    BYTECODE_SUFFIXES,
    EXTENSION_SUFFIXES,
    SOURCE_SUFFIXES,
    ExtensionFileLoader,
    FileFinder,
    SourceFileLoader,
    SourcelessFileLoader,
)

TYPE_CHECKING = False  # typing takes longer to load than all of this
if TYPE_CHECKING:
    from importlib.machinery import ModuleSpec
    from types import CodeType, ModuleType

_BY_OTHERS = stat.S_IWGRP | stat.S_IWOTH


class _FromSource(SourceFileLoader):
    """A loader that ignores compiled files, since another user may have written them."""

    def get_code(self, fullname: str) -> CodeType:
        path = self.get_filename(fullname)
        code: CodeType = self.source_to_code(self.get_data(path), path)
        return code


class _Shared:
    """The finder of a directory that other users may write."""

    def __init__(self, path: str) -> None:
        self._files = FileFinder(
            path,
            (ExtensionFileLoader, EXTENSION_SUFFIXES),
            (_FromSource, SOURCE_SUFFIXES),
            (SourcelessFileLoader, BYTECODE_SUFFIXES),
        )

    def find_spec(self, name: str, target: ModuleType | None = None) -> ModuleSpec | None:
        """Find a module if only root can write its file and directory."""
        found = self._files.find_spec(name, target)
        if found is None:
            return None
        # A directory without an __init__.py has no file.
        paths = [*([found.origin] if found.has_location else []), *(found.submodule_search_locations or [])]
        return found if all(_is_roots(path) for path in paths if path) else None

    def invalidate_caches(self) -> None:
        """Look at the directory anew."""
        self._files.invalidate_caches()


def _is_roots(path: str) -> bool:
    """Return whether only root can have made or changed a file."""
    found = os.stat(path)  # noqa: PTH116 - pathlib is slow to load
    # Another user's link may lead to a file that was not meant to be imported.
    return not (found.st_uid or os.lstat(path).st_uid or found.st_mode & _BY_OTHERS)


def _finder_of(path: str) -> _Shared:
    """Return the finder for a directory that several users may write.

    A directory that belongs to one other user does not count: root goes there to use that user's files.

    Raises:
        ImportError: Other users may not write there, so the next hook is used.
    """
    try:
        found = os.stat(path)  # noqa: PTH116 - as above
    except OSError as error:
        raise ImportError(path) from error
    # The image's own user is in root's group.
    by_others = stat.S_IWOTH if found.st_gid else _BY_OTHERS
    if not found.st_mode & by_others:
        raise ImportError(path)
    return _Shared(path)


sys.path_hooks.insert(0, _finder_of)
