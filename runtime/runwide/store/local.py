"""A store in a directory."""

from __future__ import annotations

import contextlib
import errno
import io
import os
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from runwide.errors import (
    BadReference,
    FrameCorrupt,
    ObjectExists,
    ObjectNotFound,
    StoreError,
    StoreNotFound,
    StoreNotReadable,
    StoreNotWritable,
)
from runwide.store import folders, windows
from runwide.store.base import PARTIAL, ObjectInfo, Store, checked, checked_prefix, stop_of, too_short
from runwide.store.buffers import Buffer, pieces, size_of, views
from runwide.store.folders import Misplaced

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

_NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EXDEV, errno.EMLINK)
_PIECE = 1 << 20
_TRIES = 100  # attempts to write into folders that other processes remove meanwhile
_NOT_FOLLOWED = "remove it; below the store's own directory, links are not followed"


class LocalStore(Store):
    """A directory, which is made when the first object is written.

    An object is written to a partial file in its folder and then linked to its name. The link either makes the whole object
    appear or fails because the name exists, on every file system with hard links, also if a process is killed at any time.
    Nothing is forced to the disk (fsync), which would cost milliseconds for each chunk: a killed process loses nothing, and
    after a power failure a file that is short or empty fails its digest and is computed again.

    The path of the directory may contain links: that is the user's choice. Below it no link is followed, since anyone who
    may write there could lead reads, writes and deletions elsewhere.

    Args:
        path: The directory.
        inside: Names of the folders below it to which this store is confined.
    """

    def __init__(self, path: str, inside: Sequence[str] = ()) -> None:
        self._root = os.path.abspath(path)  # noqa: PTH100 - symbolic links are not resolved
        self._inside = tuple(inside)
        super().__init__(Path(self._root, *inside).as_posix())

    def sub(self, prefix: str) -> LocalStore:  # noqa: D102 - see Store
        return LocalStore(self._root, self._names(prefix))

    def create(self, name: str, data: Buffer | Sequence[Buffer]) -> None:  # noqa: D102 - see Store
        parts = views(data)
        *above, last = self._names(name)
        with self._changing(name, _not_writable):
            for tries in range(_TRIES):
                try:
                    with folders.chain(self._root, above, make=True) as opened:
                        self._create(name, last, opened[-1], parts)
                except FileNotFoundError:  # another process removed a folder meanwhile because it was empty
                    if tries + 1 == _TRIES:
                        raise
                else:
                    break

    def _create(self, name: str, last: str, folder: folders.Folder, parts: Sequence[memoryview]) -> None:
        partial = f"{PARTIAL}{os.getpid()}-{os.urandom(8).hex()}"
        try:
            _write(folders.open_in(folder, partial, folders.NEW), parts)
            folders.link(folder, partial, last)
        except FileExistsError:
            if not _holds(last, folder, parts):
                raise ObjectExists("other bytes are there already", uri=self.child_uri(name)) from None
        finally:
            with contextlib.suppress(FileNotFoundError):
                folders.unlink(folder, partial)

    def read(  # noqa: D102 - see Store
        self, name: str, *, start: int = 0, length: int | None = None, most: int | None = None
    ) -> bytearray:
        *above, last = self._names(name)
        uri = f"{self.uri}/{name}"
        with (
            self._reading(uri),
            folders.chain(self._root, above) as opened,
            folders.regular(last, opened[-1], uri) as (descriptor, size),
        ):
            content = bytearray(stop_of(size, start, length, uri, most=most) - start)
            if start:
                os.lseek(descriptor, start, os.SEEK_SET)
            _fill(descriptor, memoryview(content), uri)
            return content

    def list(self, prefix: str = "", *, start: str = "") -> Iterator[ObjectInfo]:  # noqa: D102 - see Store
        found = folders.files(self._root, self._inside, checked_prefix(prefix, self.uri))
        return (ObjectInfo(name, size, written) for name, size, written in found if name >= start)

    def folders(self, prefix: str = "") -> Iterator[str]:  # noqa: D102 - see Store
        return folders.below(self._root, self._inside, prefix)

    def delete(self, name: str) -> None:  # noqa: D102 - see Store
        *above, last = self._names(name)
        with (
            self._changing(name, _not_deleted),
            contextlib.suppress(FileNotFoundError, IsADirectoryError, Misplaced),  # it is not an object
            folders.chain(self._root, above) as opened,
        ):
            folders.unlink(opened[-1], last)
            # Empty folders are not objects, so they are removed.
            with contextlib.suppress(OSError):
                for depth in range(len(above), len(self._inside), -1):
                    folders.rmdir(opened[depth - 1], above[depth - 1])

    def sweep(self, folder: str) -> None:  # noqa: D102 - see Store
        with self._changing(folder, _not_deleted):
            folders.remove_others(self._root, self._names(folder))

    def _names(self, name: str) -> tuple[str, ...]:
        if windows.is_here() and not windows.is_file_name(name):
            raise BadReference(f"{name!r} is not the name of a file on Windows", uri=self.uri)
        return (*self._inside, *checked(name, self.uri).split("/"))

    @contextlib.contextmanager
    def _changing(self, name: str, described: Callable[[OSError, str], StoreError]) -> Iterator[None]:
        """Turn errors of the system into errors of runwide, as ``described``."""
        try:
            yield
        except StoreError:
            raise
        except Misplaced as error:
            raise StoreNotWritable(str(error), uri=error.path, hint=_NOT_FOLLOWED) from error
        except OSError as error:
            raise described(error, self.child_uri(name)) from error

    @contextlib.contextmanager
    def _reading(self, uri: str) -> Iterator[None]:
        """Turn errors of the system into errors of runwide."""
        try:
            yield
        except StoreError:
            raise
        except Misplaced as error:
            if error.path != uri and not error.is_link:
                self._raise_absent(uri, error)  # a file has the name of the folder, which then has no objects
            hint = _NOT_FOLLOWED if error.is_link else "remove it: only an object may have that name"
            raise FrameCorrupt(str(error), uri=error.path, hint=hint) from error
        except (FileNotFoundError, NotADirectoryError) as error:
            self._raise_absent(uri, error)
        except PermissionError as error:
            raise StoreNotReadable("this process may not read there", uri=uri) from error
        except OSError as error:
            raise StoreError(f"the object cannot be read ({error.strerror})", uri=uri) from error

    def _raise_absent(self, uri: str, error: Exception) -> NoReturn:
        try:
            with folders.chain(self._root, self._inside):
                pass
        except (OSError, Misplaced):
            raise StoreNotFound(
                "there is no such directory",
                uri=self.uri,
                hint="check the path, and that it is mounted here",
            ) from error
        raise ObjectNotFound("there is no such object", uri=uri) from error


def _write(descriptor: int, parts: Sequence[memoryview]) -> None:
    with open(descriptor, "wb", buffering=_PIECE) as file:
        file.writelines(parts)


def _holds(name: str, folder: folders.Folder, parts: Sequence[memoryview]) -> bool:
    """Return whether this is a file with exactly these bytes, without reading it into memory whole."""
    with contextlib.suppress(Misplaced), folders.regular(name, folder, name) as (descriptor, size):
        return size == size_of(parts) and _has_all(descriptor, name, parts)
    return False


def _has_all(descriptor: int, path: str, parts: Sequence[memoryview]) -> bool:
    for part in pieces(parts, _PIECE):
        found = bytearray(part.nbytes)
        _fill(descriptor, memoryview(found), path)
        if found != part:
            return False
    return True


def _fill(descriptor: int, view: memoryview, path: str) -> None:
    done = 0
    with io.FileIO(descriptor, closefd=False) as file:
        while done < view.nbytes:
            count = file.readinto(view[done:])
            if not count:
                raise too_short(path, done, view.nbytes)
            done += count


def _is_refusal(error: OSError) -> bool:
    return (
        isinstance(error, (PermissionError, NotADirectoryError, FileExistsError))
        or error.errno == errno.EROFS
    )


def _not_deleted(error: OSError, uri: str) -> StoreError:
    kind = StoreNotWritable if _is_refusal(error) else StoreError
    return kind(f"it cannot be deleted ({error.strerror})", uri=uri)


def _not_writable(error: OSError, uri: str) -> StoreError:
    if error.errno in _NO_LINKS:
        return StoreNotWritable(
            f"the file system refuses hard links ({error.strerror})",
            uri=uri,
            hint="choose another directory, or for a mounted bucket its gs:// URI",
        )
    if _is_refusal(error):
        return StoreNotWritable(
            f"this process cannot write there ({error.strerror})", uri=uri, hint="choose another store"
        )
    return StoreError(
        f"the object cannot be written ({error.strerror})",
        uri=uri,
        hint="free some space or choose another store",
    )
