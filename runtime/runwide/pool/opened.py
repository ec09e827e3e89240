"""Files that tasks have left open: what was written to them is there when the call returns, though the worker stays."""

from __future__ import annotations

import ctypes
import gc
import io
import weakref
from contextlib import suppress
from typing import Any

from runwide.pool.entry import descriptors


class Opened:
    """The files that are open in this process beside those that it had when this was made."""

    def __init__(self) -> None:
        self._known = descriptors()
        self._files: list[weakref.ref[Any]] = []
        self._library = ctypes.CDLL(None)

    def flush(self) -> None:
        """Hand on what tasks have written, also what libraries in C have printed."""
        self._library.fflush(None)
        files = [file() for file in self._files]
        now = descriptors()
        if now != self._known or any(file is None or file.closed for file in files):
            files = [file for file in _found() if not file.closed]
            self._files = [weakref.ref(file) for file in files]
            self._known = now
        flush(*files)


def flush_all() -> None:
    """Hand on what was written to any file of this process.

    Example:
        >>> flush_all()
    """
    flush(*_found())


def _found() -> list[Any]:
    """All files of this process; this looks at every object, and so takes some milliseconds."""
    return [one for one in gc.get_objects() if isinstance(one, io.IOBase)]


def flush(*files: Any) -> None:
    """Hand on what was written to these files, whatever they are.

    Example:
        >>> flush(None)
    """
    for file in files:
        with suppress(Exception):  # it is closed, full, broken, or a task has put anything there
            file.flush()
