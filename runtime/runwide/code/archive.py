"""Pack, verify and unpack the archive in which the program's own code travels."""

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

from runwide.code.files import may_travel
from runwide.errors import FrameCorrupt, InputError
from runwide.json_text import json_of
from runwide.log import Log

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from runwide.code.files import File
    from runwide.pickling.functions import Needs

_log = Log("code")

_DATE = (1980, 1, 1, 0, 0, 0)
_UNIX = 3  # zipfile's mark for Unix, used on each system so that the same files are the same bytes
_PROGRAM = (stat.S_IFREG | 0o755) << 16  # an executable file, in zipfile's form of Unix modes
_NAMED = 5  # files in one message
_reported: set[tuple[str, ...]] = set()


@dataclass(frozen=True)
class Code:
    """The code of a program, for other programs.

    Args:
        files: JSON: the digest of each file by its path: of the syntax tree of a source, of the bytes of any other file.
        archive: A zip file of the files, not compressed; the same files give the same bytes.
    """

    files: str
    archive: bytes

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the archive, in hex."""
        return sha256(self.archive).hexdigest()

    def fields(self) -> dict[str, Any]:
        """Return the fields of a job that describe the code."""
        return {"code": self.digest, "code_size": len(self.archive), "code_files": self.files}

    def is_sound(self) -> bool:
        """Return whether the archive has exactly the files of which the digests are known; none of the code is run."""
        from runwide.code.source import read

        try:
            known = json_of(self.files)
            members = _members(self.archive)
            return members.keys() == known.keys() and all(
                known[name] in (read(member.data, name).digest, sha256(member.data).hexdigest())
                for name, member in members.items()
            )
        except (ValueError, AttributeError, FrameCorrupt):
            return False

    def largest(self) -> str:
        """Return the names and sizes of the largest files, for a message."""
        members = _members(self.archive).items()
        sizes = sorted(((len(member.data), name) for name, member in members), reverse=True)
        return ", ".join(f"{name} ({size:,} bytes)" for size, name in sizes[:_NAMED])


def code_of(needs: Needs, *, whole: Iterable[str] = (), base: Code | None = None) -> Code | None:
    """Pack the program's own code that functions and values need.

    Args:
        whole: Names of packages and modules, and paths of files and folders, that are always included.
        base: Code that this process has received; its files take precedence.

    Returns:
        The code; None if no code is needed.

    Example:
        >>> from runwide.pickling.functions import Needs
        >>> code_of(Needs(frozenset({"json", "numpy"}))) is None
        True
    """
    from runwide.code.finding import asked_for, check_there, reached

    asked = asked_for(whole)
    check_there(needs.modules)
    found = reached(needs.modules, whole=asked.names, beside=needs.beside)
    _warn_of_left_out((*found.left_out, *asked.left_out))
    files = {**found.files, **asked.files}
    return _made(files, base) if files or base else None


def _warn_of_left_out(left_out: tuple[str, ...]) -> None:
    """Warn once of files that are left out."""
    if left_out and left_out not in _reported:
        _reported.add(left_out)
        _log.warning(
            "code.left_out", files=list(left_out[:_NAMED]), count=len(left_out),
            cause="they are large, many or hidden, look like keys or have names that an archive cannot have; code=[…] "
            "with the name of a large folder or of a hidden file sends it",
        )  # fmt: skip


def _made(files: Mapping[str, File], base: Code | None) -> Code:
    members = {} if base is None else _members(base.archive)
    digests = {} if base is None else json_of(base.files)
    if base is not None and members.keys() >= files.keys():
        return base
    for path, file in files.items():
        if path not in members:
            members[path], digests[path] = _read(path, file), file.digest
    _log_data({path: len(members[path].data) for path, file in files.items() if not file.module})
    return Code(json.dumps(digests, sort_keys=True), _packed(members))


def _log_data(sizes: Mapping[str, int]) -> None:
    """Log once how much data is sent."""
    if sizes and (found := tuple(sorted(sizes))) not in _reported:
        _reported.add(found)
        largest = sorted(sizes, key=lambda path: (-sizes[path], path))[:_NAMED]
        _log.info("code.data", files=len(sizes), bytes=sum(sizes.values()), largest=largest)


def _read(path: str, file: File) -> _Member:
    if not may_travel(path):
        raise InputError(
            f"{path!r} is sent with the function, but its name is not valid on every system",
            hint="rename it: its name must be text, without : and \\",
        )
    try:
        return _Member(file.read(), executable=file.executable)
    except OSError as error:
        raise InputError(
            f"{path} is sent with the function, but cannot be read ({error.strerror or error})",
            uri=file.place,
        ) from error


@dataclass(frozen=True, slots=True)
class _Member:
    """A file of an archive."""

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
    """Return the files of an archive that is not trusted; `FrameCorrupt` if names lead out of its folder."""
    try:
        with zipfile.ZipFile(io.BytesIO(archive)) as opened:
            found = opened.infolist()
            if any(one.compress_type != zipfile.ZIP_STORED or not may_travel(one.filename) for one in found):
                raise FrameCorrupt("the code has compressed files, or names that lead out of its folder")
            return {
                one.filename: _Member(opened.read(one), bool((one.external_attr >> 16) & stat.S_IXUSR))
                for one in found
            }
    except (zipfile.BadZipFile, ValueError, NotImplementedError, EOFError, OSError, RuntimeError) as error:
        raise FrameCorrupt(f"the code is not a zip archive ({error})") from error


def unpack(archive: bytes, folder: str) -> None:
    """Write the files of a verified archive into an empty folder, which only this user can access."""
    for name, member in _members(archive).items():
        place = os.path.join(folder, *name.split("/"))  # noqa: PTH118 - a text
        os.makedirs(os.path.dirname(place), exist_ok=True)  # noqa: PTH103, PTH120 - likewise
        mode = 0o777 if member.executable else 0o666  # reduced by the umask of this process
        with open(place, "xb", opener=partial(os.open, mode=mode)) as file:
            file.write(member.data)
