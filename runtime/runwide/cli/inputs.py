"""Functions and items as they are given on a command line."""

from __future__ import annotations

import importlib
import pickle
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runwide import settings
from runwide.calls import bound
from runwide.cli.function_text import too_large, unpacked
from runwide.cli.given import LEFT_OUT
from runwide.cli.taken import check_constants, without_default
from runwide.errors import InputError, RunwideError
from runwide.function_pickle import NOTHING, Needs
from runwide.parsing import TooDeep, json_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_HINT_FUNCTION = "give MODULE:FUNCTION, both importable from here"


def look_here() -> None:
    """Put the working directory on the search path, where it is for ``python -m`` as well."""
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))


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
    look_here()
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


@dataclass(frozen=True, slots=True)
class Chosen:
    """The function that was given.

    Args:
        data: Its pickle.
        name: Its name, for people.
        needs: What it needs of the program's own code, as far as this process has found out.
    """

    data: bytes
    name: str
    needs: Needs


def pickled_function(
    *, function: str | None, file: Path | None, text: str | None, constants: Mapping[str, Any] | None
) -> Chosen:
    """The function that was given in one of three ways.

    Args:
        function: ``MODULE:FUNCTION``.
        file: A file with the bytes or their base64.
        text: Base64 of the bytes.
        constants: Keyword arguments to bind; one that is `LEFT_OUT` is the function's default, or None if it has none.

    Raises:
        InputError: None of them was given, more than one, or one that makes no sense.
    """
    given = {"--function": function, "--function-file": file, "--function-base64": text}
    names = [name for name, value in given.items() if value is not None]
    if len(names) != 1:
        raise InputError(f"give one of {', '.join(given)}, not {' and '.join(names) or 'none'}")
    if function is not None:
        return _pickled(function_of(function), constants, name=function)
    given_bytes = read(file, function=True).strip() if file is not None else (text or "").encode()
    pickled = unpacked(given_bytes, names[0])
    return _bound(pickled, constants, names[0])


def items(
    *, text: str | None, file: Path | None, form: str | None = None, types: str | None = None
) -> list[Any]:
    """The items, from JSON text or a file.

    Args:
        text: A JSON list.
        file: As for `items_of_file`.
        form: As for `items_of_file`.
        types: As for `items_of_file`.

    Raises:
        InputError: Neither was given, both, or no list.
    """
    if (text is None) == (file is None):
        raise InputError("give one of --items-json and --items-file")
    if file is not None:
        return items_of_file(file, form=form, types=types)
    refuse_table_options(form, types)
    return _list(text or "", "--items-json")


def refuse_table_options(
    form: str | None, types: str | None, *, hint: str = "give --items-from or --items-file as well"
) -> None:
    """Reject what says how a table is read where there is none.

    Args:
        form: Of ``--items-format``.
        types: Of ``--items-types``.
        hint: What to do instead.

    Raises:
        InputError: There is one.
    """
    if form or types:
        raise InputError(
            "--items-format and --items-types are for tables of items",
            hint=hint,
        )


def items_of_file(path: Path, *, form: str | None = None, types: str | None = None) -> list[Any]:
    """The items in a file: JSON lines, a JSON list, CSV or Parquet, by its name, or else by its first bytes.

    Args:
        path: The file.
        form: Its format, of `runwide.cli.formats.TABLES`.
        types: JSON of the types of columns of CSV.

    Raises:
        InputError: The file cannot be read, or is none of these.
    """
    from runwide.cli.sources import items_of_path

    return items_of_path(path, read(path), form=form, types=types)


def items_named(text: str, *, form: str | None = None, types: str | None = None) -> list[Any]:
    """The items that a word of a command names: a file, or as for `runwide.cli.sources.items_from`.

    Args:
        text: A file, a folder, a URI, a pattern of files, or a job, whose results are the items: its reference or that of
            its results, the URI of its folder, its id or its name.
        form: As for `runwide.cli.sources.items_from`.
        types: As for `runwide.cli.sources.items_from`.

    Raises:
        InputError: They cannot be read.
    """
    from runwide.cli.sources import is_pattern, items_from

    path = Path(text)
    if form is None and (job := job_meant(text)) is not None:
        return items_from(job, types=types)
    if "://" not in text and path.is_file() and form != "files":
        return items_of_file(path, form=form, types=types)
    if "://" in text or "#sha256=" in text:
        return items_from(text, form=form, types=types)
    if path.is_dir() or is_pattern(text):
        return items_from(Path.cwd().joinpath(path).as_posix(), form=form, types=types)
    return items_of_file(path, form=form, types=types)  # which says what is wrong with it


def job_meant(text: str, store: str | None = None) -> str | None:
    """Return the reference of the job that a word of a command means by its folder's URI, its id or name; None for no job.

    Args:
        text: The word.
        store: Where an id or a name is looked for; ``RUNWIDE_STORE`` where None.

    Raises:
        InputError: It has the form of a job's id or URI, and no job is there.
    """
    from runwide.cli.sources import is_pattern
    from runwide.job.found import JOB_ID, reference_of

    if JOB_ID.fullmatch(text.rstrip("/").rpartition("/")[2]):
        return reference_of(text, store)
    if "/" in text or "#" in text or is_pattern(text) or Path(text).exists():
        return None
    if not (store or settings.read().store):
        return None
    try:
        return reference_of(text, store)
    except RunwideError:  # then it is a file, whose error says what is wrong with it
        return None


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


def _pickled(
    function: Callable[..., Any],
    constants: Mapping[str, Any] | None,
    *,
    name: str,
    alone: Chosen | None = None,
) -> Chosen:
    """The pickle of a function with its constants; ``alone`` is that of the function without any, if there is one."""
    from runwide.pickled import function_pickle

    arguments = _bound_to(function, constants or {})
    if not arguments and alone is not None:
        return alone
    made = function_pickle(bound(function, arguments))
    return Chosen(made.data, name, made.needs)


def _bound_to(function: Callable[..., Any], constants: Mapping[str, Any]) -> dict[str, Any]:
    """The keyword arguments, checked; None for a parameter without a default that was left out, as kfp's steps have it."""
    found = {
        name: None if value is LEFT_OUT else value
        for name, value in constants.items()
        if value is not LEFT_OUT or without_default(function, name)
    }
    check_constants(function, found, "what it is given")
    return found


def _bound(pickled: bytes, constants: Mapping[str, Any] | None, name: str) -> Chosen:
    """The pickle with keyword arguments bound; if the call has none, it is passed on unopened."""
    alone = Chosen(pickled, name, NOTHING)
    if constants is None:
        return alone
    try:
        function = pickle.loads(pickled)  # noqa: TID251 - it came with the command line, as this command did
    except Exception as error:
        raise InputError(
            f"the function cannot be loaded here: {type(error).__name__}: {error}",
            hint="install in this image what the function's module imports",
        ) from error
    return _pickled(function, constants, name=name, alone=alone)


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
            raise too_large("--function-file")
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


def json_file(path: str) -> Any:
    """The value of JSON in a file.

    Args:
        path: The file.

    Raises:
        InputError: It cannot be read, or is no JSON.
    """
    text = read(Path(path)).decode("utf-8", errors="replace")
    try:
        return json_value(text, "the file")
    except InputError as error:
        error.uri = path
        raise


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
