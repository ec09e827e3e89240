"""Remove setuid and setgid bits and capabilities, which give rights to users who run a file, from all files of the image.

    rights.py

This runs as root while the image is built. No program of the image needs another user's rights, and with them a task could
get more rights than its user. On directories, the setgid bit gives new files the group of the directory; it is removed too.
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_GAINED = stat.S_ISUID | stat.S_ISGID
_CAPABILITIES = "security.capability"


def main() -> None:
    """Remove these rights from all files."""
    for path in _files_of("/"):
        mode = stat.S_IMODE(os.lstat(path).st_mode)
        if mode & _GAINED:
            os.chmod(path, mode & ~_GAINED)  # noqa: PTH101 - the walk gives names
        with suppress(OSError):  # most have none
            os.removexattr(path, _CAPABILITIES)


def _files_of(root: str) -> Iterator[str]:
    """Yield the files and directories of one file system; links have no rights of their own."""
    device = os.lstat(root).st_dev
    for folder, folders, files in os.walk(root):
        paths = {name: os.path.join(folder, name) for name in (*folders, *files)}  # noqa: PTH118 - as above
        here = {name for name, path in paths.items() if _is_of(path, device)}
        folders[:] = [name for name in folders if name in here]
        yield from (paths[name] for name in sorted(here))


def _is_of(path: str, device: int) -> bool:
    found = os.lstat(path)
    return found.st_dev == device and not stat.S_ISLNK(found.st_mode)


if __name__ == "__main__":
    main()
