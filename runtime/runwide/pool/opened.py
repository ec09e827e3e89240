"""Flush files that tasks have left open, so that their contents are complete when the call returns."""

from __future__ import annotations

import ctypes
import gc
import io
import weakref
from contextlib import suppress
from typing import Any

from runwide.pool.entry import descriptors


class Opened:
    """The files that tasks have opened in this process and not closed."""

    def __init__(self) -> None:
        self._known = descriptors()
        self._files: list[weakref.ref[Any]] = []
        self._library = ctypes.CDLL(None)

    def flush(self) -> None:
        """Flush the files of tasks, and the output of C libraries."""
        self._library.fflush(None)
        files = [file() for file in self._files]
        now = descriptors()
        if now != self._known or any(file is None or file.closed for file in files):
            files = [file for file in _found() if not file.closed]
            self._files = [weakref.ref(file) for file in files]
            self._known = now
        flush(*files)


def flush_all() -> None:
    """Flush all files of this process.

    Example:
        >>> flush_all()
    """
    flush(*_found())


def _found() -> list[Any]:
    """Return all files of this process. This looks at every object, and takes some milliseconds."""
    return [one for one in gc.get_objects() if isinstance(one, io.IOBase)]


def flush(*files: Any) -> None:
    """Flush these files, and ignore all errors.

    Example:
        >>> flush(None)
    """
    for file in files:
        with suppress(Exception):  # a file may be closed, full or broken, or no file at all
            file.flush()
