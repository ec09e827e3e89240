"""Items from where a pipeline keeps them: a table, a pattern of files, or the results of another job."""

from __future__ import annotations

import csv
import io
import os
import re
from contextlib import contextmanager
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runwide import settings
from runwide.cli.inputs import unpacked_lines
from runwide.errors import InputError, NoItems
from runwide.parsing import json_of
from runwide.spill import open_store

if TYPE_CHECKING:
    from collections.abc import Iterator

    from runwide.spill.store import Store

_RESULT = re.compile(r".*/result[^/]*\.json#sha256=[0-9a-f]{64}")
_WILD = re.compile(r"[*?\[]")
_SNIFFED = 4  # bytes that tell Parquet, which begins with PAR1


def items_from(source: str) -> list[Any]:
    r"""The items that a text stands for.

    Args:
        source: The reference of a job's results, which become the items; a URI with ``*``, ``?`` or ``[…]``, whose
            matches are the items, as URIs in the order of their names; or the URI of a file: JSON lines (one item a
            line), a JSON list, CSV or Parquet (one item a row, as a dict; of CSV, all values are text). Where the name
            does not end in .jsonl, .json, .csv or .parquet, as that of an artifact, the first bytes tell.

    Raises:
        NoItems: Nothing matches, or the table is empty.
        InputError: It cannot be read as any of these.
        StoreError: The file is not there, or the store does not answer.

    Example:
        >>> with open_store("memory://doc-sources") as store:
        ...     store.create("rows.csv", b"country,days\nfr,7\n")
        >>> items_from("memory://doc-sources/rows.csv")
        [{'country': 'fr', 'days': '7'}]
        >>> items_from("memory://doc-sources/*.csv")
        ['memory://doc-sources/rows.csv']
    """
    found = _items(source)
    if not found:
        raise NoItems("there are no items", uri=source, hint="look at what the step before has written")
    return found


def _items(source: str) -> list[Any]:
    if _RESULT.fullmatch(source):
        from runwide import job as jobs

        return jobs.load(source)
    if "#sha256=" in source:
        raise InputError(
            "this is not the reference of results", uri=source, hint="pass what gather or fan_out put out"
        )
    folder, slash, name = source.rpartition("/")
    if not slash or not folder:
        raise InputError(
            f"{source!r} is not the URI of items", hint="give gs://bucket/rows.jsonl, or an absolute path"
        )
    if _WILD.search(source):
        return _matches(source)
    with _opened(folder, name) as (store, there):
        return rows_of(bytes(store.read(there)), name, source)


@contextmanager
def _opened(folder: str, name: str) -> Iterator[tuple[Store, str]]:
    """The store of a file, and its name there; a file of this machine may be a link, since the user has named it."""
    with open_store(folder) as store:
        if not _is_local(store):
            yield store, name
            return
        target = Path(os.path.realpath(Path(store.uri, name)))  # resolve() fails on a loop of links
    with open_store(target.parent) as store:
        yield store, target.name


def _is_local(store: Store) -> bool:
    return "://" not in store.uri


def _matches(pattern: str) -> list[str]:
    fixed = pattern[: _WILD.search(pattern).start()]  # type: ignore[union-attr]  # there is one, or this is not called
    folder, _, start = fixed.rpartition("/")
    rest = pattern[len(folder) + 1 :]
    with open_store(folder) as store:
        names = _local_names(store.uri) if _is_local(store) else _names(store, start)
        return [
            f"{folder}/{name}"
            for name in names
            if fnmatchcase(name, rest) and name.count("/") == rest.count("/")
        ]


def _names(store: Store, start: str) -> list[str]:
    return [info.name for info in store.list(start)]


def _local_names(folder: str) -> list[str]:
    """Files below a folder of the user's own, which may be links."""
    found = (Path(directory, name) for directory, _, names in os.walk(folder) for name in names)
    return sorted(path.relative_to(folder).as_posix() for path in found if path.is_file())


def rows_of(data: bytes, name: str, uri: str) -> list[Any]:
    """The items in a file.

    Args:
        data: Its bytes.
        name: Its name, whose ending tells what it is.
        uri: Where it comes from, for errors.

    Raises:
        InputError: The bytes are not what they should be.
    """
    kind = _kind(name, data)
    try:
        if kind == "parquet":
            return _of_parquet(data)
        text = data.decode("utf-8-sig")
        if kind == "json":
            return _listed(json_of(text, depth=settings.max_json_depth()))
        if kind == "jsonl":
            return unpacked_lines(text, uri)
        return [dict(row) for row in csv.DictReader(io.StringIO(text, newline=""), strict=True)]
    except InputError as error:
        error.uri = error.uri or uri
        raise
    except (ValueError, csv.Error) as error:
        raise InputError(f"this cannot be read as {kind} ({error})", uri=uri) from error


def _kind(name: str, data: bytes) -> str:
    ending = name.rpartition(".")[2].lower()
    if ending in ("jsonl", "ndjson"):
        return "jsonl"
    if ending in ("json", "csv", "parquet"):
        return ending
    if data[:_SNIFFED] == b"PAR1":
        return "parquet"
    first = data.lstrip()[:1]
    return {b"[": "json", b"{": "jsonl"}.get(first, "csv")


def _listed(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise InputError("this is JSON, and no list", hint="write one item a line, and call it .jsonl")
    return value


def _of_parquet(data: bytes) -> list[Any]:
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError as error:
        raise InputError(
            "this is Parquet, and pyarrow is not installed here",
            hint="install pyarrow in the image of the components, or write JSON lines",
        ) from error
    try:
        rows: list[Any] = parquet.read_table(pa.BufferReader(data)).to_pylist()
    except pa.ArrowException as error:
        raise InputError(f"this cannot be read as parquet ({error})") from error
    return rows
