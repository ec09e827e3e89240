"""The files in which Linux describes a machine, below a root, and the problems of reading them.

All modules of this package read through a `Tree`, so that a recorded ``/proc`` and ``/sys`` works like the machine itself.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

_LIMIT = 4 << 20  # bytes; all files of /proc and /sys that are read here are much smaller


@dataclass(frozen=True, slots=True)
class Problem:
    """A source that could not be used, the reason, and the source or assumption that was used instead."""

    source: str
    reason: str
    instead: str = ""

    def __str__(self) -> str:
        return f"{self.source}: {self.reason}" + (f"; {self.instead}" if self.instead else "")


class Tree:
    """The machine's files below a root.

    Args:
        root: ``/`` for this machine, or the directory of a recorded tree.

    Example:
        >>> Tree("/").text("/proc/self/no_such_file") is None
        True
    """

    def __init__(self, root: str | os.PathLike[str] = "/") -> None:
        self.root = Path(root)
        self.live = self.root == Path("/")
        self.problems: list[Problem] = []
        self.seen: dict[str, str] = {}

    @staticmethod
    def at(where: Tree | str | os.PathLike[str]) -> Tree:
        """Return the tree itself, or the tree below a root."""
        return where if isinstance(where, Tree) else Tree(where)

    def text(self, path: str) -> str | None:
        """Return the content of a file, stripped; None if it is missing, empty or cannot be read."""
        try:
            with open(self._below(path), "rb") as file:  # noqa: PTH123 - faster: a component reads many files at its start
                raw = file.read(_LIMIT)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            self.note(path, error.strerror or type(error).__name__)
            return None
        text = raw.decode("utf-8", "replace").strip().strip("\0")
        self.seen[path] = text
        return text or None

    def number(self, path: str) -> int | None:
        """Return the whole number in a file, or None; other content is noted."""
        text = self.text(path)
        if text is None:
            return None
        try:
            return int(text)
        except ValueError:
            self.note(path, f"{text[:40]!r} is not a number")
            return None

    def pairs(self, path: str) -> dict[str, int]:
        """Return the ``key value`` lines of a file such as ``cpu.stat``; other lines are left out."""
        found = {}
        for line in (self.text(path) or "").splitlines():
            key, _, value = line.partition(" ")
            if value.strip().isdigit():
                found[key] = int(value)
        return found

    def names(self, path: str) -> list[str]:
        """Return the sorted names in a directory; empty if there is none."""
        try:
            return sorted(os.listdir(self._below(path)))  # noqa: PTH208 - names are wanted, not paths
        except OSError:
            return []

    def note(self, source: str, reason: str, instead: str = "") -> None:
        """Remember that a source could not be used."""
        problem = Problem(source, reason, instead)
        if problem not in self.problems:
            self.problems.append(problem)

    def _below(self, path: str) -> str:
        return path if self.live else f"{self.root}/{path.lstrip('/')}"
