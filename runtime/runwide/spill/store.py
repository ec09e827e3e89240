"""A store: a place for objects that are written once, whatever it is made of."""

from __future__ import annotations

import os
import re
import unicodedata
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from os import PathLike
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import unquote

from runwide.errors import BadReference, FrameCorrupt
from runwide.spill import windows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from types import TracebackType

    from typing_extensions import Self

    from runwide.spill.buffers import Buffer

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")
DAMAGES = 5  # so many damaged answers for one object are no accident of the network
_LARGE = 64 << 20  # what is smaller fits any machine
PARTIAL = ".partial-"  # what a local store calls files that are not yet objects


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """One object of a listing.

    Args:
        name: Its name in the store.
        size: Its size in bytes.
        written: When it was written, as Unix time; 0 in a store that does not tell.
    """

    name: str
    size: int
    written: float = field(default=0.0, compare=False)


class Store(ABC):
    """A place for objects, each written once and atomically.

    Names are relative POSIX paths. All methods may be called from several threads. A store holds no lock and no
    state of its own: what one process writes, another one reads.

    Args:
        uri: Where it is, in one spelling, without a slash at the end.

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
        """Write an object that is not there yet, whole or not at all.

        An object with the same bytes counts as written: it may be our own, whose acknowledgement was lost.

        Args:
            name: Its name.
            data: Its bytes, or parts of them in order, which are not joined.

        Raises:
            ObjectExists: Other bytes are there; they stay.
            StoreNotFound: The bucket does not exist.
            StoreNotWritable: This process may not write there.
            StoreUnavailable: No answer within the retry deadline.
            IntegrityError: Other bytes arrived there than were sent, `DAMAGES` times.
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
            most: The largest number of bytes that is right; more are refused before any memory is taken for them.

        Returns:
            Exactly those bytes, in memory that may be written to.

        Raises:
            ObjectNotFound: There is none of that name.
            FrameCorrupt: The object ends before the range does; it has more than ``most`` bytes, or more than this
                machine has memory; or something else has its name, such as a link.
            StoreNotReadable: This process may not read there.
            StoreUnavailable: No answer within the retry deadline.
            IntegrityError: Other bytes arrived than the store has, `DAMAGES` times.
        """

    @abstractmethod
    def list(self, prefix: str = "", *, start: str = "") -> Iterator[ObjectInfo]:
        """The objects whose names start with ``prefix``, in the order of their names.

        Only objects that `read` takes by their names: others may have put something else there.

        Args:
            prefix: The start of their names.
            start: The first name that is wanted; those before it are left out.
        """

    def folders(self, prefix: str = "") -> Iterator[str]:
        """The names of the folders directly below this place that start with ``prefix``, in their order.

        Few requests tell them, however many objects they hold, where the store can do that.
        """
        found = (info.name.partition("/") for info in self.list(prefix))
        yield from dict.fromkeys(name for name, slash, _ in found if slash)

    @abstractmethod
    def delete(self, name: str) -> None:
        """Delete an object; that it is not there is fine.

        Raises:
            StoreNotWritable: This process may not delete it.
        """

    def sweep(self, folder: str) -> None:  # noqa: B027 - a store may hold nothing else
        """Remove from a folder what `list` leaves out: parts of objects, links, things whose names are no objects'.

        Nobody may be writing there. Nothing that a link leads to is touched.
        """

    def sub(self, prefix: str) -> Store:
        """The same store, seen from below ``prefix``."""
        return open_store(self.child_uri(prefix))

    def child_uri(self, name: str) -> str:
        """URI of the object of that name."""
        return f"{self.uri}/{checked(name, self.uri)}"

    def share(self, parts: int) -> None:  # noqa: B027 - most stores have no rate to share
        """Say that so many processes use the store at once, so that together they stay below its request rate."""

    def close(self) -> None:  # noqa: B027 - most stores hold nothing open
        """Let go of what the store holds open."""

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
        uri: ``gs://bucket/prefix``, ``file:///directory``, a path, or ``memory://name`` for tests in one process.

    Raises:
        BadReference: The URI is none of these.

    Example:
        >>> open_store("memory://doc/").uri
        'memory://doc'
    """
    uri = _spelt(uri)
    scheme, found, rest = uri.partition("://")
    if not found:
        if not windows.is_folder(uri) and _SCHEME.match(uri):
            raise BadReference(
                f"{uri!r} has a scheme and not two slashes behind it",
                hint="give gs://bucket/prefix; a folder of such a name is ./NAME",
            )
        scheme, rest = "file", uri
    elif scheme == "file":
        rest = _path_of(rest, uri)
    opener = _openers.get(scheme)
    if opener is None:
        raise BadReference(
            f"runwide has no store for {scheme}://",
            uri=uri,
            hint="use gs://bucket/prefix, file:///directory or a plain path",
        )
    return opener(rest)


def open_inside(uri: str | PathLike[str], levels: int = 1) -> Store:
    """Open a folder of a store by its whole URI, as `Store.sub` opens it: no link in its last segments is followed.

    Args:
        uri: As for `open_store`, with a folder behind it.
        levels: How many of its last segments lie inside the store.

    Raises:
        BadReference: The URI is not that of a folder in a store.

    Example:
        >>> open_inside("memory://doc/jobs/a-1").uri
        'memory://doc/jobs/a-1'
    """
    root, inside = parted(uri, levels)
    return open_store(root).sub(inside)


def parted(uri: str | PathLike[str], levels: int = 1) -> tuple[str, str]:
    """The URI of a store, and the name of a folder inside, from the whole URI of the folder.

    Raises:
        BadReference: It is too short.

    Example:
        >>> parted("gs://bucket/runs/a-1/shards/", 2)
        ('gs://bucket/runs', 'a-1/shards')
    """
    whole = open_store(uri).uri  # in one spelling
    root, *inside = whole.rsplit("/", levels)
    if len(inside) < levels or not all(inside) or root.endswith(":/"):
        raise BadReference("this is not a folder in a store", uri=whole, hint="give the folder's whole URI")
    return windows.rooted(root) or "/", "/".join(inside)


_Place = TypeVar("_Place", "str", "str | PathLike[str]")
_FIELD = re.compile(r"(?<!\{)\{[^\W\d]\w*(?:[.!:\[][^{}]*)?\}(?!\})")  # as an f-string has it


def without_fields(uri: _Place, what: str = "store") -> _Place:
    """Return the URI of what is to be written, once no field of an f-string is left in it.

    Args:
        uri: The URI.
        what: What it is the URI of, for errors.

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


_MARK = re.compile(r"\{\{.*?\}\}")  # as kfp writes into a text what an engine is to replace


def _spelt(given: object) -> str:
    """A URI as text; what cannot be meant, and would make a folder of a name that nobody finds again, is refused."""
    uri = os.fspath(given) if isinstance(given, PathLike) else given
    wrong, hint = "", "give gs://bucket/prefix or a directory"
    if not isinstance(uri, str):
        raise BadReference(f"{given!r} is not the URI of a store", hint=hint)
    if uri != uri.strip():
        wrong = ": it has white space around it"
    elif any(unicodedata.category(character) == "Cc" for character in uri):
        wrong = ": it has a control character in it"
    elif uri.partition("/")[0].startswith("~"):
        wrong, hint = ": only a shell replaces '~'", "give the whole path; a folder of that name is ./~"
    elif found := _MARK.search(uri):
        wrong = f": {found[0]} in it should have been replaced by a value of the pipeline"
        hint = "pass that value as a parameter of the pipeline, alone or in the text of store="
    if wrong or not uri:
        raise BadReference(f"{uri!r} is not the URI of a store{wrong}", hint=hint)
    return uri


def register(scheme: str, opener: Callable[[str], Store]) -> None:
    """Have `open_store` use ``opener`` for URIs of a scheme.

    Args:
        scheme: What stands before ``://``.
        opener: Takes what stands after it.
    """
    _openers[scheme] = opener


def _local(path: str) -> Store:
    from runwide.spill.local import LocalStore

    return LocalStore(path)


def _gcs(path: str) -> Store:
    from runwide.spill.gcs import GcsStore

    return GcsStore(path)


def _memory(path: str) -> Store:
    from runwide.spill.memory import MemoryStore

    return MemoryStore(path)


_openers: dict[str, Callable[[str], Store]] = {"file": _local, "gs": _gcs, "memory": _memory}


def _path_of(rest: str, uri: str) -> str:
    if not rest.startswith("/"):
        raise BadReference(
            "a file URI names an absolute path", uri=uri, hint="give file:///directory, with three slashes"
        )
    return windows.of_uri(unquote(rest))


def checked(name: str, uri: str | None = None) -> str:
    """The name, once it is sure that it cannot lead out of the store.

    Raises:
        BadReference: It is absolute, empty, or has empty, ``.`` or ``..`` segments.

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
    """Whether an object may have that name.

    Example:
        >>> is_name("items/000.pack"), is_name("items/../000.pack")
        (True, False)
    """
    segments = name.split("/")
    return name.isprintable() and not any(
        part in ("", ".", "..") or part.startswith(PARTIAL) for part in segments
    )


def checked_prefix(prefix: str, uri: str | None = None) -> str:
    """The prefix, once it is sure that it cannot lead out of the store; the last segment may be any start of a name."""
    folder, slash, _ = prefix.rpartition("/")
    if slash:
        checked(folder, uri)
    return prefix


def stop_of(size: int, start: int, length: int | None, uri: str, *, most: int | None = None) -> int:
    """Where a read of an object of ``size`` bytes ends.

    Raises:
        FrameCorrupt: The object ends before; or the read would take more than ``most`` bytes, or than there is memory.
    """
    stop = size if length is None else start + length
    if stop > size or (start and start >= size):
        raise too_short(uri, size, max(stop, start + 1))
    if most is not None and stop - start > most:
        raise _too_large(uri, stop - start, start, f"at most {most} are expected")
    if stop - start > _LARGE:
        from runwide.host import memory  # which most reads need not wait for

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
    """The error of a read past the end."""
    return FrameCorrupt(
        f"the object ends after {size} bytes, {wanted} were expected",
        uri=uri,
        hint="it was cut off or changed after it was written",
    )
