"""A file as an item: it is spilled by reference, once, and never loaded into memory whole."""

from __future__ import annotations

import hashlib
import mmap
import tempfile
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runwide.errors import BadReference, DigestMismatch, InputError
from runwide.spill.buffers import pieces
from runwide.spill.store import DAMAGES, checked, open_store, parted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from runwide.spill.store import Store

_LEVELS = 4  # of a file in its store: the job, files, the digest, the name
_PIECE = 32 << 20  # bytes in memory at once
_spill: ContextVar[Callable[[File], File] | None] = ContextVar("runwide_spill_file", default=None)


@dataclass(frozen=True, slots=True)
class File:
    """A file that tasks read: as an item of a map, or anywhere inside of one.

    On components, a file of this machine is put into the job's folder while the items are spilled, once for all items that
    name it, and must not change meanwhile; a URI such as ``gs://bucket/object`` is passed on as it is. A map on this
    container's own cores passes on the path.

    Args:
        uri: A path, or a URI, which is not looked at.
        digest: SHA-256 of a file that was spilled, in hex; for runwide itself.
        size: Its size in bytes; likewise.

    Raises:
        InputError: The URI is empty.

    Example:
        >>> Path("numbers.txt").write_text("1 2 3")
        5
        >>> def total(file):
        ...     with file.local() as path:
        ...         return sum(map(int, path.read_text().split()))
        >>> runwide.map(total, [File("numbers.txt")])
        [6]
    """

    uri: str
    digest: str | None = None
    size: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "uri", str(self.uri))
        if not self.uri:
            raise InputError("a file needs a path or a URI", hint="give runwide.File some text")

    def __str__(self) -> str:
        return self.uri

    @contextmanager
    def local(self) -> Iterator[Path]:
        """The file on this machine, for as long as the block runs.

        Its bytes are those that were spilled. It is there to be read: another task may be reading it, too.

        Raises:
            InputError: It was given as a URI, and so is the user's own to read.
            DigestMismatch: What is in the store was changed.
        """
        if self.digest is None:
            yield self._path()
            return
        from runwide.host import space  # few tasks need it

        name = self.uri.rpartition("/")[2]
        place, below = parted(self.uri, _LEVELS)
        directory = space.temporary()
        with (
            tempfile.TemporaryDirectory(prefix="runwide-file-", dir=directory) as folder,
            open_store(place) as store,
        ):
            path = Path(folder, name)
            _downloaded(store, below, path, self)
            yield path

    def _path(self) -> Path:
        if "://" in self.uri:
            raise InputError(
                "this file was given as a URI, and nothing was copied",
                uri=self.uri,
                hint="read it by .uri, with what reads such URIs",
            )
        return Path(self.uri)

    def __reduce__(self) -> tuple[Any, ...]:
        spill = _spill.get()
        one = self if spill is None or self.digest is not None or "://" in self.uri else spill(self)
        return File, (one.uri, one.digest, one.size)


@contextmanager
def spilled_to(folder: Store, *, write: bool = True) -> Iterator[None]:
    """Have files that are pickled inside the block put into a job's folder.

    Args:
        folder: The job's folder.
        write: False to name them only, where they are known to be there.
    """
    known: dict[tuple[Any, ...], File] = {}

    def spill(file: File) -> File:
        path = Path(file.uri).resolve(strict=True)
        about = path.stat()
        key = path, about.st_size, about.st_mtime_ns
        if key not in known:
            known[key] = _spilled(folder, path, write=write)
        return known[key]

    token = _spill.set(spill)
    try:
        yield
    finally:
        _spill.reset(token)


def _spilled(folder: Store, path: Path, *, write: bool) -> File:
    with _mapped(path) as view:
        digest = _sha256(view)
        name = f"files/{digest}/{_name(path)}"
        if write:
            folder.create(name, [view])
        return File(folder.child_uri(name), digest, view.nbytes)


@contextmanager
def _mapped(path: Path) -> Iterator[memoryview]:
    """A file's bytes, of which only those are in memory that are looked at."""
    if not path.stat().st_size:  # nothing cannot be mapped
        yield memoryview(b"")
        return
    with (
        path.open("rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped,
        memoryview(mapped) as view,
    ):
        yield view


def _sha256(view: memoryview) -> str:
    digest = hashlib.sha256()
    for piece in pieces([view], _PIECE):
        digest.update(piece)
    return digest.hexdigest()


def _name(path: Path) -> str:
    """The file's own name, whose ending tells readers what it is, where an object can have it."""
    try:
        return checked(path.name)
    except BadReference:
        return "file"


def _downloaded(store: Store, name: str, path: Path, file: File) -> None:
    """Fetch a file by ranges, which come without a checksum; again where it is wrong, each time in another way."""
    found: list[str] = []
    while len(found) < DAMAGES and len(set(found)) == len(found):
        found.append(_download(store, name, path, file))
        if found[-1] == file.digest:
            return
    _check(found[-1], file.digest, file.uri)


def _download(store: Store, name: str, path: Path, file: File) -> str:
    digest = hashlib.sha256()
    with path.open("wb") as local:
        for start in range(0, file.size, _PIECE):
            data = store.read(name, start=start, length=min(_PIECE, file.size - start))
            digest.update(data)
            local.write(data)
    return digest.hexdigest()


def _check(found: str, promised: str | None, uri: str) -> None:
    if found != promised:
        raise DigestMismatch(
            "the file is not the one that was spilled",
            uri=uri,
            hint="it was changed in the store; make a new job",
        )
