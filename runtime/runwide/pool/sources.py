"""Detect that the user's own modules have changed after this process loaded them, as in notebooks."""

from __future__ import annotations

import os
import sys
import time

_OTHERS = tuple(os.path.dirname(path) for path in (os.__file__, os.path.dirname(__file__)))  # noqa: PTH120 - pathlib is slow to load
"""The folders of the standard library and of runwide."""

_INSTALLED = ("site-packages", "dist-packages")
"""Folders of installed packages."""


_COARSE_SECONDS = 0.05
"""The time by which a file's time may lag behind the clock: some file systems count in ticks."""


class Sources:
    """The source files of modules that are not installed, with their states at the time of loading.

    A file that was written after `begin` may have been loaded before or after that, so it counts as changed.

    Example:
        >>> sources = Sources()
        >>> sources.begin()
        >>> sources.note()
        >>> sources.look()
        False
    """

    def __init__(self) -> None:
        self.changed = False
        self._seen: set[str] = set()
        self._states: dict[str, tuple[int, int]] = {}
        self._loaded = 0  # number of modules at the last call of `note`
        self._began = time.time()
        self._doubtful = False

    def begin(self) -> None:
        """Note that code begins that may load modules."""
        self._began = time.time()

    def note(self) -> None:
        """Note the files of modules that this code has loaded."""
        if len(sys.modules) == self._loaded:
            return
        self._loaded = len(sys.modules)
        for name in sys.modules.keys() - self._seen:
            self._seen.add(name)
            path = getattr(sys.modules.get(name), "__file__", None)
            if isinstance(path, str) and not _is_installed(path) and (state := _state(path)) is not None:
                self._states[path] = state
                self._doubtful |= state[0] / 1e9 > self._began - _COARSE_SECONDS

    def look(self) -> bool:
        """Return whether a file has changed, or is gone."""
        self.changed |= self._doubtful or any(_state(path) != state for path, state in self._states.items())
        return self.changed


def _is_installed(path: str) -> bool:
    return path.startswith(_OTHERS) or any(f"{os.sep}{folder}{os.sep}" in path for folder in _INSTALLED)


def _state(path: str) -> tuple[int, int] | None:
    try:
        found = os.stat(path)  # noqa: PTH116 - faster than pathlib
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size
