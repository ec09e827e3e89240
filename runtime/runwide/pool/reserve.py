"""Spare descriptors: an error may need modules that are not loaded yet, when no other descriptor is free."""

from __future__ import annotations

import os
import sys
import threading
from contextlib import contextmanager, suppress
from importlib import import_module
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from runwide.writing import keep_standard_descriptors

if TYPE_CHECKING:
    from collections.abc import Iterator

_NUMBER = 3  # an import opens a module or a directory at a time

_lock = threading.RLock()
_held: list[int] = []
_pools: WeakSet[Any] = WeakSet()


def hold(pool: object) -> None:
    """Open spare descriptors for a pool, if any are free."""
    with _lock:
        _pools.add(pool)
        _fill()


def let_go(pool: object) -> None:
    """Close the spare descriptors with the last pool."""
    with _lock:
        _pools.discard(pool)
        if not _pools:
            _empty()


@contextmanager
def at_hand() -> Iterator[None]:
    """Make the spare descriptors free while the block runs."""
    with _lock:
        _empty()
        try:
            yield
        finally:
            if _pools:
                _fill()


def load(*modules: str) -> None:
    """Import modules, also if no descriptor is free.

    Example:
        >>> load("runwide.deaths")
    """
    if not all(module in sys.modules for module in modules):
        with at_hand():
            for module in modules:
                import_module(module)


def _fill() -> None:
    with suppress(OSError):
        keep_standard_descriptors()  # the numbers 0 to 2 must not be used
        while len(_held) < _NUMBER:
            _held.append(os.open(os.devnull, os.O_RDONLY))


def _empty() -> None:
    while _held:
        os.close(_held.pop())
