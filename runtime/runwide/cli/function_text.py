"""A function as text: in the arguments of a pipeline's steps, and on a command line."""

from __future__ import annotations

import base64
import binascii
import pickle
import re
import zlib
from typing import TYPE_CHECKING

from runwide import settings
from runwide.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable

    from runwide.archive import Code
    from runwide.function_pickle import Pickle

_COMPRESSED = "z:"
_APART = "~"
_ZLIB = r"eN[\w+/=]+"  # base64 of what zlib gives at its highest level
_CODE = "c:"
_ARCHIVE = re.compile(rf"(?P<kept>{_CODE}{_ZLIB}){_APART}({_ZLIB}|\S+#sha256=[0-9a-f]{{64}})")
_PLACES = re.compile(
    rf"(?P<kept>({_COMPRESSED}{_ZLIB}{_APART}{_ZLIB}|\S+#sha256=[0-9a-f]{{64}})){_APART}{_ZLIB}"
)


def written(function: Pickle) -> str:
    """Return a function as text: what it does, then where its code stands.

    Example:
        >>> from runwide.pickled import function_pickle
        >>> text = written(function_pickle(abs))
        >>> pickle.loads(unpacked(text.encode(), "--function-base64"))(-1)
        1
    """
    return _COMPRESSED + _APART.join(
        map(_base64, (function.core, function.modules.encode(), function.beside.encode()))
    )


def parted(text: str) -> tuple[str, str]:
    """Return a function as text, or a reference to it, without where its code stands; and the latter.

    Example:
        >>> parted("z:eNx~eNw~eNz"), parted("z:eNx")
        (('z:eNx~eNw', '~eNz'), ('z:eNx', ''))
    """
    kept = without_places(text)
    return kept, text[len(kept) :]


def without_places(text: str) -> str:
    """Return a value of a pipeline without where code stands, if it is a function; any other text as it is.

    Of code of a program's own the digests are left, in which comments and lines do not count.

    Example:
        >>> without_places("z:eNx~eNw=~eNz"), without_places("~/data")
        ('z:eNx~eNw=', '~/data')
    """
    found = _PLACES.fullmatch(text) or _ARCHIVE.fullmatch(text)
    return text if found is None else found["kept"]


def unpacked(data: bytes, option: str) -> bytes:
    """Return the pickle in what was given: as it is, as base64, or as `written`.

    Args:
        data: What was given.
        option: Its name, for errors.

    Raises:
        InputError: It is none of these.
    """
    if data[:1] == pickle.PROTO:
        return data
    try:
        if not data.startswith(_COMPRESSED.encode()):
            raw = base64.b64decode(data, validate=True)
        else:
            raw = _joined(data.removeprefix(_COMPRESSED.encode()).split(_APART.encode()), option)
    except (binascii.Error, zlib.error, UnicodeDecodeError) as error:
        raise InputError(
            f"{option} is not base64 of a pickle ({error})", hint="pass it whole and unchanged"
        ) from error
    if raw[:1] != pickle.PROTO:
        raise InputError(
            f"{option} is not base64 of a pickle", hint="pass base64 of cloudpickle.dumps(function)"
        )
    return raw


def _joined(texts: list[bytes], option: str) -> bytes:
    from runwide.function_pickle import Pickle

    found = [_decompressed(base64.b64decode(one, validate=True), option) for one in texts]
    if len(found) == 1:
        return found[0]
    if len(found) != 3:  # noqa: PLR2004 - as `written` has
        raise zlib.error("it is cut off")
    core, modules, beside = found
    return Pickle(core, modules.decode(), beside.decode()).data


def written_code(code: Code, reference: str | None = None) -> str:
    """Return code of a program's own as text: the digests of its files, then the archive, or a reference to it.

    Args:
        code: The code.
        reference: Where the archive lies, with its digest; None to have it in the text.

    Example:
        >>> from runwide.archive import Code
        >>> written_code(Code("{}", b"PK"), "gs://b/code/x.zip#sha256=…")
        'c:eNqrrgUAAXUA+Q==~gs://b/code/x.zip#sha256=…'
    """
    return f"{_CODE}{_base64(code.files.encode())}{_APART}{reference or _base64(code.archive)}"


def code_in(text: str, fetch: Callable[[str], bytes]) -> Code:
    """Return the code in a text that `written_code` made.

    Args:
        text: The text.
        fetch: Return the verified object of a reference.

    Raises:
        InputError: It is another text.
    """
    from runwide.archive import Code

    files, found, archive = text.removeprefix(_CODE).partition(_APART)
    if not text.startswith(_CODE) or not found:
        raise InputError("--code is no text of a program's code", hint="pass it whole and unchanged")
    try:
        data = (
            fetch(archive)
            if "#" in archive
            else _decompressed(base64.b64decode(archive, validate=True), "--code")
        )
        return Code(_decompressed(base64.b64decode(files, validate=True), "--code").decode(), data)
    except (binascii.Error, zlib.error, UnicodeDecodeError) as error:
        raise InputError(
            f"--code is no text of a program's code ({error})", hint="pass it whole and unchanged"
        ) from error


def packed(data: bytes) -> str:
    """Return a pickle of values as text, for `unpacked`."""
    return _COMPRESSED + _base64(data)


def _base64(data: bytes) -> str:
    return base64.b64encode(zlib.compress(data, level=9)).decode()


def _decompressed(data: bytes, option: str) -> bytes:
    """Return the bytes of a zlib stream, of which no more are made than a function may have."""
    most = settings.max_function_bytes()
    stream = zlib.decompressobj()
    raw = stream.decompress(data, most + 1)
    if len(raw) > most:
        raise too_large(option)
    if not stream.eof:
        raise zlib.error("it is cut off")
    return raw


def too_large(option: str) -> InputError:
    """Return the error of a function that is too large."""
    return InputError(
        f"what {option} gives has more than {settings.max_function_bytes()} bytes",
        hint="set RUNWIDE_MAX_FUNCTION_BYTES to more, if it is meant",
    )
