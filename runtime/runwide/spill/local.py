"""A store in a directory."""

from __future__ import annotations

import contextlib
import errno
import os
from pathlib import Path
from typing import TYPE_CHECKING

from runwide.errors import (
    ObjectExists,
    ObjectNotFound,
    StoreError,
    StoreNotFound,
    StoreNotReadable,
    StoreNotWritable,
)
from runwide.spill.buffers import Buffer, size_of, views
from runwide.spill.store import PARTIAL, ObjectInfo, Store, checked, checked_prefix, stop_of, too_short

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EXDEV, errno.EMLINK)
_PIECE = 1 << 20


class LocalStore(Store):
    """A directory, made when the first object is written.

    An object is written to a partial file beside its place and then linked to its name: the link either makes the
    whole object appear or fails because one is there, on every file system with hard links, whoever is killed when.
    Nothing is forced to the disk (fsync): a killed process loses nothing that way, and after a power failure a file that
    came back short or empty fails its digest and is computed again. Forcing would cost milliseconds for each chunk.

    Args:
        path: The directory.
    """

    def __init__(self, path: str) -> None:
        self._root = Path(os.path.abspath(path))  # noqa: PTH100 - symbolic links stay as the user wrote them
        super().__init__(str(self._root))

    def create(self, name: str, data: Buffer | Sequence[Buffer]) -> None:  # noqa: D102 - see Store
        path, parts = self._path(name), views(data)
        partial = path.with_name(f"{PARTIAL}{os.getpid()}-{os.urandom(8).hex()}")
        with self._writing(name):
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                _write(partial, parts)
                os.link(partial, path)
            except FileExistsError:
                if not _holds(path, parts):
                    raise ObjectExists("other bytes are there already", uri=str(path)) from None
            finally:
                partial.unlink(missing_ok=True)

    def read(self, name: str, *, start: int = 0, length: int | None = None) -> bytearray:  # noqa: D102 - see Store
        path = self._path(name)
        with self._reading(path), path.open("rb", buffering=0) as file:
            stop = stop_of(os.fstat(file.fileno()).st_size, start, length, str(path))
            content = bytearray(stop - start)
            file.seek(start)
            _fill(file.fileno(), memoryview(content), path)
            return content

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:  # noqa: D102 - see Store
        folder = self._root / checked_prefix(prefix, self.uri).rpartition("/")[0]
        found = ((path.relative_to(self._root).as_posix(), path) for path in _files(folder))
        for name, path in sorted(item for item in found if item[0].startswith(prefix)):
            with contextlib.suppress(FileNotFoundError):  # deleted since
                yield ObjectInfo(name, path.stat().st_size)

    def delete(self, name: str) -> None:  # noqa: D102 - see Store
        path = self._path(name)
        with self._writing(name):
            path.unlink(missing_ok=True)
        for folder in path.parents:  # empty folders are not objects, so nothing should be left of them
            if folder == self._root:
                break
            with contextlib.suppress(OSError):
                folder.rmdir()

    def sweep(self, folder: str) -> None:  # noqa: D102 - see Store
        root = self._path(folder)
        with self._writing(folder):
            for path in root.rglob(f"{PARTIAL}*"):
                path.unlink(missing_ok=True)
            for directory, _, _ in os.walk(root, topdown=False):
                with contextlib.suppress(OSError):  # what is not empty stays
                    Path(directory).rmdir()

    def _path(self, name: str) -> Path:
        return self._root / checked(name, self.uri)

    @contextlib.contextmanager
    def _writing(self, name: str) -> Iterator[None]:
        """Turn the system's errors into ours."""
        try:
            yield
        except StoreError:
            raise
        except OSError as error:
            raise _not_writable(error, self.child_uri(name)) from error

    @contextlib.contextmanager
    def _reading(self, path: Path) -> Iterator[None]:
        """Turn the system's errors into ours."""
        try:
            yield
        except StoreError:
            raise
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
            if not self._root.is_dir():
                raise StoreNotFound(
                    "there is no such directory",
                    uri=self.uri,
                    hint="check the path, and that it is mounted here",
                ) from error
            raise ObjectNotFound("there is no such object", uri=str(path)) from error
        except PermissionError as error:
            raise StoreNotReadable("this process may not read there", uri=str(path)) from error
        except OSError as error:
            raise StoreError(f"the object cannot be read ({error.strerror})", uri=str(path)) from error


def _write(path: Path, parts: Sequence[memoryview]) -> None:
    with path.open("xb", buffering=_PIECE) as file:
        file.writelines(parts)


def _holds(path: Path, parts: Sequence[memoryview]) -> bool:
    """Whether a file has exactly these bytes, without reading it whole."""
    if path.stat().st_size != size_of(parts):
        return False
    with path.open("rb", buffering=0) as file:
        for part in parts:
            for start in range(0, part.nbytes, _PIECE):
                wanted = part[start : start + _PIECE]
                found = bytearray(wanted.nbytes)
                _fill(file.fileno(), memoryview(found), path)
                if found != wanted:
                    return False
    return True


def _fill(descriptor: int, view: memoryview, path: Path) -> None:
    done = 0
    while done < view.nbytes:
        count = os.readv(descriptor, [view[done:]])
        if not count:
            raise too_short(str(path), done, view.nbytes)
        done += count


def _files(folder: Path) -> Iterator[Path]:
    for directory, _, names in os.walk(folder):
        yield from (Path(directory, name) for name in names if not name.startswith(PARTIAL))


def _not_writable(error: OSError, uri: str) -> StoreError:
    if error.errno in _NO_LINKS:
        return StoreNotWritable(
            f"the file system refuses hard links ({error.strerror})",
            uri=uri,
            hint="choose another directory, or for a mounted bucket its gs:// URI",
        )
    if (
        isinstance(error, (PermissionError, NotADirectoryError, FileExistsError))
        or error.errno == errno.EROFS
    ):
        return StoreNotWritable(
            f"this process cannot write there ({error.strerror})", uri=uri, hint="choose another store"
        )
    return StoreError(
        f"the object cannot be written ({error.strerror})",
        uri=uri,
        hint="free some space or choose another store",
    )
