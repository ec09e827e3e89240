"""Functions and items that are named on a command line."""

from __future__ import annotations

import inspect
import pickle
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runwide import settings
from runwide.api.functions import bound, check_constants, imported
from runwide.cli.encoding import too_large, unpacked
from runwide.cli.given import LEFT_OUT
from runwide.errors import InputError, RunwideError
from runwide.naming import kind_of
from runwide.pickling.functions import NOTHING, Needs
from runwide.tables.formats import json_value

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_HINT_FUNCTION = "give MODULE:FUNCTION, both importable from here"


def look_here() -> None:
    """Put the working directory on the search path, as ``python -m`` does."""
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))


def function_of(text: str) -> Callable[..., Any]:
    """Import the function that ``MODULE:FUNCTION`` names, with the working directory on the search path.

    Example:
        >>> function_of("math:sqrt")(9)
        3.0
    """
    module, found, name = text.partition(":")
    if not found or not module or not name:
        raise InputError(f"{text!r} names no function", hint=_HINT_FUNCTION)
    look_here()
    try:
        value: Any = imported(text)
    except Exception as error:  # importing runs the user's code
        raise InputError(
            f"{text} cannot be imported: {type(error).__name__}: {error}", hint=_HINT_FUNCTION
        ) from error
    if not callable(value):
        raise InputError(f"{text} is {kind_of(value)}, not a function", hint=_HINT_FUNCTION)
    function: Callable[..., Any] = value
    return function


@dataclass(frozen=True, slots=True)
class Chosen:
    """A pickled function, its name for people, and the user's own modules that it needs, as far as this process knows."""

    data: bytes
    name: str
    needs: Needs


def pickled_function(
    *, function: str | None, file: Path | None, text: str | None, constants: Mapping[str, Any] | None
) -> Chosen:
    """Return the pickle of a function that was given in one of three ways.

    Args:
        function: ``MODULE:FUNCTION``.
        file: A file with the pickle or its base64.
        text: The base64 of the pickle.
        constants: Keyword arguments to bind. For `LEFT_OUT`, the function's default is used, or None if it has no default.
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


def refuse_table_options(
    form: str | None, types: str | None, *, hint: str = "give --items-from or --items-file as well"
) -> None:
    """Reject ``--items-format`` and ``--items-types`` if the items are no table."""
    if form or types:
        raise InputError("--items-format and --items-types are for tables of items", hint=hint)


def items_of_file(path: Path, *, form: str | None = None, types: str | None = None) -> list[Any]:
    """Return the items in a file of JSON lines, a JSON list, CSV or Parquet.

    Args:
        form: A format in `runwide.tables.formats.TABLES`; None to find it from the file's name or first bytes.
        types: JSON of the types of CSV columns.
    """
    from runwide.tables import rows

    if form == "files":
        raise InputError(
            'items_format="files" is for a pattern or a folder',
            uri=str(path),
            hint="give --items-from FOLDER, or name a pattern such as FOLDER/*.csv",
        )
    how = rows.reading(form, types, None, str(path))
    return rows.items([rows.File(read(path), path.name, str(path))], how)


def items_named(text: str, *, form: str | None = None, types: str | None = None) -> list[Any]:
    """Return the items that a word of a command names.

    Args:
        text: A file, a folder, a URI or a pattern of files. Or a job, whose results are the items: the reference of the job
            or of its results, the URI of its folder, its id or its name.
    """
    from runwide.tables.sources import is_pattern, items_from

    path = Path(text)
    if form is None and (job := job_meant(text)) is not None:
        return items_from(job, types=types)
    if "://" not in text and path.is_file() and form != "files":
        return items_of_file(path, form=form, types=types)
    if "://" in text or "#sha256=" in text:
        return items_from(text, form=form, types=types)
    if path.is_dir() or is_pattern(text):
        return items_from(Path.cwd().joinpath(path).as_posix(), form=form, types=types)
    return items_of_file(path, form=form, types=types)  # raises the error of a missing file


def job_meant(text: str, store: str | None = None) -> str | None:
    """Return the reference of the job whose URI, id or name a word is; None if the word names no job.

    Args:
        store: The store in which to look for an id or a name; None for ``RUNWIDE_STORE``.

    Raises:
        InputError: The word has the form of a job's id or URI, and there is no such job.
    """
    from runwide.job.lookup import JOB_ID, reference_of
    from runwide.tables.sources import is_pattern

    if JOB_ID.fullmatch(text.rstrip("/").rpartition("/")[2]):
        return reference_of(text, store)
    if "/" in text or "#" in text or is_pattern(text) or Path(text).exists():
        return None
    if not (store or settings.read().store):
        return None
    try:
        return reference_of(text, store)
    except RunwideError:  # no name of a job: the caller reads it as a file
        return None


def references_of(text: str) -> list[str]:
    """Return the references in the value of ``--shards-json``."""
    found = json_list(text, "--shards-json")
    if not all(isinstance(one, str) for one in found):
        raise InputError(
            "--shards-json is not a list of strings", hint="pass the lines that the shards printed"
        )
    return found


def seconds(text: str) -> float:
    """Return the seconds of an age such as ``7d``, ``12h``, ``30m`` or ``45s``.

    Example:
        >>> seconds("7d")
        604800.0
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd])", text.strip())
    if not found:
        raise InputError(f"{text!r} is not an age", hint="give an age such as 7d, 12h or 30m")
    return float(found[1]) * {"s": 1, "m": 60, "h": 3600, "d": 86400}[found[2]]


def _pickled(
    function: Callable[..., Any],
    constants: Mapping[str, Any] | None,
    *,
    name: str,
    alone: Chosen | None = None,
) -> Chosen:
    """Pickle a function with its constants; return ``alone``, its pickle without constants, if there are none."""
    from runwide.pickling.functions import function_pickle

    arguments = _arguments(function, constants or {})
    if not arguments and alone is not None:
        return alone
    made = function_pickle(bound(function, arguments))
    return Chosen(made.data, name, made.needs)


def _arguments(function: Callable[..., Any], constants: Mapping[str, Any]) -> dict[str, Any]:
    """Return the checked keyword arguments; as in steps of kfp, a parameter without a default that was left out is None."""
    found = {
        name: None if value is LEFT_OUT else value
        for name, value in constants.items()
        if value is not LEFT_OUT or _is_required(function, name)
    }
    check_constants(function, found, "the constants")
    return found


def _is_required(function: Callable[..., Any], name: str) -> bool:
    """Return whether a function has a parameter of this name without a default.

    Example:
        >>> _is_required(lambda x, k: x, "k"), _is_required(lambda x, k=1: x, "k"), _is_required(print, "k")
        (True, False, False)
    """
    try:
        found = inspect.signature(function, follow_wrapped=False).parameters.get(name)
    except (TypeError, ValueError):  # some builtins have no signature
        return False
    return found is not None and found.default is inspect.Parameter.empty


def _bound(pickled: bytes, constants: Mapping[str, Any] | None, name: str) -> Chosen:
    """Bind keyword arguments to a pickled function; without constants, do not load it."""
    alone = Chosen(pickled, name, NOTHING)
    if constants is None:
        return alone
    try:
        function = pickle.loads(pickled)  # noqa: TID251 - it came with the command line, as this command did
    except Exception as error:
        raise InputError(
            f"the function cannot be loaded here: {type(error).__name__}: {error}",
            hint="install the packages that the function's module imports in this image",
        ) from error
    return _pickled(function, constants, name=name, alone=alone)


def read(path: Path, *, function: bool = False) -> bytes:
    """Return the bytes of a file; with ``function``, only up to the size limit of a function."""
    try:
        most = settings.max_function_bytes()
        if function and path.stat().st_size > 2 * most:  # base64 needs a third more bytes
            raise too_large("--function-file")
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"the file cannot be read ({error.strerror})", uri=str(path)) from error
    except (MemoryError, OverflowError) as error:
        raise InputError("the file is larger than this machine's memory", uri=str(path)) from error


def json_list(text: str, what: str) -> list[Any]:
    """Return the elements of a JSON list."""
    found = json_value(text, what)
    if not isinstance(found, list):
        raise InputError(f"{what} is not a JSON list", hint='pass a list such as ["a", "b"]')
    return found


def json_file(path: str) -> Any:
    """Return the JSON value in a file."""
    return json_value(read(Path(path)).decode("utf-8", errors="replace"), "the file", uri=path)
