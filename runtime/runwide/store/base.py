"""The interface of a store, a place for objects that are written once."""

from __future__ import annotations

import os
import re
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from os import PathLike
from typing import TYPE_CHECKING, TypeVar

from runwide.errors import BadReference, FrameCorrupt
from runwide.store import schemes, windows

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import TracebackType

    from typing_extensions import Self

    from runwide.store.buffers import Buffer

DAMAGES = 5  # damaged answers for one object; so many are not an accident of the network
_LARGE = 64 << 20  # bytes; a smaller object fits on any machine
PARTIAL = ".partial-"  # begins the names of files that are not objects yet


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """One object of a listing.

    Args:
        size: Its size in bytes.
        written: When it was written, as Unix time; 0 if the store does not know.
    """

    name: str
    size: int
    written: float = field(default=0.0, compare=False)


class Store(ABC):
    """A place for objects, each written once and atomically.

    Names are relative POSIX paths. All methods may be called from several threads. A store has no lock and no
    state of its own: another process reads the objects that this one writes.

    Args:
        uri: Its normalized URI, without a slash at the end.

    Example:
        >>> with open_store("memory://doc") as store:
        ...     store.create("greeting", b"hello")
        ...     bytes(store.read("greeting", start=1, length=3))
        b'ell'
    """

    def __init__(self, uri: str) -> None:
        self.uri = uri

    @abstractmethod
    def create(self, name: str, data: Buffer | Sequence[Buffer]) -> None:
        """Write an object that does not exist yet, whole or not at all.

        An object with the same bytes counts as written: an earlier attempt may have written it, and its answer was lost.

        Args:
            name: Its name.
            data: Its bytes, or parts of them in order, which are not joined.

        Raises:
            ObjectExists: The object exists with other bytes; they stay.
            StoreNotFound: The bucket does not exist.
            StoreNotWritable: This process may not write there.
            StoreUnavailable: No answer within the retry deadline.
            IntegrityError: The bytes arrived damaged in the store, `DAMAGES` times.
        """

    @abstractmethod
    def read(
        self, name: str, *, start: int = 0, length: int | None = None, most: int | None = None
    ) -> bytearray:
        """Read an object or a range of it.

        Args:
            name: Its name.
            start: First byte.
            length: Number of bytes; up to the end when not given.
            most: The largest valid number of bytes; more are refused before any memory is allocated for them.

        Returns:
            Exactly those bytes, in writable memory.

        Raises:
            ObjectNotFound: There is no object of that name.
            FrameCorrupt: The object ends before the range does; it has more than ``most`` bytes, or more than this
                machine has memory; or a thing that is not an object has its name, such as a link.
            StoreNotReadable: This process may not read there.
            StoreUnavailable: No answer within the retry deadline.
            IntegrityError: The bytes arrived damaged here, `DAMAGES` times.
        """

    @abstractmethod
    def list(self, prefix: str = "", *, start: str = "") -> Iterator[ObjectInfo]:
        """Yield the objects whose names start with ``prefix``, in the order of their names.

        Objects of other programs, whose names `read` would refuse, are left out.

        Args:
            prefix: The start of their names.
            start: The first name; names before it are left out.
        """

    def folders(self, prefix: str = "") -> Iterator[str]:
        """Yield the names of the folders directly below this store that start with ``prefix``, in their order.

        If the store supports it, this takes few requests, however many objects the folders have.
        """
        found = (info.name.partition("/") for info in self.list(prefix))
        yield from dict.fromkeys(name for name, slash, _ in found if slash)

    @abstractmethod
    def delete(self, name: str) -> None:
        """Delete an object, if it exists.

        Raises:
            StoreNotWritable: This process may not delete it.
        """

    def sweep(self, folder: str) -> None:  # noqa: B027 - a store may have only objects
        """Remove everything from a folder that `list` leaves out: partial objects, links, and files with invalid names.

        No other process may be writing there. The targets of links are not touched.
        """

    def sub(self, prefix: str) -> Store:
        """Return the store of the objects below ``prefix``."""
        return open_store(self.child_uri(prefix))

    def child_uri(self, name: str) -> str:
        """Return the URI of the object of that name."""
        return f"{self.uri}/{checked(name, self.uri)}"

    def share(self, parts: int) -> None:  # noqa: B027 - most stores have no rate to share
        """Use only a part of the store's request rate, since ``parts`` processes use the store at once."""

    def close(self) -> None:  # noqa: B027 - most stores keep nothing open
        """Close everything that the store keeps open."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.uri}>"


def open_store(uri: str | PathLike[str]) -> Store:
    """Open a store by its URI; nothing is read or written yet.

    Args:
        uri: ``gs://bucket/prefix``, ``file:///directory``, a path, ``memory://name`` for tests in one process, or a URI
            with a scheme that an installed package adds.

    Raises:
        BadReference: The URI is none of these.

    Example:
        >>> open_store("memory://doc/").uri
        'memory://doc'
    """
    scheme, rest = schemes.parsed(uri)
    return schemes.opener_of(scheme)(rest)


def open_inside(uri: str | PathLike[str], levels: int = 1) -> Store:
    """Open a folder of a store by its whole URI; no link in the last segments is followed, as with `Store.sub`.

    Args:
        uri: As for `open_store`, followed by a folder.
        levels: How many of its last segments are inside the store.

    Raises:
        BadReference: This is not the URI of a folder in a store.

    Example:
        >>> open_inside("memory://doc/jobs/a-1").uri
        'memory://doc/jobs/a-1'
    """
    root, inside = parted(uri, levels)
    return open_store(root).sub(inside)


def parted(uri: str | PathLike[str], levels: int = 1) -> tuple[str, str]:
    """Split the URI of a folder into the URI of its store and the folder's name there; `BadReference` if it is too short.

    Example:
        >>> parted("gs://bucket/runs/a-1/shards/", 2)
        ('gs://bucket/runs', 'a-1/shards')
    """
    whole = open_store(uri).uri  # normalized
    root, *inside = whole.rsplit("/", levels)
    if len(inside) < levels or not all(inside) or root.endswith(":/"):
        raise BadReference("this is not a folder in a store", uri=whole, hint="give the folder's whole URI")
    return windows.rooted(root) or "/", "/".join(inside)


_Place = TypeVar("_Place", "str", "str | PathLike[str]")
_FIELD = re.compile(r"(?<!\{)\{[^\W\d]\w*(?:[.!:\[][^{}]*)?\}(?!\})")  # a field of an f-string


def without_fields(uri: _Place, what: str = "store") -> _Place:
    """Return a URI to write to, after checking that no field of an f-string is left in it.

    Args:
        what: The name of the argument, for errors.

    Raises:
        BadReference: An ``f`` is missing in front of the text.

    Example:
        >>> without_fields("gs://bucket/runs")
        'gs://bucket/runs'
    """
    text = os.fspath(uri) if isinstance(uri, PathLike) else uri
    if isinstance(text, str) and (found := _FIELD.search(text)):
        raise BadReference(
            f"{what}={text!r} has {found[0]} in it, which nothing replaces",
            hint=f'if an f is missing in front of the text, write f"…"; or choose a name without {found[0]}',
        )
    return uri


def checked(name: str, uri: str | None = None) -> str:
    """Return an object's name; reject one that is absolute, empty, or has empty, ``.`` or ``..`` segments.

    Example:
        >>> checked("items/000.pack")
        'items/000.pack'
    """
    if not is_name(name):
        raise BadReference(
            f"{name!r} is not the name of an object", uri=uri, hint="use a relative path, without '..'"
        )
    return name


def is_name(name: str) -> bool:
    """Return whether a name is valid for an object.

    Example:
        >>> is_name("items/000.pack"), is_name("items/../000.pack")
        (True, False)
    """
    segments = name.split("/")
    return name.isprintable() and not any(
        part in ("", ".", "..") or part.startswith(PARTIAL) for part in segments
    )


def checked_prefix(prefix: str, uri: str | None = None) -> str:
    """Return a prefix after checking that it cannot lead out of the store; its last segment may be any start of a name."""
    folder, slash, _ = prefix.rpartition("/")
    if slash:
        checked(folder, uri)
    return prefix


def stop_of(size: int, start: int, length: int | None, uri: str, *, most: int | None = None) -> int:
    """Return the offset at which a read of an object of ``size`` bytes ends.

    Raises:
        FrameCorrupt: The object is shorter; or the read would take more than ``most`` bytes, or more than there is memory.
    """
    stop = size if length is None else start + length
    if stop > size or (start and start >= size):
        raise too_short(uri, size, max(stop, start + 1))
    if most is not None and stop - start > most:
        raise _too_large(uri, stop - start, start, f"at most {most} are expected")
    if stop - start > _LARGE:
        from runwide.host import memory  # most reads do not need it

        there_are = memory.read().size
        if there_are is not None and stop - start > there_are:
            raise _too_large(uri, stop - start, start, f"more than the {there_are} bytes of memory here")
    return stop


def _too_large(uri: str, size: int, start: int, why: str) -> FrameCorrupt:
    where = f" from byte {start} on" if start else ""
    return FrameCorrupt(
        f"the object has {size} bytes{where}, {why}", uri=uri, hint="it was changed after it was written"
    )


def too_short(uri: str, size: int, wanted: int) -> FrameCorrupt:
    """Return the error for a read past the end."""
    return FrameCorrupt(
        f"the object ends after {size} bytes, {wanted} were expected",
        uri=uri,
        hint="it was cut off or changed after it was written",
    )
