"""Files as items: a file is spilled by reference, once, and is never in memory whole."""

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
from runwide.store.base import DAMAGES, checked, open_store, parted
from runwide.store.buffers import sha256

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from runwide.store.base import Store

_LEVELS = 4  # of a file in its store: the job, files, the digest, the name
_PIECE = 32 << 20  # bytes in memory at once
_spill: ContextVar[Callable[[File], File] | None] = ContextVar("runwide_spill_file", default=None)


@dataclass(frozen=True, slots=True)
class File:
    """A file that tasks read: as an item of a map, or anywhere inside of one.

    For components, a file of this machine is copied into the job's folder while the items are spilled, once for all items
    that name it, and must not change meanwhile. A URI such as ``gs://bucket/object`` is passed on unchanged. A map on
    this container's own cores passes on the path.

    Args:
        uri: A path, or a URI, which is not checked.
        digest: SHA-256 of a file that was spilled, in hex; set by runwide.
        size: Its size in bytes; set by runwide.

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
        """Provide the file on this machine while the block runs.

        It has the bytes that were spilled. Do not write to it: another task may be reading it.

        Raises:
            InputError: It was given as a URI, which the task must read itself.
            DigestMismatch: The file was changed in the store.
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
                hint="read .uri with a library that reads such URIs",
            )
        return Path(self.uri)

    def __reduce__(self) -> tuple[Any, ...]:
        spill = _spill.get()
        one = self if spill is None or self.digest is not None or "://" in self.uri else spill(self)
        return File, (one.uri, one.digest, one.size)


@contextmanager
def spilled_to(folder: Store, *, write: bool = True) -> Iterator[None]:
    """Copy files that are pickled inside the block into a job's folder.

    Args:
        write: False if they are known to be there, so that only their names are needed.
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
        digest = sha256(view)
        name = f"files/{digest}/{_name(path)}"
        if write:
            folder.create(name, [view])
        return File(folder.child_uri(name), digest, view.nbytes)


@contextmanager
def _mapped(path: Path) -> Iterator[memoryview]:
    """Map a file into memory, so that only the bytes that are used are read."""
    if not path.stat().st_size:  # an empty file cannot be mapped
        yield memoryview(b"")
        return
    with (
        path.open("rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped,
        memoryview(mapped) as view,
    ):
        yield view


def _name(path: Path) -> str:
    """Return the file's own name, whose ending says its type, if it is valid for an object."""
    try:
        return checked(path.name)
    except BadReference:
        return "file"


def _downloaded(store: Store, name: str, path: Path, file: File) -> None:
    """Read a file in ranges, which have no checksum; repeat that as long as each attempt is wrong in another way."""
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
