"""List and read files in zip archives from which Python imports modules, such as a zipapp."""

from __future__ import annotations

import os
import zipfile
from typing import Any

_listings: dict[str, tuple[tuple[int, int], dict[str, int]]] = {}


def archived_sizes(folder: str) -> dict[str, int]:
    """Return the sizes of the files below a folder in an archive, by their paths below it, with ``/``.

    Args:
        folder: The path of the folder, which begins with that of the archive, as in the path of a module imported from it.

    Returns:
        An empty dict if the folder is not in an archive.

    Example:
        >>> with zipfile.ZipFile("app.pyz", "w") as archive:
        ...     archive.writestr("lib/rates.csv", "1.2")
        >>> archived_sizes(os.path.abspath("app.pyz/lib"))
        {'rates.csv': 3}
    """
    archive, inside = _split(folder)
    start = f"{inside}/" if inside else ""
    members = _members(archive) if archive else {}
    return {name[len(start) :]: size for name, size in members.items() if name.startswith(start)}


def archived_size(place: str) -> int | None:
    """Return the size of a file in an archive; None if it is not in an archive."""
    archive, inside = _split(place)
    return _members(archive).get(inside) if archive else None


def loader_of(place: str) -> Any:
    """Return the loader that reads a file in an archive; None if it is not in an archive."""
    import zipimport

    archive, _ = _split(place)
    try:
        return zipimport.zipimporter(archive) if archive else None
    except zipimport.ZipImportError:
        return None


def _split(place: str) -> tuple[str, str]:
    """Return the archive that contains a path, and the path in it; empty texts if there is no such archive."""
    archive, inside = place, ""
    while not os.path.exists(archive):  # noqa: PTH110 - a text
        archive, name = os.path.split(archive)
        if not name:
            return "", ""
        inside = f"{name}/{inside}" if inside else name
    return (archive, inside) if os.path.isfile(archive) else ("", "")  # noqa: PTH113 - likewise


def _members(archive: str) -> dict[str, int]:
    try:
        about = os.stat(archive)  # noqa: PTH116 - a text
        state = about.st_mtime_ns, about.st_size
        if archive not in _listings or _listings[archive][0] != state:
            with zipfile.ZipFile(archive) as opened:
                files = (one for one in opened.infolist() if not one.is_dir())
                _listings[archive] = state, {one.filename: one.file_size for one in files}
        return _listings[archive][1]
    except (OSError, zipfile.BadZipFile):
        return {}
