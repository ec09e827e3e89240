"""A store in the memory of this process, for tests."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from runwide.errors import BadReference, ObjectExists, ObjectNotFound
from runwide.store.base import ObjectInfo, Store, checked, checked_prefix, is_name, stop_of
from runwide.store.buffers import Buffer, views

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_lock = threading.Lock()
_spaces: dict[str, dict[str, bytes]] = {}


class MemoryStore(Store):
    """A named store, or a prefix in it, that exists as long as this process.

    All stores of the same name have the same objects.
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

    def read(  # noqa: D102 - see Store
        self, name: str, *, start: int = 0, length: int | None = None, most: int | None = None
    ) -> bytearray:
        try:
            content = self._objects[self._key(name)]
        except KeyError:
            raise ObjectNotFound("there is no such object", uri=self.child_uri(name)) from None
        stop = stop_of(len(content), start, length, self.child_uri(name), most=most)
        return bytearray(content[start:stop])

    def list(self, prefix: str = "", *, start: str = "") -> Iterator[ObjectInfo]:  # noqa: D102 - see Store
        wanted = self._prefix + checked_prefix(prefix, self.uri)
        with _lock:
            found = sorted(
                (key, len(value))
                for key, value in self._objects.items()
                if key.startswith(wanted) and key >= self._prefix + start
            )
        for key, size in found:
            name = key.removeprefix(self._prefix)
            if is_name(name):
                yield ObjectInfo(name, size)

    def delete(self, name: str) -> None:  # noqa: D102 - see Store
        with _lock:
            self._objects.pop(self._key(name), None)

    def sweep(self, folder: str) -> None:  # noqa: D102 - see Store
        with _lock:
            for key in [key for key in self._objects if key.startswith(f"{self._key(folder)}/")]:
                if not is_name(key.removeprefix(self._prefix)):
                    del self._objects[key]

    def _key(self, name: str) -> str:
        return self._prefix + checked(name, self.uri)
