"""Read items from a table, a pattern of files, or the results of another job."""

from __future__ import annotations

import os
import re
from contextlib import contextmanager
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runwide.errors import InputError, NoItems, ObjectNotFound
from runwide.store import open_store
from runwide.tables import formats, parquet, rows

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from runwide.store.base import Store

_WILD = re.compile(r"[*?\[]")
_MARKER = "_$folder$"  # Hadoop makes an empty object whose name ends in this for each folder


def items_from(
    source: str,
    *,
    form: str | None = None,
    types: str | Mapping[str, Any] | None = None,
    metadata: Mapping[str, Any] | None = None,
) -> list[Any]:
    r"""Return the items that a text names.

    Args:
        source: The reference of a job's results, which become the items. Or a URI with ``*``, ``?``, ``[…]`` or ``**`` (any
            number of folders); the items are the URIs that match, in the order of their names. Or the URI of a table: a file
            of JSON lines (one item a line), a JSON list, CSV or Parquet (one item a row, as a dict), also compressed by
            gzip; or a folder of Parquet.
        form: The format of the table: ``"jsonl"``, ``"json"``, ``"csv"`` or ``"parquet"``. With a pattern, the items are the
            rows of all files that match. ``"files"``: the items are the files of a pattern or a folder. None: the metadata,
            the ending of the name, or else the first bytes decide.
        types: Types of CSV columns such as ``{"zip": "str"}``, or their JSON; other columns get types from their values.
        metadata: The metadata of the artifact.

    Raises:
        NoItems: Nothing matches, or the table is empty.
        InputError: The source is none of these, or cannot be read.
        StoreError: The file does not exist, or the store does not answer.

    Example:
        >>> with open_store("memory://doc-sources") as store:
        ...     store.create("rows.csv", b"country,days\nfr,7\n")
        >>> items_from("memory://doc-sources/rows.csv")
        [{'country': 'fr', 'days': 7}]
        >>> items_from("memory://doc-sources/rows.csv", types={"days": "str"})
        [{'country': 'fr', 'days': '7'}]
        >>> items_from("memory://doc-sources/*.csv")
        ['memory://doc-sources/rows.csv']
    """
    found = _items(source, rows.reading(form, types, metadata, source))
    if not found:
        hint = "look at the output of the previous step"
        if "[" in source and "#sha256=" not in source:
            hint += '; for a "[" in a name, write [[]'
        raise NoItems("there are no items", uri=source, hint=hint)
    return found


def items_of_artifacts(
    artifacts: Sequence[tuple[str, Mapping[str, Any]]],
    *,
    form: str | None = None,
    types: str | Mapping[str, Any] | None = None,
) -> list[Any]:
    """Return the items of a list of artifacts: their URIs in order, or the rows of all of them.

    Args:
        artifacts: URI and metadata of each artifact.
        form: None or ``"files"`` for the URIs, another format for the rows.

    Raises:
        NoItems: There are no artifacts, or they have no rows.

    Example:
        >>> items_of_artifacts([("gs://b/1", {}), ("gs://b/2", {})])
        ['gs://b/1', 'gs://b/2']
    """
    uris = [uri for uri, _ in artifacts]
    if form in (None, "files"):
        found = _as_files(uris, rows.reading(form, types, None, "the artifacts"))
    else:
        found = [
            row
            for uri, metadata in artifacts
            for row in _items(uri, rows.reading(form, types, metadata, uri))
        ]
    if not found:
        raise NoItems(
            f"there are no items in {len(uris)} artifacts", hint="look at the output of the previous step"
        )
    return found


def is_pattern(source: str) -> bool:
    """Return whether a text is a pattern of files.

    Example:
        >>> is_pattern("day/*.csv"), is_pattern("day/1.csv")
        (True, False)
    """
    return _WILD.search(source) is not None


def check_words(source: str, form: str | None, types: Mapping[str, Any] | None) -> None:
    """Reject options for a table that contradict its URI, before a job is made; the arguments are those of `items_from`.

    Raises:
        InputError: The format or a type is unknown, or the URI is not of such a table.

    Example:
        >>> check_words("gs://bucket/rows.csv", None, {"zip": "str"})
    """
    how = rows.reading(form, types, None, source)
    named = formats.of_name(source)
    if "#sha256=" in source:
        _check_results(source, how)
    elif is_pattern(source) and how.form is None:
        _as_files([], how)
    elif how.form is None and named not in (None, "csv"):
        rows.check_types(named, how, source)


def _items(source: str, how: rows.Reading) -> list[Any]:
    if "#sha256=" in source:
        return _results(source, how)
    folder, slash, name = source.rpartition("/")
    if slash and not folder and Path(source).is_dir():
        raise _not_a_table(source)
    if not slash or not folder:
        raise InputError(
            f"invalid items {source!r}: expected a URI or an absolute path",
            hint="give gs://bucket/rows.jsonl or /folder/rows.jsonl",
        )
    pattern = is_pattern(source)
    if how.form == "files":
        return _matches(source if pattern else f"{source.rstrip('/')}/*")
    if pattern:
        uris = _matches(source)
        return rows.items(map(_file, uris), how) if how.form else _as_files(uris, how)
    if not name or _is_local_folder(folder, name):
        return _folder(source.rstrip("/"), how)
    try:
        return rows.items([_file(source)], how)
    except ObjectNotFound:
        if not _names(source):
            raise
        return _folder(source, how)


def _results(source: str, how: rows.Reading) -> list[Any]:
    from runwide.job.reference import is_reference

    if not is_reference(source):
        raise InputError(
            "this is not the reference of results", uri=source, hint="pass the output of gather or fan_out"
        )
    _check_results(source, how)
    from runwide.job import load

    return load(source)


def _check_results(source: str, how: rows.Reading) -> None:
    if how.form or how.types:
        raise InputError(
            "items_format= and items_types= are for tables, and this is the reference of results",
            uri=source,
            hint="leave them out",
        )


def _as_files(uris: list[str], how: rows.Reading) -> list[str]:
    if how.types:
        raise InputError(
            "items_types= is for CSV, and the items are the names of files",
            hint='give items_format="csv" (--items-format csv) as well, for the rows of these files',
        )
    return uris


def _file(uri: str) -> rows.File:
    folder, _, name = uri.rpartition("/")
    with _opened(folder, name) as (store, there):
        return rows.File(bytes(store.read(there)), name, uri)


@contextmanager
def _opened(folder: str, name: str) -> Iterator[tuple[Store, str]]:
    """Open the store of a file, and yield its name there; a file of this machine may be a link, since the user named it."""
    with open_store(folder) as store:
        if not _is_local(store):
            yield store, name
            return
        target = Path(os.path.realpath(Path(store.uri, name)))  # resolve() fails on a loop of links
    with open_store(target.parent) as store:
        yield store, target.name


def _is_local(store: Store) -> bool:
    return "://" not in store.uri


def _is_local_folder(folder: str, name: str) -> bool:
    with open_store(folder) as store:
        return _is_local(store) and Path(store.uri, name).is_dir()


def _folder(uri: str, how: rows.Reading) -> list[Any]:
    """Return the rows of a folder of Parquet."""
    names = rows.names_of_table(_names(uri))
    if not names:
        raise NoItems("the folder has no files", uri=uri, hint="look at the output of the previous step")
    files = {} if how.form not in (None, "parquet") or not _may_be_parquet(names, how) else _files(uri, names)
    if not files or not (how.form or how.metadata_form or all(map(formats.is_parquet, files.values()))):
        raise _not_a_table(uri)
    rows.check_types("parquet", how, uri)
    return parquet.rows_of_folder(files, uri)


def _not_a_table(folder: str) -> InputError:
    return InputError(
        "this is a folder, and only folders of Parquet are read as one table",
        uri=folder,
        hint="give a pattern of its files, such as FOLDER/**/*.csv, with items_format= for their rows",
    )


def _may_be_parquet(names: Sequence[str], how: rows.Reading) -> bool:
    known = how.form or how.metadata_form
    return all((known or formats.of_name(name)) in (None, "parquet") for name in names)


def _files(folder: str, names: Sequence[str]) -> dict[str, bytes]:
    return {name: _file(f"{folder}/{name}").data for name in names}


def _names(folder: str, start: str = "") -> list[str]:
    """Return the files below a folder, at any depth, in the order of their names."""
    with open_store(folder) as store:
        if _is_local(store):
            return _local_names(store.uri)
        found = list(store.list(start))
    return [one.name for one in found if one.size or not one.name.endswith(_MARKER)]


def _local_names(folder: str) -> list[str]:
    """Return the files below a folder of this machine, which may be links."""
    found = (Path(directory, name) for directory, _, names in os.walk(folder) for name in names)
    return sorted(path.relative_to(folder).as_posix() for path in found if path.is_file())


def _matches(pattern: str) -> list[str]:
    fixed = pattern[: _WILD.search(pattern).start()]  # type: ignore[union-attr]  # there is one, or this is not called
    folder, _, start = fixed.rpartition("/")
    wanted = pattern[len(folder) + 1 :].split("/")
    return [f"{folder}/{name}" for name in _names(folder, start) if fits(name.split("/"), wanted)]


def fits(name: Sequence[str], pattern: Sequence[str]) -> bool:
    """Return whether the segments of a name match those of a pattern, in which ``**`` matches any number of segments.

    Example:
        >>> [fits(name.split("/"), ["**", "*.csv"]) for name in ("a.csv", "day/1/a.csv", "day/a.txt")]
        [True, True, False]
    """
    parts = [*pattern, "*"] if pattern[-1] == "**" else pattern  # at the end, ** matches files
    reached = _skipping({0}, parts)
    for segment in name:
        held = {at for at in reached if at < len(parts) and parts[at] == "**"}
        passed = {at + 1 for at in reached - held if at < len(parts) and fnmatchcase(segment, parts[at])}
        reached = _skipping(held | passed, parts)
    return len(parts) in reached


def _skipping(reached: set[int], parts: Sequence[str]) -> set[int]:
    """Return the reached places of a pattern, with those after a ``**`` that matches no segments."""
    found = set(reached)
    for at in range(len(parts)):
        if at in found and parts[at] == "**":
            found.add(at + 1)
    return found
