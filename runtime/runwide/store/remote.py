"""The base of stores that a service keeps: retries, rates and errors.

A store for another service is one file: a subclass of `RemoteStore` that says how single operations are done and which of
its library's exceptions mean what. `runwide.testing.sqlite` is a short one.
"""

from __future__ import annotations

import os
import threading
from abc import abstractmethod
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, TypeVar

from runwide import settings
from runwide.errors import FrameCorrupt, ObjectExists
from runwide.store.base import ObjectInfo, Store, checked, checked_prefix, is_name, stop_of
from runwide.store.buffers import Buffer, size_of, views
from runwide.store.google_auth import exceptions
from runwide.store.meaning import Errors, Meaning, damage_counted
from runwide.store.rate import READS, WRITES, Limiter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

T = TypeVar("T")

# Seconds for a service that has never answered, more likely a wrong name than an outage, or that was given up before.
FIRST_DEADLINE = 60.0


@dataclass(frozen=True, slots=True)
class Wanted:
    """The part of an object that is read, and the largest size that it may have.

    Args:
        length: Number of bytes; None for all up to the end.
        most: The largest number of bytes that is right; None for any.
    """

    uri: str
    start: int = 0
    length: int | None = None
    most: int | None = None

    def stop(self, size: int) -> int:
        """Return the end of the part in an object of that size."""
        return stop_of(size, self.start, self.length, self.uri, most=self.most)


@dataclass(frozen=True, slots=True)
class Page:
    """A part of a listing.

    Args:
        objects: Key, size and time of writing (Unix seconds, or 0) of each object, in the order of their keys.
        folders: Keys of folders, with a slash at the end, where folders were asked for.
        next: The token of the next page; None at the end.
    """

    objects: list[tuple[str, int, float]]
    folders: list[str]
    next: str | None


@dataclass(slots=True)
class Traffic:
    """The requests of this process to one service.

    Args:
        reached: Whether the service has answered, and was not given up since.
    """

    reads: Limiter
    writes: Limiter
    reached: bool = False


_traffic: dict[str, Traffic] = {}
_lock = threading.Lock()


def _forget() -> None:
    """Start anew in a forked child: another thread of the parent may have held the locks."""
    global _lock  # noqa: PLW0603 - one for each process
    _lock = threading.Lock()
    _traffic.clear()


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_forget)


class RemoteStore(Errors, Store):
    """A store in a service, such as a bucket.

    A subclass defines `meaning`, `put`, `get`, `page` and `remove`. Each of these sends one request, and lets the exceptions
    of its library pass. Keys are the names of objects below ``root``.

    Args:
        root: URI of the bucket, without a slash at the end.
        prefix: The beginning of the keys of this store; empty for the whole bucket.
    """

    read_rate: ClassVar[float] = READS
    write_rate: ClassVar[float] = WRITES
    """Requests a second at the beginning; see `runwide.store.rate`."""

    def __init__(self, root: str, prefix: str = "") -> None:
        super().__init__(f"{root}/{prefix}".rstrip("/"))
        self._root = root
        self._prefix = f"{checked(prefix, self.uri)}/" if prefix else ""

    def put(self, key: str, parts: Sequence[memoryview]) -> None:
        """Write an object whole, or raise an exception whose meaning is ``EXISTS`` if one is there.

        A store whose attempts to write must know of each other overrides `upload` instead.
        """
        raise NotImplementedError(f"{type(self).__qualname__} defines neither put nor upload")

    @abstractmethod
    def get(self, key: str, wanted: Wanted) -> bytes | bytearray:
        """Read a part of an object; call ``wanted.stop`` with the object's size before taking memory for it."""

    @abstractmethod
    def page(self, prefix: str, start: str, token: str | None) -> Page:
        """List objects whose keys begin with ``prefix`` and are not before ``start``.

        Args:
            prefix: The beginning of their keys.
            start: The first key; empty for all.
            token: `Page.next` of the page before; None for the first page.
        """

    @abstractmethod
    def remove(self, key: str) -> None:
        """Delete an object."""

    def upload(self, key: str, parts: Sequence[memoryview]) -> Upload:
        """Return the creation of an object, for any number of attempts."""
        return Upload(self, key, parts)

    def traffic(self) -> Traffic:
        """Return the limits of this process for the service, which all stores with the same root share."""
        with _lock:
            if self._root not in _traffic:
                _traffic[self._root] = Traffic(Limiter(self.read_rate), Limiter(self.write_rate))
            return _traffic[self._root]

    def create(self, name: str, data: Buffer | Sequence[Buffer]) -> None:  # noqa: D102 - see Store
        uri, upload = self.child_uri(name), self.upload(self._key(name), views(data))
        with self.mapped(uri, writing=True):
            try:
                created = self.attempt(upload.attempt, uri=uri)
            except Exception as error:
                if self.meaning(error) is not Meaning.EXISTS:
                    raise
                created = self.attempt(self._in_turn(upload.is_there), uri=uri)
            if not created:
                raise ObjectExists("other bytes are there already", uri=uri)

    def read(  # noqa: D102 - see Store
        self, name: str, *, start: int = 0, length: int | None = None, most: int | None = None
    ) -> bytearray:
        key, uri = self._key(name), self.child_uri(name)
        wanted = Wanted(uri, start, length, most)
        with self.mapped(uri, writing=False):
            found = self.attempt(self._in_turn(lambda: self.get(key, wanted)), uri=uri)
        return found if isinstance(found, bytearray) else bytearray(found)

    def list(self, prefix: str = "", *, start: str = "") -> Iterator[ObjectInfo]:  # noqa: D102 - see Store
        wanted = self._prefix + checked_prefix(prefix, self.uri)
        for key, size, written in self._objects(wanted, start and self._prefix + start):
            name = key.removeprefix(self._prefix)
            if is_name(name):
                yield ObjectInfo(name, size, written)

    def delete(self, name: str) -> None:  # noqa: D102 - see Store
        self._delete(self._key(name))

    def sweep(self, folder: str) -> None:  # noqa: D102 - see Store
        for key, _, _ in [*self._objects(f"{self._key(folder)}/")]:
            if not is_name(key.removeprefix(self._prefix)):
                self._delete(key)

    def share(self, parts: int) -> None:  # noqa: D102 - see Store
        with self.mapped(self.uri, writing=False):
            traffic = self.traffic()
        traffic.reads.share(parts, self.read_rate)
        traffic.writes.share(parts, self.write_rate)

    def pages(self, ask: Callable[[str | None], Page]) -> Iterator[Page]:
        """Yield the pages of a listing."""
        token: str | None = None
        while True:
            request = self._in_turn(lambda token=token: ask(token))  # type: ignore[misc]  # mypy cannot type a lambda's default
            with self.mapped(self.uri, writing=False):
                page: Page = self.attempt(request, uri=self.uri)
            yield page
            token = page.next
            if not token:
                return

    def attempt(self, call: Callable[[], T], *, uri: str) -> T:
        """Make a request until its answer is not a transient fault, within the deadline.

        The deadline is for silence and refusals. An answer that comes damaged again and again will not get better.

        Raises:
            IntegrityError: `DAMAGES` answers were damaged.
        """
        traffic = self.traffic()
        deadline = float(settings.store_patience()[0])
        if not traffic.reached:
            deadline = min(deadline, FIRST_DEADLINE)
        try:
            answer = self.retried(damage_counted(call, uri), uri=uri, deadline=deadline)
        except exceptions().RetryError:
            traffic.reached = False  # other threads need not wait the whole time again
            raise
        traffic.reached = True
        return answer

    @contextmanager
    def turn(self, *, writing: bool) -> Iterator[None]:
        """Wait until a request may be sent, and slow down if the service asks for that."""
        traffic = self.traffic()
        limiter = traffic.writes if writing else traffic.reads
        sent = limiter.wait()
        try:
            yield
        except Exception as error:
            if self.meaning(error) is Meaning.SLOW_DOWN:
                limiter.refused(sent)
            raise

    def _in_turn(self, call: Callable[[], T], *, writing: bool = False) -> Callable[[], T]:
        def request() -> T:
            with self.turn(writing=writing):
                return call()

        return request

    def _objects(self, prefix: str, start: str = "") -> Iterator[tuple[str, int, float]]:
        for page in self.pages(lambda token: self.page(prefix, start, token)):
            yield from page.objects

    def _delete(self, key: str) -> None:
        uri = f"{self._root}/{key}"

        def remove() -> None:
            try:
                self.remove(key)
            except Exception as error:
                if self.meaning(error) is not Meaning.ABSENT:
                    raise

        with self.mapped(uri, writing=True):
            self.attempt(self._in_turn(remove, writing=True), uri=uri)

    def _key(self, name: str) -> str:
        return self._prefix + checked(name, self.uri)


class Upload:
    """The creation of one object, in any number of attempts.

    From the second attempt on it looks first, and does not send again what was stored: a server may store an object and lose
    the answer; or refuse an upload before it has read it and then reset the connection, so that the sender never sees the
    refusal.
    """

    def __init__(self, store: RemoteStore, key: str, parts: Sequence[memoryview]) -> None:
        self._store = store
        self._key = key
        self._parts = parts
        self._size = size_of(parts)
        self._tried = False

    def attempt(self) -> bool:
        """Make one attempt; return False if other bytes are there."""
        if self._tried and (found := self._looked()) is not None:
            return found
        self._tried = True
        with self._store.turn(writing=True):
            self.send()
        return True

    def send(self) -> None:
        """Send the bytes once."""
        self._store.put(self._key, self._parts)

    def is_there(self) -> bool:
        """Return whether the object in the store has these bytes, so that an earlier attempt has written it."""
        wanted = Wanted(f"{self._store._root}/{self._key}", most=self._size)  # noqa: SLF001 - of the same module
        try:
            found = memoryview(self._store.get(self._key, wanted))
        except FrameCorrupt:  # it is larger
            return False
        at = 0
        for part in self._parts:
            if found[at : at + part.nbytes] != part:
                return False
            at += part.nbytes
        return at == found.nbytes

    def found(self) -> bool | None:
        """Return `is_there`; None if the object must be sent again."""
        return self.is_there()

    def _looked(self) -> bool | None:
        """Return `found`; None also if no object is there, or if this process may write and not read."""
        try:
            with self._store.turn(writing=False):
                return self.found()
        except Exception as error:
            if self._store.meaning(error) not in {Meaning.ABSENT, Meaning.DENIED}:
                raise
            return None
