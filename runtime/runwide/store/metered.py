"""A store whose operations are recorded as events."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from runwide.events.model import ObjectEvent
from runwide.store.base import Store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from runwide.store.base import ObjectInfo
    from runwide.store.buffers import Buffer


class MeteredStore(Store):
    """A store that forwards to another one, and reports each operation, on the thread that made it."""

    def __init__(self, inner: Store, note: Callable[[ObjectEvent], None]) -> None:
        super().__init__(inner.uri)
        self._inner = inner
        self._note = note

    def create(self, name: str, data: Buffer | Sequence[Buffer]) -> None:  # noqa: D102 - see Store
        began = time.monotonic()
        self._inner.create(name, data)
        parts = [data] if isinstance(data, (bytes, bytearray, memoryview)) else data
        size = sum(memoryview(part).nbytes for part in parts)
        self._done("chunk.spilled" if "/chunks/" in name else "object.written", name, began, size)

    def read(  # noqa: D102 - see Store
        self, name: str, *, start: int = 0, length: int | None = None, most: int | None = None
    ) -> bytearray:
        began = time.monotonic()
        data = self._inner.read(name, start=start, length=length, most=most)
        self._done("items.fetched" if name.startswith("items/") else "object.read", name, began, len(data))
        return data

    def list(self, prefix: str = "", *, start: str = "") -> Iterator[ObjectInfo]:  # noqa: D102 - see Store
        began = time.monotonic()
        found = [*self._inner.list(prefix, start=start)]
        self._done("objects.listed", prefix, began, 0)
        return iter(found)

    def delete(self, name: str) -> None:  # noqa: D102 - see Store
        self._inner.delete(name)

    def sweep(self, folder: str) -> None:  # noqa: D102 - see Store
        self._inner.sweep(folder)

    def sub(self, prefix: str) -> Store:  # noqa: D102 - see Store
        return MeteredStore(self._inner.sub(prefix), self._note)

    def share(self, parts: int) -> None:  # noqa: D102 - see Store
        self._inner.share(parts)

    def _done(self, name: str, thing: str, began: float, size: int) -> None:
        self._note(ObjectEvent(name, time.time(), time.monotonic() - began, size, thing))
