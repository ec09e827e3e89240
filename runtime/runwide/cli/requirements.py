"""Requirements of pip as one text, which travels with a job and needs no other file.

Each line is a line of a requirements file. A constraint begins with ``-c``, since it has no file of its own::

    nltk==3.9.1
    --extra-index-url https://packages.example.com/simple
    -c numpy<3
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runwide.errors import InputError
from runwide.naming import kind_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from packaging.requirements import Requirement

MOST = 64 * 1024
"""Most bytes of requirements: they are an argument of the commands of a pipeline's steps."""

CONSTRAINT = "-c "
_COMMENT = re.compile(r"(^|\s+)#.*$")
_FILE = re.compile(r"(?:(-r|-c)\s*|(--requirement|--constraint)(?:\s+|=))(\S.*)")
_LINKS = re.compile(r"(?:-f\s*|--find-links(?:\s+|=))(\S.*)")
_EDITABLE = re.compile(r"(?:-e\s*|--editable(?:\s+|=))\S")
_HAS_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_LOCAL = re.compile(
    r"(\.|/|~|file:)|[^@]+@\s*(file:|\.|/)|(?![A-Za-z][A-Za-z0-9+.-]*://)[^\s;]+\.(whl|zip|tar\.gz)(\s|;|$)"
)
_CREDENTIALS = re.compile(r"://(?!git@)(?!\$\{)[^/@\s]+@|://[^/@\s:]*:(?!\$\{)[^/@\s]+@")
_OPTIONS = re.compile(r"\s--?[a-z]")  # of one requirement, such as --hash=…


@dataclass(frozen=True, slots=True)
class _Place:
    """The place of a line: its file, which is None for a text of a list, and its number."""

    file: Path | None
    line: int

    def __str__(self) -> str:
        return f"requirement {self.line}" if self.file is None else f"{self.file}, line {self.line}"


def text_of(given: Any) -> str:
    r"""Read requirements, and the files that they name by ``-r`` and ``-c``.

    Args:
        given: The path of a requirements file, or a list of texts such as ``["nltk==3.9.1"]``; None for no requirements.

    Returns:
        A text for `runwide.cli.installing.install`; empty if there are no requirements.

    Raises:
        InputError: A file cannot be read, a line is not a requirement or names a file of this machine, or the text is longer
            than 64 KiB.

    Example:
        >>> from pathlib import Path
        >>> Path("requirements.txt").write_text("nltk==3.9.1  # tokens\n-c pins.txt\n")
        34
        >>> Path("pins.txt").write_text("numpy<3")
        7
        >>> text_of("requirements.txt").splitlines(), text_of(["nltk>=3"])
        (['nltk==3.9.1', '-c numpy<3'], 'nltk>=3')
    """
    if given is None:
        return ""
    if isinstance(given, (str, os.PathLike)):
        lines = list(_of_file(Path(given), constraint=False, inside=(), where="requirements"))
    elif isinstance(given, Iterable) and not isinstance(given, Mapping):
        texts = list(given)
        lines = [line for number, one in enumerate(texts, 1) for line in _of_text(one, number)]
    else:
        raise InputError(f"requirements= is {kind_of(given)}", hint=_EXPECTED)
    return checked("\n".join(dict.fromkeys(lines)))


_EXPECTED = 'give the path of a requirements file, or a list such as ["nltk==3.9.1"]'


def checked(text: Any) -> str:
    """Return a text of requirements that `text_of` has made, if it is not too long."""
    if not isinstance(text, str):
        raise InputError(f"requirements are {kind_of(text)}, not a text", hint=_EXPECTED)
    size = len(text.encode())
    if size > MOST:
        raise InputError(
            f"the requirements have {size:,} bytes, and a pipeline's steps accept {MOST:,}",
            hint="build an image that has them: runwide image --requirements requirements.txt",
        )
    return text


def parsed(line: str) -> Requirement | None:
    """Return the requirement in a line, without its options; None for a URL without a name, `ValueError` for no requirement.

    Example:
        >>> parsed("nltk==3.9.1 --hash=sha256:00").name, parsed("git+https://example.com/shop.git")
        ('nltk', None)
    """
    from packaging.requirements import Requirement

    alone = _OPTIONS.split(line, maxsplit=1)[0].strip()
    return None if _HAS_SCHEME.match(alone) else Requirement(alone)


def _of_text(text: Any, number: int) -> Iterator[str]:
    if not isinstance(text, str):
        raise InputError(f"requirement {number} is {kind_of(text)}, not a text", hint=_EXPECTED)
    for line in _joined(text):
        yield from _of_line(line[1], _Place(None, number), constraint=False, inside=())


def _of_file(path: Path, *, constraint: bool, inside: tuple[Path, ...], where: str) -> Iterator[str]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(
            f"{where}: the file cannot be read ({reason})", uri=str(path), hint=_EXPECTED
        ) from error
    if path.resolve() in inside:
        raise InputError(f"{where}: the file names itself", uri=str(path), hint="remove that -r or -c")
    for number, line in _joined(text):
        yield from _of_line(
            line, _Place(path, number), constraint=constraint, inside=(*inside, path.resolve())
        )


def _joined(text: str) -> Iterator[tuple[int, str]]:
    """Yield the lines with their numbers, without comments; join lines that end in a backslash with the next one."""
    kept, start = "", 0
    for number, line in enumerate([*text.splitlines(), ""], 1):
        start = start or number
        if kept and line.lstrip().startswith("#"):
            continue
        part = _COMMENT.sub("", line).rstrip()
        if part.endswith("\\"):
            kept += part[:-1].strip() + " "
            continue
        if whole := (kept + part.strip()).strip():
            yield start, whole
        kept, start = "", 0


def _of_line(line: str, place: _Place, *, constraint: bool, inside: tuple[Path, ...]) -> Iterator[str]:
    if _CREDENTIALS.search(line):
        raise InputError(
            f"{place}: the URL has a password, which would be written into the pipeline",
            hint="write ${NAME} instead, and give its value by secrets=",
        )
    if found := _FILE.fullmatch(line):
        yield from _of_other_file(
            found[3],
            place,
            constraint=constraint or found[1] == "-c" or found[2] == "--constraint",
            inside=inside,
        )
    elif _EDITABLE.match(line) or _LOCAL.match(line):
        raise _not_there(line, place)
    elif line.startswith("-"):
        links = _LINKS.fullmatch(line)
        if links and (links[1].startswith("file:") or not _HAS_SCHEME.match(links[1])):
            raise _not_there(line, place)
        yield line
    else:
        try:
            parsed(line)
        except ValueError as error:
            raise InputError(
                f"{place}: {line!r} is not a requirement ({str(error).splitlines()[0]})",
                hint='write it as for pip, such as "nltk==3.9.1"',
            ) from error
        yield f"{CONSTRAINT}{line}" if constraint else line


def _of_other_file(name: str, place: _Place, *, constraint: bool, inside: tuple[Path, ...]) -> Iterator[str]:
    if _HAS_SCHEME.match(name):
        raise InputError(
            f"{place}: {name} is not read, since its content may change before the steps run",
            hint="download it, and give the path of the file",
        )
    folder = Path() if place.file is None else place.file.parent
    yield from _of_file(folder / name.strip("\"'"), constraint=constraint, inside=inside, where=str(place))


def _not_there(line: str, place: _Place) -> InputError:
    return InputError(
        f"{place}: {line!r} is a folder or file of this machine, which a component does not have",
        hint="give a version from an index, or build an image with it",
    )
