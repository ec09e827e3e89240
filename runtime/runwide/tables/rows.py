"""Read items from the bytes of a table."""

from __future__ import annotations

import gzip
import io
import zlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from runwide import settings
from runwide.errors import InputError, NoItems
from runwide.json_text import json_of
from runwide.log import Log
from runwide.tables import csv_rows, formats, parquet

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

log = Log("cli")

_GZIP = b"\x1f\x8b"
_PIECE = 1 << 20  # bytes to decompress at once
_HINT = "correct it; or give items_format=, if it has another format"
_HINT_LINES = 'items_format="jsonl" (--items-format jsonl)'


@dataclass(frozen=True, slots=True)
class Reading:
    """Options for reading items from a table.

    Args:
        form: A format in `runwide.tables.formats.FORMATS`; None to find it from metadata, name or content.
        metadata_form: The format that the metadata of the artifact name.
    """

    form: str | None = None
    types: Mapping[str, str] = field(default_factory=dict)
    metadata_form: str | None = None


@dataclass(frozen=True, slots=True)
class File:
    """A file of a table: its bytes, its name, whose ending may give the format, and its URI for errors."""

    data: bytes
    name: str
    uri: str


def reading(
    form: str | None, types: str | Mapping[str, Any] | None, metadata: Mapping[str, Any] | None, uri: str
) -> Reading:
    """Check options for reading a table.

    Example:
        >>> reading(None, '{"zip": "str"}', {"format": "csv"}, "gs://bucket/x")
        Reading(form=None, types={'zip': 'str'}, metadata_form='csv')
    """
    if isinstance(types, str):
        try:
            types = json_of(types)
        except ValueError as error:
            raise InputError(
                f"--items-types is not JSON ({error})", hint='give an object such as \'{"zip": "str"}\''
            ) from error
    formats.checked_format(form)
    metadata_form = None if form else formats.of_metadata(metadata or {}, uri)
    return Reading(form, formats.checked_types(types, form), metadata_form)  # type: ignore[arg-type]  # is checked


def items(files: Iterable[File], how: Reading) -> list[Any]:
    r"""Return the items in the files of one table, in order.

    Raises:
        InputError: A file does not have its format.

    Example:
        >>> items([File(b'"a"\nnull\n', "artifact", "gs://bucket/artifact")], Reading())
        ['a', None]
    """
    found: list[Any] = []
    parts: list[csv_rows.Part] = []
    for file in files:
        data = unzipped(file.data, file.uri)
        form = how.form or how.metadata_form or formats.of_name(file.name)
        if form == "parquet" or (form is None and formats.is_parquet(data)):
            check_types("parquet", how, file.uri)
            found += parquet.rows_of_file(data, file.uri)
            continue
        text = decoded(data, file.uri)
        form = form or (formats.guessed(text, file.uri) if text.strip() else "jsonl")
        if form == "csv":
            if how.form is None and formats.has_other_separator(text):
                log.warning(
                    "table.separated",
                    uri=file.uri,
                    cause="its columns seem to be separated by something other than commas, and are read as one column",
                    hint='write commas between them; for one column, give items_format="csv" (--items-format csv)',
                )
            parts.append(csv_rows.Part(text, file.uri))
            continue
        check_types(form, how, file.uri)
        found += values_of_lines(text, file.uri) if form == "jsonl" else _listed(text, file.uri)
    if parts and found:
        raise InputError(
            "some of the files are CSV, and others are not", uri=parts[0].uri, hint=formats.GIVE_FORMAT
        )
    return csv_rows.rows(parts, how.types) if parts else found


def check_types(form: str, how: Reading, uri: str) -> None:
    """Reject types of columns for a format other than CSV."""
    if how.types:
        raise InputError(
            f"items_types= is for CSV, and this is {form}", uri=uri, hint="leave out items_types="
        )


def unzipped(data: bytes, uri: str) -> bytes:
    """Decompress bytes of gzip; return other bytes unchanged.

    Raises:
        InputError: They are damaged, or become more than ``RUNWIDE_MAX_TABLE_BYTES``.
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
                        hint="if that is intended, set RUNWIDE_MAX_TABLE_BYTES to more",
                    )
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(
            f"this cannot be read as gzip ({error})", uri=uri, hint="write the file again"
        ) from error
    return bytes(found)


def decoded(data: bytes, uri: str) -> str:
    """Return the text of a file in UTF-8, without a byte-order mark.

    Raises:
        InputError: The file is not UTF-8; the message names the line.
    """
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        number = data.count(b"\n", 0, error.start) + 1
        raise InputError(
            f"line {number} is not UTF-8 ({error.reason})",
            uri=uri,
            hint="write the file in UTF-8; or give items_format=, if it is not text",
        ) from error


def values_of_lines(text: str, uri: str) -> list[Any]:
    r"""Return the values of JSON lines; ``NaN`` and infinities are allowed, as in Python.

    Lines end at ``\n`` or ``\r\n`` only. Blank lines are skipped.

    Raises:
        InputError: A line is not JSON; the message names the line.

    Example:
        >>> values_of_lines('1\n{"a": 2}\n', "x.jsonl")
        [1, {'a': 2}]
    """
    return [
        formats.json_value(line, f"line {number}", uri=uri, hint=_HINT)
        for number, line in enumerate(text.split("\n"), 1)
        if line.strip(" \t\r")
    ]


def _listed(text: str, uri: str) -> list[Any]:
    if not text.strip():
        raise NoItems("the file is empty", uri=uri, hint="look at the program that wrote it")
    value = formats.json_value(text, "the file", uri=uri, hint=f"{_HINT}, such as {_HINT_LINES}")
    if not isinstance(value, list):
        raise InputError(
            "this is JSON, and not a JSON list",
            uri=uri,
            hint=f"write a list; or for one item a line, give {_HINT_LINES}",
        )
    return value


def names_of_table(names: Sequence[str]) -> list[str]:
    """Return the files of a folder that are parts of its table: those without a ``_`` or ``.`` at the start of a segment.

    Example:
        >>> names_of_table(["_SUCCESS", "day=1/part-0.parquet", "day=1/.part-0.parquet.crc", "_temporary/0/x.parquet"])
        ['day=1/part-0.parquet']
    """
    return [name for name in names if not any(part.startswith(("_", ".")) for part in name.split("/"))]
