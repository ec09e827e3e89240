"""The items in the bytes of a table."""

from __future__ import annotations

import gzip
import io
import json
import zlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from runwide import settings
from runwide.cli import csv_rows, formats, parquet_rows
from runwide.errors import InputError, NoItems
from runwide.log import Log
from runwide.parsing import TooDeep, json_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

log = Log("cli")

_GZIP = b"\x1f\x8b"
_PIECE = 1 << 20  # bytes that are decompressed at once


@dataclass(frozen=True, slots=True)
class Reading:
    """How items are read from a table.

    Args:
        form: Its format, of `runwide.cli.formats.FORMATS`; None where metadata, name or content tell it.
        types: Types of columns of CSV.
        told: The format that an artifact's metadata tell.
    """

    form: str | None = None
    types: Mapping[str, str] = field(default_factory=dict)
    told: str | None = None


@dataclass(frozen=True, slots=True)
class File:
    """A file of a table.

    Args:
        data: Its bytes.
        name: Its name, whose ending may tell its format.
        uri: Where it comes from, for errors.
    """

    data: bytes
    name: str
    uri: str


def reading(
    form: str | None, types: str | Mapping[str, Any] | None, metadata: Mapping[str, Any] | None, uri: str
) -> Reading:
    """Return how items are read, from the words of a command.

    Args:
        form: As for `Reading`.
        types: As for `Reading`, or JSON of it.
        metadata: Those of the artifact.
        uri: The artifact.

    Raises:
        InputError: One of them makes no sense.

    Example:
        >>> reading(None, '{"zip": "str"}', {"format": "csv"}, "gs://bucket/x")
        Reading(form=None, types={'zip': 'str'}, told='csv')
    """
    if isinstance(types, str):
        try:
            types = json_of(types)
        except ValueError as error:
            raise InputError(
                f"--items-types is not JSON ({error})", hint='give something like \'{"zip": "str"}\''
            ) from error
    formats.checked_format(form)
    told = None if form else formats.of_metadata(metadata or {}, uri)
    return Reading(form, formats.checked_types(types, form), told)  # type: ignore[arg-type]  # which is checked


def items(files: Iterable[File], how: Reading) -> list[Any]:
    r"""Return the items in the files of one table, in order.

    Args:
        files: The files.
        how: How they are read.

    Raises:
        InputError: The bytes are not what they should be.

    Example:
        >>> items([File(b'"a"\nnull\n', "artifact", "gs://bucket/artifact")], Reading())
        ['a', None]
    """
    found: list[Any] = []
    parts: list[csv_rows.Part] = []
    for file in files:
        data = unzipped(file.data, file.uri)
        form = how.form or how.told or formats.of_name(file.name)
        if form == "parquet" or (form is None and formats.is_parquet(data)):
            _check_types("parquet", how, file)
            found += parquet_rows.rows(data, file.uri)
            continue
        text = text_of(data, file.uri)
        form = form or (formats.guessed(text, file.uri) if text.strip() else "jsonl")
        if form == "csv":
            if how.form is None and formats.has_other_separator(text):
                log.warning(
                    "table.separated",
                    uri=file.uri,
                    cause="its columns seem to be separated by something else than commas, and are read as one column",
                    hint='write commas between them; for one column, give items_format="csv" (--items-format csv)',
                )
            parts.append(csv_rows.Part(text, file.uri))
            continue
        _check_types(form, how, file)
        found += values_of_lines(text, file.uri) if form == "jsonl" else _listed(text, file.uri)
    if parts and found:
        raise InputError(
            "some of the files are CSV, and others are not", uri=parts[0].uri, hint=formats.GIVE_FORMAT
        )
    return csv_rows.rows(parts, how.types) if parts else found


def _check_types(form: str, how: Reading, file: File) -> None:
    if how.types:
        raise InputError(
            f"items_types= is for CSV, and this is {form}", uri=file.uri, hint="leave out items_types="
        )


def unzipped(data: bytes, uri: str) -> bytes:
    """Return what gzip has compressed, by whichever name; other bytes as they are.

    Raises:
        InputError: It is damaged, or more than ``RUNWIDE_MAX_TABLE_BYTES``.
    """
    if data[: len(_GZIP)] != _GZIP:
        return data
    most = settings.max_table_bytes()
    found = bytearray()
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(data)) as stream:
            while piece := stream.read(_PIECE):
                found += piece
                if len(found) > most:
                    raise InputError(
                        f"this has more than {most} bytes once it is decompressed",
                        uri=uri,
                        hint="set RUNWIDE_MAX_TABLE_BYTES to more, if it is meant",
                    )
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(
            f"this cannot be read as gzip ({error})", uri=uri, hint="write the file anew"
        ) from error
    return bytes(found)


def text_of(data: bytes, uri: str) -> str:
    """Return the text of a file in UTF-8, without a byte-order mark.

    Raises:
        InputError: It is not UTF-8; the message names the line.
    """
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        number = data.count(b"\n", 0, error.start) + 1
        raise InputError(
            f"line {number} is not UTF-8 ({error.reason})",
            uri=uri,
            hint="write the file in UTF-8; or give items_format=, if it is no text",
        ) from error


def values_of_lines(text: str, uri: str) -> list[Any]:
    r"""Return the values of JSON lines; ``NaN`` and infinities are read as Python reads them.

    Lines end at ``\n`` or ``\r\n`` and nowhere else. Blank ones are passed over.

    Args:
        text: The lines.
        uri: Where they come from, for errors.

    Raises:
        InputError: A line is not JSON; the message names it.

    Example:
        >>> values_of_lines('1\n{"a": 2}\n', "x.jsonl")
        [1, {'a': 2}]
    """
    lines = enumerate(text.split("\n"), 1)
    return [_value(line, f"line {number}", uri) for number, line in lines if line.strip(" \t\r")]


def _value(text: str, what: str, uri: str) -> Any:
    try:
        return json_of(text, depth=settings.max_json_depth())
    except TooDeep as error:
        raise InputError(
            f"{what} cannot be read: {error}",
            uri=uri,
            hint="set RUNWIDE_MAX_JSON_DEPTH to more, if it is meant",
        ) from error
    except ValueError as error:
        raise InputError(f"{what} is not JSON ({error})", uri=uri, hint=_other(what, error)) from error


def _other(what: str, error: ValueError) -> str:
    """Return the hint for text that is not JSON."""
    if what == "the file" and isinstance(error, json.JSONDecodeError) and error.msg == "Extra data":
        return 'for JSON lines, call it .jsonl or give items_format="jsonl" (--items-format jsonl)'
    return "correct it; or give items_format=, if it is something else"


def _listed(text: str, uri: str) -> list[Any]:
    if not text.strip():
        raise NoItems("the file is empty", uri=uri, hint="look at what has written it")
    value = _value(text, "the file", uri)
    if not isinstance(value, list):
        raise InputError(
            "this is JSON, and not a JSON list",
            uri=uri,
            hint='write a list; or for one item a line call it .jsonl, or give items_format="jsonl"',
        )
    return value


def parquet_folder(files: Mapping[str, bytes], how: Reading, uri: str) -> list[Any]:
    """Return the rows of a folder of Parquet.

    Args:
        files: As for `runwide.cli.parquet_rows.rows_of_folder`.
        how: How they are read.
        uri: The folder.

    Raises:
        InputError: The files are not Parquet.
    """
    if how.types:
        raise InputError(
            "items_types= is for CSV, and this is parquet", uri=uri, hint="leave out items_types="
        )
    return parquet_rows.rows_of_folder(files, uri)


def names_of_table(names: Sequence[str]) -> list[str]:
    """Return the files of a folder that are parts of its table: others begin with ``_`` or ``.``, or are empty markers.

    Example:
        >>> names_of_table(["_SUCCESS", "day=1/part-0.parquet", "day=1/.part-0.parquet.crc", "_temporary/0/x.parquet"])
        ['day=1/part-0.parquet']
    """
    return [name for name in names if not any(part.startswith(("_", ".")) for part in name.split("/"))]
