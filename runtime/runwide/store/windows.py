"""Folders of Windows as stores: paths with drives, and names that lead elsewhere there."""

from __future__ import annotations

import re
import sys

from runwide.errors import BadReference

_DRIVE = re.compile(r"[A-Za-z]:(?:[\\/]|$)")
_DEVICES = re.compile(r"(?:con|prn|aux|nul|com[0-9]|lpt[0-9])(?:\..*)?", re.IGNORECASE)
_NO_NAME = re.compile(r'[\\:<>"|?*]|[. ]$')


def is_here() -> bool:
    """Return whether this system is Windows."""
    return sys.platform == "win32"


def has_drive(path: str) -> bool:
    r"""Return whether a path begins with a drive.

    Example:
        >>> has_drive("C:\\runs"), has_drive("C:/runs"), has_drive("gs://bucket"), has_drive("C:runs")
        (True, True, False, False)
    """
    return _DRIVE.match(path) is not None


def is_folder(path: str) -> bool:
    """Return whether a path has a drive; `BadReference` if it has one and this system is not Windows.

    Example:
        >>> is_folder("/runs")
        False
    """
    if not has_drive(path):
        return False
    if not is_here():
        raise BadReference(
            f"{path!r} is a folder of Windows, and this system is not Windows",
            hint="give gs://bucket/prefix, which every system can use",
        )
    return True


def of_uri(path: str) -> str:
    """Return the path in a file URI, without the slash before a drive.

    Example:
        >>> of_uri("/runs")
        '/runs'
    """
    return path[1:] if is_folder(path[1:]) else path


def slashed(path: str) -> str:
    """Return a path with slashes, as in URIs; only Windows also accepts backslashes.

    Example:
        >>> slashed("data/items.csv")
        'data/items.csv'
    """
    return path.replace("\\", "/") if is_here() else path


def rooted(path: str) -> str:
    """Return a drive with its slash; without it, the path is a program's current directory on that drive.

    Example:
        >>> rooted("C:"), rooted("C:/runs")
        ('C:/', 'C:/runs')
    """
    return f"{path}/" if has_drive(path) and path.endswith(":") else path


def is_file_name(name: str) -> bool:
    r"""Return whether an object's name is a file's name on Windows, and not another path, a stream or a device.

    Example:
        >>> is_file_name("items/000.pack"), is_file_name("a\\..\\b"), is_file_name("a:b"), is_file_name("runs/NUL.json")
        (True, False, False, False)
    """
    return not any(_NO_NAME.search(part) or _DEVICES.fullmatch(part) for part in name.split("/"))
