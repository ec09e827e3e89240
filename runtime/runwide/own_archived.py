"""Files in archives from which Python imports modules, such as a zipapp."""

from __future__ import annotations

import os
import zipfile
from typing import Any

_known: dict[str, tuple[tuple[int, int], dict[str, int]]] = {}


def sizes(folder: str) -> dict[str, int]:
    """Return the sizes of the files below a folder of an archive, by their paths below it, with ``/``.

    Args:
        folder: The folder, as the path of a module that is imported from the archive has it.

    Returns:
        Nothing if it is in no archive.

    Example:
        >>> with zipfile.ZipFile("app.pyz", "w") as archive:
        ...     archive.writestr("lib/rates.csv", "1.2")
        >>> sizes(os.path.abspath("app.pyz/lib"))
        {'rates.csv': 3}
    """
    archive, inside = _parted(folder)
    start = f"{inside}/" if inside else ""
    members = _members(archive) if archive else {}
    return {name[len(start) :]: size for name, size in members.items() if name.startswith(start)}


def size(place: str) -> int | None:
    """Return the size of a file of an archive; None if it is in none.

    Args:
        place: Its path, which begins with that of the archive.
    """
    archive, inside = _parted(place)
    return _members(archive).get(inside) if archive else None


def loader_of(place: str) -> Any:
    """Return what reads a file of an archive; None if it is in none.

    Args:
        place: Its path, which begins with that of the archive.
    """
    import zipimport

    archive, _ = _parted(place)
    try:
        return zipimport.zipimporter(archive) if archive else None
    except zipimport.ZipImportError:
        return None


def _parted(place: str) -> tuple[str, str]:
    """Return the archive in which a place is, and the path in it; empty texts if it is in none."""
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
        if archive not in _known or _known[archive][0] != state:
            with zipfile.ZipFile(archive) as opened:
                files = (one for one in opened.infolist() if not one.is_dir())
                _known[archive] = state, {one.filename: one.file_size for one in files}
        return _known[archive][1]
    except (OSError, zipfile.BadZipFile):
        return {}
