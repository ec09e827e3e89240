"""The archive in which the program's own code travels: made, verified, and unpacked."""

from __future__ import annotations

import io
import json
import os
import stat
import zipfile
from dataclasses import dataclass
from functools import cached_property, partial
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from runwide.errors import FrameCorrupt, InputError
from runwide.log import Log
from runwide.own_walk import may_travel
from runwide.parsing import json_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from runwide.function_pickle import Needs
    from runwide.own_files import File

_log = Log("code")

_DATE = (1980, 1, 1, 0, 0, 0)
_UNIX = 3  # as zipfile marks archives but on Windows: the same files are the same bytes on each system
_PROGRAM = (stat.S_IFREG | 0o755) << 16  # a file that may be run, as zipfile writes modes of Unix
_NAMED = 5  # files in one message
_told: set[tuple[str, ...]] = set()


@dataclass(frozen=True)
class Code:
    """Code of a program's own, for other programs.

    Args:
        files: JSON: a digest of each file by its path, of what a source does, of the bytes of any other file.
        archive: The files: a zip file, not compressed, the same bytes for the same files.
    """

    files: str
    archive: bytes

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the archive, in hex."""
        return sha256(self.archive).hexdigest()

    def fields(self) -> dict[str, Any]:
        """Return what a job says of it."""
        return {"code": self.digest, "code_size": len(self.archive), "code_files": self.files}

    def is_sound(self) -> bool:
        """Return whether the archive has the files, and no others, of which the digests are known; nothing of it is run."""
        from runwide import own_source

        try:
            known = json_of(self.files)
            members = _members(self.archive)
            return members.keys() == known.keys() and all(
                known[name] in (own_source.read(member.data, name).digest, sha256(member.data).hexdigest())
                for name, member in members.items()
            )
        except (ValueError, AttributeError, FrameCorrupt):
            return False

    def largest(self) -> str:
        """Return the names and sizes of the largest files, for people."""
        members = _members(self.archive).items()
        sizes = sorted(((len(member.data), name) for name, member in members), reverse=True)
        return ", ".join(f"{name} ({size:,} bytes)" for size, name in sizes[:_NAMED])


def code_of(needs: Needs, *, whole: Iterable[str] = (), base: Code | None = None) -> Code | None:
    """Put into an archive what functions and values need of the program's own code.

    Args:
        needs: What they need.
        whole: Names of packages and modules, and paths of files and folders, that travel whatever is needed.
        base: Code that has arrived in this process; its files come first.

    Returns:
        The code; None if there is none.

    Raises:
        InputError: Something of ``whole`` is not there, or not the program's own; or a file cannot be read, or is gone.

    Example:
        >>> from runwide.function_pickle import Needs
        >>> code_of(Needs(frozenset({"json", "numpy"}))) is None
        True
    """
    from runwide import own, own_asked

    asked = own_asked.read(whole)
    own.check_there(needs.modules)
    found = own.reached(needs.modules, whole=asked.names, beside=needs.beside)
    _tell((*found.left_out, *asked.left_out))
    files = {**found.files, **asked.files}
    return _made(files, base) if files or base else None


def _tell(left_out: tuple[str, ...]) -> None:
    """Warn of files that are left out, once."""
    if left_out and left_out not in _told:
        _told.add(left_out)
        _log.warning(
            "code.left_out", files=list(left_out[:_NAMED]), count=len(left_out),
            cause="they are large, many, hidden, look like keys or have names that an archive cannot have; code=[…] sends "
            "a large folder that is named, and a hidden file that is named itself",
        )  # fmt: skip


def _made(files: Mapping[str, File], base: Code | None) -> Code:
    members = {} if base is None else _members(base.archive)
    digests = {} if base is None else json_of(base.files)
    if base is not None and members.keys() >= files.keys():
        return base
    for path, file in files.items():
        if path not in members:
            members[path], digests[path] = _read(path, file), file.digest
    _say_data({path: len(members[path].data) for path, file in files.items() if not file.module})
    return Code(json.dumps(digests, sort_keys=True), _packed(members))


def _say_data(sizes: Mapping[str, int]) -> None:
    """Say how much data travels, once."""
    if sizes and (found := tuple(sorted(sizes))) not in _told:
        _told.add(found)
        largest = sorted(sizes, key=lambda path: (-sizes[path], path))[:_NAMED]
        _log.info("code.data", files=len(sizes), bytes=sum(sizes.values()), largest=largest)


def _read(path: str, file: File) -> _Member:
    if not may_travel(path):
        raise InputError(
            f"{path!r}, which travels with the function, has a name that cannot be in an archive on every system",
            hint="rename it: its name must be text, without : and \\",
        )
    try:
        return _Member(file.read(), executable=file.executable)
    except OSError as error:
        raise InputError(
            f"{path}, which travels with the function, cannot be read ({error.strerror or error})",
            uri=file.place,
        ) from error


@dataclass(frozen=True, slots=True)
class _Member:
    """A file of an archive.

    Args:
        data: Its bytes.
        executable: Whether it is a program.
    """

    data: bytes
    executable: bool = False


def _packed(members: Mapping[str, _Member]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(members):
            about = zipfile.ZipInfo(name, _DATE)
            about.create_system = _UNIX
            about.external_attr = _PROGRAM if members[name].executable else 0
            archive.writestr(about, members[name].data)
    return file.getvalue()


def _members(archive: bytes) -> dict[str, _Member]:
    """Return the files of an archive that anyone may have made.

    Raises:
        FrameCorrupt: It is none, or has names that lead elsewhere.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(archive)) as opened:
            found = opened.infolist()
            if any(one.compress_type != zipfile.ZIP_STORED or not may_travel(one.filename) for one in found):
                raise FrameCorrupt("the code has files that are compressed, or whose names lead elsewhere")
            return {one.filename: _Member(opened.read(one), _is_program(one)) for one in found}
    except (zipfile.BadZipFile, ValueError, NotImplementedError, EOFError, OSError, RuntimeError) as error:
        raise FrameCorrupt(f"the code is no archive of files ({error})") from error


def _is_program(about: zipfile.ZipInfo) -> bool:
    return bool((about.external_attr >> 16) & stat.S_IXUSR)


def unpack(archive: bytes, folder: str) -> None:
    """Write the files of an archive into a folder that is empty.

    Args:
        archive: The archive, verified.
        folder: The folder, of this user alone.

    Raises:
        FrameCorrupt: It is no archive of code.
        OSError: A file cannot be written.
    """
    for name, member in _members(archive).items():
        place = os.path.join(folder, *name.split("/"))  # noqa: PTH118 - a text
        os.makedirs(os.path.dirname(place), exist_ok=True)  # noqa: PTH103, PTH120 - likewise
        mode = 0o777 if member.executable else 0o666  # less what this process leaves out for new files
        with open(place, "xb", opener=partial(os.open, mode=mode)) as file:
            file.write(member.data)
