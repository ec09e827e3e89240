"""Read rows of Parquet, and check the kinds of values in its columns."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias
from urllib.parse import unquote

from runwide.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


_FOLDER = "table"  # the name of the folder for pyarrow


def rows_of_file(data: bytes, uri: str) -> list[Any]:
    """Return the rows of a file, whose URI is for errors.

    Raises:
        InputError: The file is not Parquet, or pyarrow is missing.
    """
    with _mapped(uri):
        import pyarrow as pa
        from pyarrow import parquet

        file = parquet.ParquetFile(pa.BufferReader(data))
        _check_names(file.schema_arrow.names, uri)
        return file.read().to_pylist()  # type: ignore[no-any-return]  # pyarrow has no types


def rows_of_folder(files: Mapping[str, bytes], uri: str) -> list[Any]:
    """Return the rows of the files of a folder, in the order of their names.

    A subfolder ``day=2024-01-01`` means a column ``day``, as in pyarrow. A column is None in files that do not have it.

    Args:
        files: The bytes of each file, by its name in the folder.

    Raises:
        InputError: A file is not Parquet, the columns of the files do not fit each other, a column contradicts the name of
            its folder, or pyarrow is missing.
    """
    with _mapped(uri):
        import pyarrow as pa
        from pyarrow import dataset, fs

        names = sorted(files)
        for name in names:
            with _mapped(f"{uri.rstrip('/')}/{name}"):
                _check_folders(name, files[name])
        opened = partial(
            dataset.dataset,
            [f"{_FOLDER}/{name}" for name in names],
            format="parquet",
            filesystem=fs.PyFileSystem(_handler(files)),
            partitioning="hive",
            partition_base_dir=_FOLDER,
        )
        found = opened()
        own = [fragment.physical_schema.remove_metadata() for fragment in found.get_fragments()]
        schema = pa.unify_schemas([found.schema.remove_metadata(), *own], promote_options="permissive")
        _check_names(schema.names, uri)
        return opened(schema=schema).to_table().to_pylist()  # type: ignore[no-any-return]  # pyarrow has no types


@contextmanager
def _mapped(uri: str) -> Iterator[None]:
    """Turn errors of pyarrow into ours."""
    try:
        import pyarrow as pa
    except ImportError as error:
        raise InputError(
            "this is Parquet, and pyarrow is not installed here",
            uri=uri,
            hint="install pyarrow in the image of the components, or write JSON lines",
        ) from error
    try:
        yield
    except InputError as error:
        raise error if error.uri else InputError(error.message, uri=uri, hint=error.hint) from None
    except (pa.ArrowException, ArithmeticError, ValueError, OSError) as error:
        raise InputError(
            f"this cannot be read as parquet ({' '.join(str(error).split())})",
            uri=uri,
            hint="write the file again; or give items_format=, if it has another format",
        ) from error


def _check_names(names: list[str], uri: str) -> None:
    """Reject columns of the same name: a row, which is a dict, would keep only one of them."""
    double = sorted({name for name in names if names.count(name) > 1})
    if double:
        raise InputError(
            f"columns have the same name: {', '.join(map(repr, double))}",
            uri=uri,
            hint="give each column a name of its own",
        )


def _check_folders(name: str, data: bytes) -> None:
    """Reject a column that contradicts the name of its folder: pyarrow would silently replace its values."""
    import pyarrow as pa
    from pyarrow import parquet

    file = parquet.ParquetFile(pa.BufferReader(data))
    parts = [part.partition("=") for part in name.split("/")[:-1]]
    for column, value in [(unquote(before), unquote(after)) for before, found, after in parts if found]:
        if column not in file.schema_arrow.names:
            continue
        if any(one != value for one in file.read([column])[column].unique().to_pylist()):
            raise InputError(
                f"the column {column!r} has other values, or another type, than the name of its folder says",
                hint="rename the column or the folder, or leave the column out of the file",
            )


def _handler(files: Mapping[str, bytes]) -> Any:
    """Return a file system for pyarrow with these files."""
    import pyarrow as pa
    from pyarrow import fs

    content = {f"{_FOLDER}/{name}": data for name, data in files.items()}

    class Handler(fs.FileSystemHandler):  # type: ignore[misc]  # pyarrow has no types
        def get_type_name(self) -> str:
            return "runwide"

        def normalize_path(self, path: str) -> str:
            return path

        def get_file_info(self, paths: list[str]) -> list[Any]:
            return [
                fs.FileInfo(path, fs.FileType.File, size=len(content[path]))
                if path in content
                else fs.FileInfo(path, fs.FileType.NotFound)
                for path in paths
            ]

        def get_file_info_selector(self, selector: Any) -> list[Any]:
            return self.get_file_info([path for path in content if path.startswith(selector.base_dir)])

        def open_input_file(self, path: str) -> Any:
            return pa.BufferReader(content[path])

        open_input_stream = open_input_file

        def _refuse(self, *_: Any) -> None:
            raise NotImplementedError("this file system is read-only")

        create_dir = delete_dir = delete_dir_contents = delete_root_dir_contents = delete_file = _refuse
        move = copy_file = open_output_stream = open_append_stream = _refuse

    return Handler()


Place: TypeAlias = "tuple[str | None, ...]"
"""The place of a value inside a value of the column: keys of dicts, and None for the elements of a list."""

_KINDS: tuple[tuple[type | tuple[type, ...], str], ...] = (
    (bool, "a bool"),
    ((int, float), "a number"),
    (str, "a text"),
    (bytes, "bytes"),
    (date, "a date"),
    (time, "a time"),
    (timedelta, "a timedelta"),
    (Decimal, "a Decimal"),
    (list, "a list"),
    (dict, "a dict"),
)


@dataclass(slots=True)
class Kinds:
    """The kinds of values in a column.

    Args:
        known: The kind at each place.
        fine: Places of pandas times with nanoseconds; Python's own types have microseconds only.
    """

    known: dict[Place, str] = field(default_factory=dict)
    fine: set[Place] = field(default_factory=set)

    def misfit(self, value: Any) -> str | None:
        """Add a value, which may be None; return an error if its kind differs from that of earlier values.

        Example:
            >>> kinds = Kinds()
            >>> [kinds.misfit(value) for value in (1, None, 2.5, True)]
            [None, None, None, 'it is a bool, and an earlier value is a number']
        """
        for place, one in _inside(value, ()):
            kind = _kind(one)
            before = self.known.setdefault(place, kind)
            if before != kind:
                return f"{_named_place(place)} is {kind}, and an earlier value is {before}"
            if getattr(one, "nanosecond", 0) or getattr(one, "nanoseconds", 0):
                self.fine.add(place)
        return None


def _inside(value: Any, place: Place) -> Iterator[tuple[Place, Any]]:
    """Yield a value and all values inside it, with their places; skip None."""
    if value is None:
        return
    yield place, value
    if isinstance(value, dict):
        for name, one in value.items():
            yield from _inside(one, (*place, name))
    elif isinstance(value, list):
        for one in value:
            yield from _inside(one, (*place, None))


def _kind(value: Any) -> str:
    if isinstance(value, datetime):
        return f"a datetime {'without' if value.tzinfo is None else 'with'} a time zone"
    return next((kind for types, kind in _KINDS if isinstance(value, types)), type(value).__name__)


def _named_place(place: Place) -> str:
    return "its " + "".join("[]" if one is None else f"[{one!r}]" for one in place) if place else "it"


def with_nanoseconds(kind: Any, fine: set[Place], place: Place = ()) -> Any:
    """Return a type of pyarrow in which the times at some places have nanoseconds.

    Args:
        fine: The places with nanoseconds.
        place: The place of ``kind`` itself.

    Example:
        >>> import pyarrow as pa
        >>> with_nanoseconds(pa.list_(pa.timestamp("us", "UTC")), {(None,)}).value_type
        TimestampType(timestamp[ns, tz=UTC])
    """
    import pyarrow as pa

    if pa.types.is_struct(kind):
        return pa.struct(
            [one.with_type(with_nanoseconds(one.type, fine, (*place, one.name))) for one in kind]
        )
    if pa.types.is_list(kind):
        return pa.list_(with_nanoseconds(kind.value_type, fine, (*place, None)))
    if place not in fine:
        return kind
    return pa.duration("ns") if pa.types.is_duration(kind) else pa.timestamp("ns", kind.tz)
