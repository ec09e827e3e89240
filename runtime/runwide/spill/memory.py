"""A store in the memory of this process, for tests."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from runwide.errors import BadReference, ObjectExists, ObjectNotFound
from runwide.spill.buffers import Buffer, views
from runwide.spill.store import ObjectInfo, Store, checked, checked_prefix, stop_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_lock = threading.Lock()
_spaces: dict[str, dict[str, bytes]] = {}


class MemoryStore(Store):
    """A named store that lives as long as this process; whoever opens the same name sees the same objects.

    Args:
        path: ``name`` or ``name/prefix``.
    """

    def __init__(self, path: str) -> None:
        name, _, prefix = path.strip("/").partition("/")
        if not name:
            raise BadReference(
                "a memory store needs a name", uri=f"memory://{path}", hint="give memory://name"
            )
        super().__init__(f"memory://{name}/{prefix}".rstrip("/"))
        self._prefix = f"{checked(prefix)}/" if prefix else ""
        with _lock:
            self._objects = _spaces.setdefault(name, {})

    def create(self, name: str, data: Buffer | Sequence[Buffer]) -> None:  # noqa: D102 - see Store
        content = b"".join(views(data))
        with _lock:
            found = self._objects.setdefault(self._key(name), content)
        if found != content:
            raise ObjectExists("other bytes are there already", uri=self.child_uri(name))

    def read(self, name: str, *, start: int = 0, length: int | None = None) -> bytearray:  # noqa: D102 - see Store
        try:
            content = self._objects[self._key(name)]
        except KeyError:
            raise ObjectNotFound("there is no such object", uri=self.child_uri(name)) from None
        return bytearray(content[start : stop_of(len(content), start, length, self.child_uri(name))])

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:  # noqa: D102 - see Store
        wanted = self._prefix + checked_prefix(prefix, self.uri)
        with _lock:
            found = sorted(
                (key, len(value)) for key, value in self._objects.items() if key.startswith(wanted)
            )
        for key, size in found:
            yield ObjectInfo(key.removeprefix(self._prefix), size)

    def delete(self, name: str) -> None:  # noqa: D102 - see Store
        with _lock:
            self._objects.pop(self._key(name), None)

    def _key(self, name: str) -> str:
        return self._prefix + checked(name, self.uri)
