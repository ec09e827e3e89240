"""Find the format of a table of items."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from runwide import settings
from runwide.errors import InputError
from runwide.json_text import TooDeep, json_of
from runwide.naming import kind_of

if TYPE_CHECKING:
    from collections.abc import Mapping

TABLES = ("jsonl", "json", "csv", "parquet")
FORMATS = (*TABLES, "files")
TYPES = ("str", "int", "float", "bool")

GIVE_FORMAT = 'give items_format= (--items-format): "jsonl", "json", "csv" or "parquet"'

_PARQUET = b"PAR1"  # at the beginning and the end of a file
_SNIFFED = 64 << 10  # characters after the first line from which the format is guessed
_KEYS = ("format", "content_type", "contentType", "mimetype", "mime_type", "mimeType")
_SILENT = (
    "", "application/octet-stream", "binary/octet-stream", "text/plain", "application/gzip", "application/x-gzip",
)  # fmt: skip
_NAMES = {
    "jsonl": "jsonl", "ndjson": "jsonl", "jsonlines": "jsonl", "json": "json", "csv": "csv",
    "parquet": "parquet", "pq": "parquet",
}  # fmt: skip
_MEDIA_TYPES = {
    "application/jsonl": "jsonl", "application/x-jsonlines": "jsonl", "application/jsonlines": "jsonl",
    "application/ndjson": "jsonl", "application/x-ndjson": "jsonl", "text/jsonl": "jsonl",
    "newline_delimited_json": "jsonl",  # BigQuery's name
    "application/json": "json", "text/json": "json", "text/csv": "csv", "application/csv": "csv",
    "application/vnd.apache.parquet": "parquet", "application/x-parquet": "parquet", "application/parquet": "parquet",
}  # fmt: skip


def json_value(text: str, what: str, *, uri: str | None = None, hint: str | None = None) -> Any:
    """Return the value of a JSON text.

    Args:
        what: The name of the text, for errors.
        hint: The hint of the error for text that is not JSON.

    Raises:
        InputError: The text is not JSON, or is nested deeper than ``RUNWIDE_MAX_JSON_DEPTH``.
    """
    try:
        return json_of(text, depth=settings.max_json_depth())
    except TooDeep as error:
        deeper = "if that is intended, set RUNWIDE_MAX_JSON_DEPTH to more"
        raise InputError(f"{what} cannot be read: {error}", uri=uri, hint=deeper) from error
    except ValueError as error:
        raise InputError(f"{what} is not JSON ({error})", uri=uri, hint=hint) from error


def checked_format(form: str | None) -> str | None:
    """Return a format that a caller has given, after checking that it exists.

    Example:
        >>> checked_format("csv")
        'csv'
    """
    if form is None:
        return None
    if not isinstance(form, str) or form not in FORMATS:
        raise InputError(
            f"items_format= is {_named(form)}, not a format of items",
            hint=f"give one of {', '.join(FORMATS)}",
        )
    return str.__str__(form)


def _named(value: Any) -> str:
    """Return a value as text for a message; for a parameter of a pipeline, its type, since it has no value yet."""
    return repr(value) if isinstance(value, (str, int, float, type)) else kind_of(value)


def checked_types(types: Mapping[str, Any] | None, form: str | None = None) -> dict[str, str]:
    """Return the names of the types of columns that a caller has given.

    Args:
        types: A type for each column: ``"str"``, ``"int"``, ``"float"`` or ``"bool"``, or the Python type itself.

    Raises:
        InputError: A type is none of these, or the format stores types itself.

    Example:
        >>> checked_types({"zip": "str", "n": int})
        {'zip': 'str', 'n': 'int'}
    """
    if types is None:
        return {}
    if not hasattr(types, "items"):
        raise InputError(
            f"items_types is {kind_of(types)}, not a dict", hint='give a dict such as {"zip": "str"}'
        )
    if form not in (None, "csv"):
        raise InputError(
            f"items_types= is for CSV, and items_format= is {form!r}", hint="leave out items_types="
        )
    return {_column(name): _type(name, kind) for name, kind in types.items()}


def _column(name: Any) -> str:
    if not isinstance(name, str):
        raise InputError(
            f"items_types= has {_named(name)} as the name of a column", hint="give the name as a text"
        )
    return str.__str__(name)


def _type(column: str, kind: Any) -> str:
    name = kind.__name__ if isinstance(kind, type) else kind
    if not isinstance(name, str) or name not in TYPES:
        raise InputError(
            f"items_types= has {_named(name)} for the column {column!r}",
            hint=f"give one of {', '.join(TYPES)}",
        )
    return str.__str__(name)


def of_metadata(metadata: Mapping[str, Any], uri: str) -> str | None:
    """Return the format that the metadata of an artifact name, or None.

    Raises:
        InputError: The metadata name a format that runwide cannot read.

    Example:
        >>> of_metadata({"format": "CSV"}, "gs://bucket/x"), of_metadata({"rows": 7}, "gs://bucket/x")
        ('csv', None)
    """
    for key in _KEYS:
        name = str(metadata.get(key) or "").partition(";")[0].strip().lower().lstrip(".")
        if name in _SILENT:
            continue
        found = _NAMES.get(name) or _MEDIA_TYPES.get(name)
        if found is None:
            raise InputError(
                f"the artifact's metadata have {key}={metadata[key]!r}, which is not a format of items",
                uri=uri,
                hint=GIVE_FORMAT,
            )
        return found
    return None


def of_name(name: str) -> str | None:
    """Return the format that the ending of a file name means, or None.

    Example:
        >>> of_name("rows.CSV"), of_name("rows.jsonl.gz"), of_name("rows")
        ('csv', 'jsonl', None)
    """
    stem, dot, ending = name.lower().removesuffix(".gz").rpartition(".")
    return _NAMES.get(ending) if dot and stem is not None else None


def is_parquet(data: bytes) -> bool:
    """Return whether bytes begin like a Parquet file."""
    return data[: len(_PARQUET)] == _PARQUET


def has_other_separator(text: str) -> bool:
    r"""Return whether the first line of CSV has no commas, but tabs, semicolons or bars that may separate its columns.

    Example:
        >>> has_other_separator("a;b\n1,5;2\n"), has_other_separator("a,b;c\n"), has_other_separator("a\n")
        (True, False, False)
    """
    first = text.lstrip().partition("\n")[0]
    return "," not in first and any(mark in first for mark in ("\t", ";", "|"))


def guessed(text: str, uri: str) -> str:
    r"""Return the format that a text seems to have.

    If every line is a JSON value, the text is JSON lines. A single JSON list is a JSON list. Any other text is CSV if its
    first line has commas and is no JSON value.

    Args:
        text: The text, without a byte-order mark.

    Raises:
        InputError: The text may have several of these formats, or has none of them.

    Example:
        >>> guessed('"a"\nnull\n[1, 2]\n', "x"), guessed("[1, 2]", "x"), guessed("country,days\nfr,7\n", "x")
        ('jsonl', 'json', 'csv')
    """
    first, *others = _sniffed(text)
    value = _value(first)
    values = [_value(line) for line in others]
    if value is _NONE:
        return _without_json(first, values, uri)
    if isinstance(value, list) and not others:
        return "json"
    if isinstance(value, dict):
        return "jsonl"
    if _NONE in values or (isinstance(value, str) and _are_numbers(values)):
        raise InputError(
            "the first line may be a value of JSON or the header of CSV", uri=uri, hint=GIVE_FORMAT
        )
    return "jsonl"


_NONE = object()


def _are_numbers(values: list[Any]) -> bool:
    """Return whether the lines below a text in quotes may be a CSV column of numbers, whose name is that text."""
    return bool(values) and all(type(value) in (int, float) for value in values)


def _value(line: str) -> Any:
    try:
        return json_of(line, depth=settings.max_json_depth())
    except ValueError:
        return _NONE


def _sniffed(text: str) -> list[str]:
    """Return the first line that is not blank, and the complete lines in the characters after it."""
    start = len(text) - len(text.lstrip())
    end = text.find("\n", start)
    if end < 0:
        return [text[start:]]
    rest = text[end + 1 : end + 1 + _SNIFFED]
    if len(text) > end + 1 + _SNIFFED:
        rest = rest.rpartition("\n")[0]
    return [text[start:end], *(line for line in rest.split("\n") if line.strip())]


def _without_json(first: str, values: list[Any], uri: str) -> str:
    """Return the format of a text whose first line is not a JSON value."""
    if first.startswith(("[", "{")):
        return "jsonl" if first.startswith("{") and any(value is not _NONE for value in values) else "json"
    if any(ord(character) < ord(" ") and character not in "\t\r" for character in first):
        raise InputError("this is not a table that runwide can read", uri=uri, hint=GIVE_FORMAT)
    if "," in first:
        return "csv"
    if has_other_separator(first):
        raise InputError(
            "the columns seem to be separated by something other than commas",
            uri=uri,
            hint='write commas between them; for one column, give items_format="csv" (--items-format csv)',
        )
    raise InputError(
        "the first line may be the name of a single CSV column, or an item like the lines below it",
        uri=uri,
        hint='for a column with its name, give items_format="csv" (--items-format csv), or end the file name in .csv; '
        "for texts, write JSON lines",
    )
