"""Read the rows of CSV as dicts, with a type for each column."""

from __future__ import annotations

import csv
import io
import re
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from runwide.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

MISSING = frozenset(
    ("", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>", "N/A", "NA",
     "NULL", "NaN", "None", "n/a", "nan", "null")
)  # fmt: skip
"""Fields that mean a missing value: the default of ``na_values`` of `pandas.read_csv`."""

_SPACE = r"[ \t\n\v\f\r]*"
_INT = re.compile(rf"{_SPACE}[+-]?[0-9]+{_SPACE}")
_FLOAT = re.compile(
    rf"{_SPACE}[+-]?(?:(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?|inf(?:inity)?){_SPACE}", re.IGNORECASE
)
_BOOL = {"true": True, "false": False}
_BLANK = " \t\n\r"  # pandas skips lines that have nothing else
# Python converts whole numbers of at most so many digits; a longer one would be an infinite float
_DIGITS = 4300
_SHOWN = 10  # columns in one message


@dataclass(frozen=True, slots=True)
class Part:
    """The text of a file of CSV, and its URI for errors."""

    text: str
    uri: str


@dataclass(frozen=True, slots=True)
class _Line:
    number: int
    values: Sequence[str]
    uri: str


def rows(parts: Iterable[Part], types: Mapping[str, str]) -> list[dict[str, Any]]:
    r"""Return the rows of files that have the same columns, in order.

    The types of columns follow `pandas.read_csv`: ints if all fields are whole numbers, floats if all are numbers, bools if
    all are true or false, else texts. Missing values are None. Unlike in pandas, integers stay ints if some are missing.

    Args:
        types: Types of some columns by name. In a column of ``str``, only an empty field is missing.

    Raises:
        InputError: A row has more or fewer values than the header, or a value does not have the type of its column.

    Example:
        >>> rows([Part("zip,days\n01234,7\n75001,\n", "x.csv")], {"zip": "str"})
        [{'zip': '01234', 'days': 7}, {'zip': '75001', 'days': None}]
    """
    names: list[str] = []
    lines: list[_Line] = []
    for part in parts:
        header, found = _read(part)
        if header and names and sorted(header) != sorted(names):
            raise InputError(
                f"the columns differ from those of the first file: {_shown(header)}, not {_shown(names)}",
                uri=part.uri,
                hint="give files that have the same columns",
            )
        lines += _in_order(found, header, names)
        names = names or header
    _check_columns(names, types, lines)
    columns = [
        _typed(names[at], [line.values[at] for line in lines], types, lines) for at in range(len(names))
    ]
    return [dict(zip(names, values, strict=True)) for values in zip(*columns, strict=True)]


def texts(part: Part) -> list[dict[str, str]]:
    r"""Return the rows of a file with their values as texts.

    Raises:
        InputError: A row has more or fewer values than the header.

    Example:
        >>> texts(Part("zip,days\n01234,7\n", "x.csv"))
        [{'zip': '01234', 'days': '7'}]
    """
    names, lines = _read(part)
    return [dict(zip(names, line.values, strict=True)) for line in lines]


def _in_order(lines: list[_Line], header: list[str], names: list[str]) -> list[_Line]:
    """Return lines with their values in the order of the columns of the first file."""
    if not names or header == names:
        return lines
    order = [header.index(name) for name in names if name in header]
    return [_Line(line.number, [line.values[at] for at in order], line.uri) for line in lines]


def _read(part: Part) -> tuple[list[str], list[_Line]]:
    with _fields_of_any_length():
        records = _records(part)
        header = next(records, None)
        if header is None:
            return [], []
        names = _names(header)
        return names, [_fitting(record, len(names)) for record in records]


def _records(part: Part) -> Iterator[_Line]:
    last = _Last(io.StringIO(part.text, newline=""))
    reader = csv.reader(last, strict=True)
    while True:
        number = reader.line_num + 1
        try:
            values = next(reader, None)
        except csv.Error as error:
            raise InputError(
                f"this cannot be read as csv: line {number}: {error}",
                uri=part.uri,
                hint='quote fields that contain commas, quotes or line ends, and write a quote as two: ""',
            ) from error
        if values is None:
            return
        if last.line.strip(_BLANK):
            yield _Line(number, values, part.uri)


class _Last:
    """An iterator over lines that remembers the last line, since the module `csv` does not report all blank lines."""

    def __init__(self, lines: Iterable[str]) -> None:
        self._lines = iter(lines)
        self.line = ""

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        self.line = next(self._lines)
        return self.line


@contextmanager
def _fields_of_any_length() -> Iterator[None]:
    """Lift the field limit of the module `csv` for a while; it is one limit for the whole process."""
    before = csv.field_size_limit(sys.maxsize)
    try:
        yield
    finally:
        csv.field_size_limit(before)


def _names(header: _Line) -> list[str]:
    """Return the names of the columns; a column without a name gets the name that pandas gives it."""
    names = [name or f"Unnamed: {at}" for at, name in enumerate(header.values)]
    double = sorted({name for name in names if names.count(name) > 1}) if len(set(names)) < len(names) else []
    if double:
        raise InputError(
            f"line {header.number} names columns twice: {_shown(double)}",
            uri=header.uri,
            hint="give each column a name of its own",
        )
    return names


def _fitting(record: _Line, columns: int) -> _Line:
    if len(record.values) != columns:
        raise InputError(
            f"line {record.number} has {len(record.values)} values, and the header has {columns}",
            uri=record.uri,
            hint="write one value for each column; quote values that contain commas",
        )
    return record


def _check_columns(names: Sequence[str], types: Mapping[str, str], lines: Sequence[_Line]) -> None:
    unknown = [name for name in types if name not in names]
    if unknown and names:
        raise InputError(
            f"items_types= names columns that are not there: {_shown(unknown)}",
            uri=lines[0].uri if lines else None,
            hint=f"the columns are {_shown(names)}",
        )


def _shown(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names[:_SHOWN])) + (", …" if len(names) > _SHOWN else "")


def _typed(name: str, values: list[str], types: Mapping[str, str], lines: Sequence[_Line]) -> list[Any]:
    if name not in types:
        return _inferred(values)
    convert = _CONVERSIONS[types[name]]
    found = []
    for value, line in zip(values, lines, strict=True):
        try:
            found.append(convert(value))
        except ValueError:
            raise InputError(
                f"line {line.number}, column {name!r}: {value[:80]!r} is not of type {types[name]}",
                uri=line.uri,
                hint='correct the value, or give items_types= another type, such as "str"',
            ) from None
    return found


def _inferred(values: list[str]) -> list[Any]:
    """Convert the values of a column to the first type that fits all of them."""
    present = [value for value in values if value not in MISSING]
    for convert in (_int, _float, _bool):
        try:
            known = {value: convert(value) for value in dict.fromkeys(present)}
        except ValueError:
            continue
        return [known.get(value) for value in values]
    return [None if value in MISSING else value for value in values]


def _int(value: str) -> int:
    if not _INT.fullmatch(value):
        raise ValueError(value)
    return int(value)  # raises ValueError for more digits than Python converts


def _float(value: str) -> float:
    if not _FLOAT.fullmatch(value) or (len(value) > _DIGITS and _INT.fullmatch(value)):
        raise ValueError(value)
    return float(value)


def _bool(value: str) -> bool:
    found = _BOOL.get(value.lower())
    if found is None:
        raise ValueError(value)
    return found


def _or_missing(convert: Callable[[str], Any]) -> Callable[[str], Any]:
    return lambda value: None if value in MISSING else convert(value)


_CONVERSIONS: dict[str, Callable[[str], Any]] = {
    "str": lambda value: value or None,
    "int": _or_missing(_int),
    "float": _or_missing(_float),
    "bool": _or_missing(_bool),
}
