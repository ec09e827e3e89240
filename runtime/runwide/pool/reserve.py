"""A few descriptors that are held for when there are no others: to name what fails may take code that is not loaded yet."""

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

_NUMBER = 3  # a module, or a list of them, is open at a time

_lock = threading.RLock()
_held: list[int] = []
_pools: WeakSet[Any] = WeakSet()


def hold(pool: object) -> None:
    """Hold some for one more pool, as far as there are any."""
    with _lock:
        _pools.add(pool)
        _fill()


def let_go(pool: object) -> None:
    """Hold none for a pool that has ended, whether or not they were held for it."""
    with _lock:
        _pools.discard(pool)
        if not _pools:
            _empty()


@contextmanager
def at_hand() -> Iterator[None]:
    """Have them free while the block runs."""
    with _lock:
        _empty()
        try:
            yield
        finally:
            if _pools:
                _fill()


def load(*modules: str) -> None:
    """Import modules that name what fails, also where no descriptor is free.

    Example:
        >>> load("runwide.deaths")
    """
    if not all(module in sys.modules for module in modules):
        with at_hand():
            for module in modules:
                import_module(module)


def _fill() -> None:
    with suppress(OSError):
        keep_standard_descriptors()  # whose numbers would be free, and are nobody's
        while len(_held) < _NUMBER:
            _held.append(os.open(os.devnull, os.O_RDONLY))


def _empty() -> None:
    while _held:
        os.close(_held.pop())
