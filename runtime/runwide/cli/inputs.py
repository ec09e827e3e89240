"""Functions and items as they are given on a command line."""

from __future__ import annotations

import base64
import binascii
import importlib
import inspect
import pickle
import re
import site
import sys
import sysconfig
import zlib
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runwide import settings
from runwide.errors import InputError
from runwide.parsing import TooDeep, json_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_COMPRESSED = "z:"
_HINT_FUNCTION = "give MODULE:FUNCTION, both importable from here"


def function_of(text: str) -> Callable[..., Any]:
    """The function that ``MODULE:FUNCTION`` names, with the working directory on the path.

    Raises:
        InputError: There is none.

    Example:
        >>> function_of("math:sqrt")(9)
        3.0
    """
    module, found, name = text.partition(":")
    if not found or not module or not name:
        raise InputError(f"{text!r} names no function", hint=_HINT_FUNCTION)
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        value: Any = importlib.import_module(module)
        for part in name.split("."):
            value = getattr(value, part)
    except Exception as error:  # importing runs the user's code
        raise InputError(
            f"{text} cannot be imported: {type(error).__name__}: {error}", hint=_HINT_FUNCTION
        ) from error
    if not callable(value):
        raise InputError(f"{text} is a {type(value).__name__}, not a function", hint=_HINT_FUNCTION)
    function: Callable[..., Any] = value
    return function


def pickled_function(
    *, function: str | None, file: Path | None, text: str | None, constants: str | None
) -> tuple[bytes, str]:
    """The pickle of the function that was given in one of three ways, and its name.

    Args:
        function: ``MODULE:FUNCTION``.
        file: A file with the bytes or their base64.
        text: Base64 of the bytes.
        constants: JSON object of keyword arguments to bind.

    Raises:
        InputError: None of them was given, more than one, or one that makes no sense.
    """
    given = {"--function": function, "--function-file": file, "--function-base64": text}
    names = [name for name, value in given.items() if value is not None]
    if len(names) != 1:
        raise InputError(f"give one of {', '.join(given)}, not {' and '.join(names) or 'none'}")
    if function is not None:
        found = function_of(function)
        _send_by_value(found)
        return _pickled(found, constants), function
    given_bytes = read(file, function=True).strip() if file is not None else (text or "").encode()
    pickled = unpacked(given_bytes, names[0])
    return _bound(pickled, constants), names[0]


def unpacked(data: bytes, option: str) -> bytes:
    """The pickle in what was given: as it is, as base64, or as ``z:`` and base64 of zlib.

    Raises:
        InputError: It is none of these.
    """
    if data[:1] == pickle.PROTO:
        return data
    compressed = data.startswith(_COMPRESSED.encode())
    try:
        raw = base64.b64decode(data.removeprefix(_COMPRESSED.encode()), validate=True)
        raw = _decompressed(raw, option) if compressed else raw
    except (binascii.Error, zlib.error) as error:
        raise InputError(
            f"{option} is not base64 of a pickle ({error})", hint="pass it whole and unchanged"
        ) from error
    if raw[:1] != pickle.PROTO:
        raise InputError(
            f"{option} is not base64 of a pickle", hint="pass base64 of cloudpickle.dumps(function)"
        )
    return raw


def _decompressed(data: bytes, option: str) -> bytes:
    """The bytes of a zlib stream, of which no more are made than a function may have."""
    most = settings.max_function_bytes()
    stream = zlib.decompressobj()
    raw = stream.decompress(data, most + 1)
    if len(raw) > most:
        raise _too_large(option, most)
    if not stream.eof:
        raise zlib.error("it is cut off")
    return raw


def _too_large(option: str, most: int) -> InputError:
    return InputError(
        f"the function of {option} has more than {most} bytes",
        hint="set RUNWIDE_MAX_FUNCTION_BYTES to more, if it is meant",
    )


def items(*, text: str | None, file: Path | None) -> list[Any]:
    """The items, from JSON text or a file.

    Raises:
        InputError: Neither was given, both, or no list.
    """
    if (text is None) == (file is None):
        raise InputError("give one of --items-json and --items-file")
    return items_of_file(file) if file is not None else _list(text or "", "--items-json")


def items_of_file(path: Path) -> list[Any]:
    """The items in a ``.jsonl`` file, one a line, or in a JSON list.

    Raises:
        InputError: The file cannot be read, or is not JSON.
    """
    data = read(path).decode("utf-8", errors="replace")
    if path.suffix != ".jsonl":
        return _list(data, str(path))
    return unpacked_lines(data, str(path))


def unpacked_lines(text: str, where: str) -> list[Any]:
    r"""The values of JSON lines.

    Raises:
        InputError: A line is not JSON; the message names it.

    Example:
        >>> unpacked_lines('1\n{"a": 2}\n', "x.jsonl")
        [1, {'a': 2}]
    """
    lines = enumerate(text.splitlines(), 1)
    return [json_value(line, f"{where}, line {number}") for number, line in lines if line.strip()]


def strings(text: str, option: str) -> list[str]:
    """A JSON list of strings.

    Raises:
        InputError: It is none.
    """
    found = _list(text, option)
    if not all(isinstance(one, str) for one in found):
        raise InputError(f"{option} is not a list of strings", hint="pass what the shards printed")
    return found


def seconds(text: str) -> float:
    """An age such as ``7d``, ``12h``, ``30m`` or ``45s``, in seconds.

    Raises:
        InputError: It is none.

    Example:
        >>> seconds("7d")
        604800.0
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd])", text.strip())
    if not found:
        raise InputError(f"{text!r} is not an age", hint="give something like 7d, 12h or 30m")
    return float(found[1]) * {"s": 1, "m": 60, "h": 3600, "d": 86400}[found[2]]


def _pickled(function: Callable[..., Any], constants: str | None) -> bytes:
    from runwide.pool import function_bytes

    if constants is None:
        return function_bytes(function)
    bound = json_value(constants, "--constants-json")
    if not isinstance(bound, dict):
        raise InputError("--constants-json is not a JSON object", hint='pass something like {"factor": 2}')
    _check_names(function, bound)
    return function_bytes(partial(function, **bound) if bound else function)


def _check_names(function: Callable[..., Any], bound: Mapping[str, Any]) -> None:
    """Refuse constants that the function does not take, before there is a job of which every item fails."""
    try:
        taken = inspect.signature(function, follow_wrapped=False)
    except (TypeError, ValueError):  # a builtin may not say what it takes
        return
    try:
        taken.bind_partial(None, **bound)
    except TypeError as error:
        raise InputError(
            f"--constants-json does not fit the function: {error}", hint=f"it takes {taken}, the item first"
        ) from error


def _bound(pickled: bytes, constants: str | None) -> bytes:
    """The pickle with keyword arguments bound; without any it is passed on unopened."""
    if constants is None or constants.strip() == "{}":
        return pickled
    try:
        function = pickle.loads(pickled)  # noqa: TID251 - it came with the command line, as this command did
    except Exception as error:
        raise InputError(
            f"the function cannot be loaded here: {type(error).__name__}: {error}",
            hint="install in this image what the function's module imports",
        ) from error
    return _pickled(function, constants)


def _send_by_value(function: Callable[..., Any]) -> None:
    """Have a function of the user's own files pickled with its code: the shards' image does not have the file."""
    import cloudpickle

    module = sys.modules.get(getattr(function, "__module__", "") or "")
    path = getattr(module, "__file__", None)
    if module is not None and path and not _installed(Path(path).resolve()):
        cloudpickle.register_pickle_by_value(module)


def _installed(path: Path) -> bool:
    roots = {*sysconfig.get_paths().values(), *site.getsitepackages(), site.getusersitepackages()}
    skipped = {sysconfig.get_path("scripts"), sysconfig.get_path("data")}
    return any(path.is_relative_to(Path(root).resolve()) for root in roots - skipped)


def read(path: Path, *, function: bool = False) -> bytes:
    """The bytes of a file.

    Args:
        path: The file.
        function: Whether it is a function, of which more than a limit is not read.

    Raises:
        InputError: It cannot be read.
    """
    try:
        most = settings.max_function_bytes()
        if function and path.stat().st_size > 2 * most:  # base64 takes a third more
            raise _too_large("--function-file", most)
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"the file cannot be read ({error.strerror})", uri=str(path)) from error
    except (MemoryError, OverflowError) as error:
        raise InputError("the file is larger than this machine's memory", uri=str(path)) from error


def _list(text: str, what: str) -> list[Any]:
    found = json_value(text, what)
    if not isinstance(found, list):
        raise InputError(f"{what} is not a JSON list", hint='pass something like ["a", "b"]')
    return found


def json_value(text: str, what: str) -> Any:
    """The value of JSON text.

    Args:
        text: The text.
        what: What it is, for errors.

    Raises:
        InputError: It is no JSON, or nested deeper than ``RUNWIDE_MAX_JSON_DEPTH`` allows.
    """
    try:
        return json_of(text, depth=settings.max_json_depth())
    except TooDeep as error:
        raise InputError(
            f"{what} cannot be read: {error}", hint="set RUNWIDE_MAX_JSON_DEPTH to more, if it is meant"
        ) from error
    except ValueError as error:
        raise InputError(f"{what} is not JSON ({error})") from error
