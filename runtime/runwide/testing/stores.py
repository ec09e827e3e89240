"""Stores around other stores, whose operations tests can watch or make fail."""

from __future__ import annotations

import threading
from collections import Counter
from typing import TYPE_CHECKING

from runwide.store.base import Store, open_store
from runwide.store.schemes import register

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from runwide.store.base import ObjectInfo
    from runwide.store.buffers import Buffer


class HookedStore(Store):
    """A store that calls a hook before each operation; the caller gets the exception that the hook raises.

    Args:
        inner: The store that does the work.
        uri: URI of this store.
        hook: Called with the method, the full name, and the number of earlier calls of that method with this name.
        counts: The numbers of calls, for all stores below one mount.
    """

    def __init__(
        self, inner: Store, uri: str, hook: Callable[[str, str, int], None], counts: Counter[tuple[str, str]]
    ) -> None:
        super().__init__(uri)
        self._inner = inner
        self._hook = hook
        self._counts = counts

    def create(self, name: str, data: Buffer | Sequence[Buffer]) -> None:  # noqa: D102 - see Store
        self._before("create", name)
        self._inner.create(name, data)

    def read(  # noqa: D102 - see Store
        self, name: str, *, start: int = 0, length: int | None = None, most: int | None = None
    ) -> bytearray:
        self._before("read", name)
        return self._inner.read(name, start=start, length=length, most=most)

    def list(self, prefix: str = "", *, start: str = "") -> Iterator[ObjectInfo]:  # noqa: D102 - see Store
        self._before("list", prefix)
        yield from self._inner.list(prefix, start=start)

    def folders(self, prefix: str = "") -> Iterator[str]:  # noqa: D102 - see Store
        self._before("folders", prefix)
        yield from self._inner.folders(prefix)

    def delete(self, name: str) -> None:  # noqa: D102 - see Store
        self._before("delete", name)
        self._inner.delete(name)

    def sweep(self, folder: str) -> None:  # noqa: D102 - see Store
        self._inner.sweep(folder)

    def _before(self, method: str, name: str) -> None:
        full = f"{self._inner.uri}/{name}"
        self._counts[method, full] += 1
        self._hook(method, full, self._counts[method, full] - 1)


def mount(name: str, inner: str, hook: Callable[[str, str, int], None]) -> str:
    """Register ``hooked-NAME://`` as a store around another store.

    Args:
        name: Any word.
        inner: URI of the store that does the work.
        hook: As for `HookedStore`.

    Returns:
        The URI of the new store, in this process.

    Example:
        >>> def refuse(method, name, before):
        ...     if method == "read" and before == 0:
        ...         raise ConnectionError("first read of everything fails")
        >>> store = open_store(mount("doc", "memory://doc-hooked", refuse))
        >>> store.create("a", b"1")
        >>> store.read("a")
        Traceback (most recent call last):
        ConnectionError: first read of everything fails
        >>> bytes(store.read("a"))
        b'1'
    """
    scheme = f"hooked-{name}"
    counts: Counter[tuple[str, str]] = Counter()

    def opened(path: str) -> Store:
        prefix = path.strip("/").removeprefix("root").strip("/")
        below = open_store(inner).sub(prefix) if prefix else open_store(inner)
        return HookedStore(below, f"{scheme}://root/{prefix}".rstrip("/"), hook, counts)

    register(scheme, opened)
    return f"{scheme}://root"


class Recorder:
    """A hook that records every operation.

    Args:
        calls: (method, name) in order.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.calls: list[tuple[str, str]] = []

    def __call__(self, method: str, name: str, _before: int) -> None:
        """Record an operation."""
        with self._lock:
            self.calls.append((method, name))
