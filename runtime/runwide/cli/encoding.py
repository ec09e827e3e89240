"""Functions and values of a program as text, for the arguments of a pipeline's steps."""

from __future__ import annotations

import base64
import binascii
import pickle
import re
import zlib
from typing import TYPE_CHECKING, Any

from runwide import settings
from runwide.cli.given import UNFILLED
from runwide.errors import InputError, ItemNotPicklable
from runwide.pickling.unpicklable import refusal

if TYPE_CHECKING:
    from collections.abc import Callable

    from runwide.code.archive import Code
    from runwide.pickling.functions import Pickle
    from runwide.pickling.items import Definitions


_COMPRESSED = "z:"
_APART = "~"
_ZLIB = r"eN[\w+/=]+"  # base64 of zlib at its highest level
_CODE = "c:"
_ARCHIVE = re.compile(rf"(?P<kept>{_CODE}{_ZLIB}){_APART}({_ZLIB}|\S+#sha256=[0-9a-f]{{64}})")
_PLACES = re.compile(
    rf"(?P<kept>({_COMPRESSED}{_ZLIB}{_APART}{_ZLIB}|\S+#sha256=[0-9a-f]{{64}})){_APART}{_ZLIB}"
)


def written(function: Pickle) -> str:
    """Return a function as text: first its code, then the files and line numbers of the code.

    Example:
        >>> from runwide.pickling.functions import function_pickle
        >>> text = written(function_pickle(abs))
        >>> pickle.loads(unpacked(text.encode(), "--function-base64"))(-1)
        1
    """
    return _COMPRESSED + _APART.join(
        map(_base64, (function.core, function.modules.encode(), function.beside.encode()))
    )


def parted(text: str) -> tuple[str, str]:
    """Split the text of a function, or a reference to it, into its code and its files and line numbers.

    Example:
        >>> parted("z:eNx~eNw~eNz"), parted("z:eNx")
        (('z:eNx~eNw', '~eNz'), ('z:eNx', ''))
    """
    kept = without_places(text)
    return kept, text[len(kept) :]


def without_places(text: str) -> str:
    """Return the text of a function without files and line numbers; return any other text unchanged.

    For the code of the user's own modules, keep the digests, which do not depend on comments and line numbers.

    Example:
        >>> without_places("z:eNx~eNw=~eNz"), without_places("~/data")
        ('z:eNx~eNw=', '~/data')
    """
    found = _PLACES.fullmatch(text) or _ARCHIVE.fullmatch(text)
    return text if found is None else found["kept"]


def unpacked(data: bytes, option: str) -> bytes:
    """Return the pickle in the value of an option: a pickle, its base64, or a text that `written` made."""
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
    from runwide.pickling.functions import Pickle

    found = [_decompressed(base64.b64decode(one, validate=True), option) for one in texts]
    if len(found) == 1:
        return found[0]
    if len(found) != 3:  # noqa: PLR2004 - the parts that `written` writes
        raise zlib.error("it is cut off")
    core, modules, beside = found
    return Pickle(core, modules.decode(), beside.decode()).data


def written_code(code: Code, reference: str | None = None) -> str:
    """Return the code of the user's own modules as text: the digests of its files, then the archive or a reference to it.

    Args:
        reference: The reference of the archive; None to put the archive into the text.

    Example:
        >>> from runwide.code.archive import Code
        >>> written_code(Code("{}", b"PK"), "gs://b/code/x.zip#sha256=…")
        'c:eNqrrgUAAXUA+Q==~gs://b/code/x.zip#sha256=…'
    """
    return f"{_CODE}{_base64(code.files.encode())}{_APART}{reference or _base64(code.archive)}"


def code_in(text: str, fetch: Callable[[str], bytes]) -> Code:
    """Return the code in a text that `written_code` made; ``fetch`` returns the verified object of a reference."""
    from runwide.code.archive import Code

    files, found, archive = text.removeprefix(_CODE).partition(_APART)
    if not text.startswith(_CODE) or not found:
        raise InputError(
            "invalid --code: expected the text that the scatter step wrote",
            hint="pass it whole and unchanged",
        )
    try:
        data = (
            fetch(archive)
            if "#" in archive
            else _decompressed(base64.b64decode(archive, validate=True), "--code")
        )
        return Code(_decompressed(base64.b64decode(files, validate=True), "--code").decode(), data)
    except (binascii.Error, zlib.error, UnicodeDecodeError) as error:
        raise InputError(
            f"invalid --code: expected the text that the scatter step wrote ({error})",
            hint="pass it whole and unchanged",
        ) from error


def packed(data: bytes) -> str:
    """Return a pickle of values as text, for `unpacked`."""
    return _COMPRESSED + _base64(data)


def _base64(data: bytes) -> str:
    return base64.b64encode(zlib.compress(data, level=9)).decode()


def _decompressed(data: bytes, option: str) -> bytes:
    """Return the bytes of a zlib stream; stop at the size limit of a function."""
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
        f"the value of {option} has more than {settings.max_function_bytes()} bytes",
        hint="if that is intended, set RUNWIDE_MAX_FUNCTION_BYTES to more",
    )


_BITS = 2000  # of integers: Python limits their digits (sys.set_int_max_str_digits)
_BY_VALUE = (b"cloudpickle", b"runwide.pickling.loading", b"runwide.pickling.places")
_OF_KFP = (b"kfp.dsl.pipeline_channel", b"kfp.dsl.for_loop", b"kfp.dsl.pipeline_task")


def values_bytes(value: Any, what: str = "the value", shared: Definitions | None = None) -> bytes:
    """Pickle a value for another program.

    Args:
        shared: Records the user's own modules that the pickle names.

    Raises:
        InputError: It contains a parameter of a pipeline in a place that `runwide.cli.given.rebuilt` does not search.

    Example:
        >>> value_of_bytes(values_bytes((1, {2})))
        (1, {2})
    """
    try:
        data = _pickled(value, shared)
    except Exception as error:
        raise ItemNotPicklable(
            refusal(what, error, value),
            hint="pass plain data, and open files and connections inside the function",
        ) from error
    refuse_parameters(data, what)
    return data


def _pickled(value: Any, shared: Definitions | None) -> bytes:
    from runwide.pickling.items import Definitions
    from runwide.pickling.reproducible import item  # loads cloudpickle

    return item(value, shared or Definitions())


def value_of_bytes(data: bytes) -> Any:
    """Load a pickle from the command line, or from an object whose digest is on the command line."""
    try:
        return pickle.loads(data)  # noqa: TID251 - as trusted as this command line
    except Exception as error:
        raise InputError(
            f"the values cannot be loaded here: {type(error).__name__}: {error}",
            hint="install their packages in this image, in the versions of the program that compiled the pipeline",
        ) from error


def is_by_value(data: bytes) -> bool:
    """Return whether a pickle contains code, which only the same minor version of Python can load.

    Example:
        >>> is_by_value(values_bytes([1])), is_by_value(values_bytes(lambda: 1))
        (False, True)
    """
    return any(name in data for name in _BY_VALUE)


def refuse_parameters(data: bytes, what: str) -> None:
    """Reject a pickle that contains a parameter of a pipeline, which has no value yet."""
    text = UNFILLED.search(data.decode("latin-1"))
    if any(name in data for name in _OF_KFP) or (text and text[1] == "channel:task="):
        raise InputError(
            f"{what} contains a parameter of the pipeline, which has no value before the pipeline runs",
            hint="pass it in constants=, alone or inside of lists, tuples, dicts and dataclasses",
        )
    if text and text[1].startswith(("$.pipeline_", "$.workspace_path")):
        raise InputError(
            f"{what} contains {text[0]}, which an engine fills in only in texts that it can see",
            hint="pass it in constants=, alone or inside of lists, tuples, dicts and dataclasses",
        )
    if text:
        raise InputError(
            f"{what} contains {text[0]}, which engines replace in the arguments of a step",
            hint="write the text in another way, or let the function compose it",
        )


def is_plain(value: Any, levels: int = 100) -> bool:
    """Return whether a value survives JSON exactly, with all its types, in at most so many nested levels.

    Example:
        >>> is_plain([1, 2.5, {"a": None}]), is_plain((1,)), is_plain({1: 2})
        (True, False, False)
    """
    kind = type(value)
    if kind in (dict, list):
        inner = value.values() if kind is dict else value
        named = kind is list or all(type(name) is str for name in value)
        return named and levels > 0 and all(is_plain(one, levels - 1) for one in inner)
    if kind is int:
        return bool(value.bit_length() <= _BITS)
    return value is None or kind in (str, bool) or (kind is float and value - value == 0)
