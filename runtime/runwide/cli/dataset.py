"""Write results as JSON lines or Parquet."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from math import isfinite
from typing import TYPE_CHECKING, Any

from runwide import settings
from runwide.cli.output import write_text
from runwide.errors import InputError, ResultNotLoadable
from runwide.log import Log
from runwide.naming import kind_of
from runwide.records import Failure
from runwide.tables.parquet import Kinds, with_nanoseconds

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from runwide.tables.parquet import Place


log = Log("cli")

FORMATS = ("jsonl", "parquet")
_UNSIGNED = 1 << 64
_LARGE = "a whole number does not fit into 64 bits with a sign, from -2**63 to 2**63 - 1"
_SHOWN = 300  # characters of what pyarrow says


def write(path: Path, results: Sequence[Any], form: str) -> None:
    """Write results to a file in order, and create its folder if necessary.

    Args:
        results: The results; a `runwide.Failure` becomes a null, or a row of nulls. Tuples become lists, and numbers and
            arrays of numpy become those of Python.
        form: ``jsonl`` for one result a line: NaN and infinities become null, and a warning counts them. ``parquet`` for one
            result a row: the keys of a dict are its columns, and any other result is in the column ``result``.

    Raises:
        InputError: A result is not plain data, or does not fit the other results; ``error.item`` is its index. Or pyarrow
            is missing.
    """
    plain = Plain(rich=form == "parquet")
    values = [plain.of(result, item) for item, result in enumerate(results)]
    if form == "parquet":
        _write_parquet(path, values)
        return
    write_text(path, "".join(json.dumps(value, allow_nan=False) + "\n" for value in values))
    if plain.nulled:
        log.warning(
            "dataset.nulled",
            numbers=plain.nulled,
            items=plain.items,
            cause="JSON has no NaN and no infinite numbers; they were written as null",
        )


def _write_parquet(path: Path, values: list[Any]) -> None:
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError as error:
        raise InputError(
            "writing Parquet needs pyarrow, which is not installed here",
            hint="install pyarrow in the image of the components, or write JSON lines",
        ) from error
    table = pa.table({name: _column(name, column) for name, column in _columns(values).items()})
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        parquet.write_table(table, path)
    except pa.ArrowException as error:
        raise InputError(
            f"the results are not a table: {_one_line(error)}",
            hint="return plain values, or a dict with the same keys for each item",
        ) from error
    except OSError as error:
        raise InputError(f"the output cannot be written ({error.strerror})", uri=str(path)) from error


def _columns(values: list[Any]) -> dict[str, list[Any]]:
    if not any(isinstance(one, dict) for one in values):
        return {"result": values}
    for item, value in enumerate(values):
        if not isinstance(value, (dict, type(None))):
            raise InputError(
                f"the result is {kind_of(value)}; the other rows are dicts",
                item=item,
                hint="return a dict for each item, or for no item",
            )
    names = dict.fromkeys(name for row in values for name in row or ())
    if not names:
        raise InputError(
            "all results are empty dicts, so the Parquet table would have no columns",
            hint="return a value for each item, or write JSON lines",
        )
    return {name: [(row or {}).get(name) for row in values] for name in names}


def _column(name: str, values: list[Any]) -> Any:
    """Make a column; reject the first value that does not fit the earlier values."""
    import pyarrow as pa

    fine = _checked_kinds(name, values)
    error = _misfit(values, fine)
    if error is None:
        return pa.array(values, _type(values, fine))
    if _is_unsigned(values):
        return pa.array(values, pa.uint64())
    fitting, least = 0, len(values)
    while least - fitting > 1:  # the first `fitting` values fit together, the first `least` do not
        middle = (fitting + least) // 2
        found = _misfit(values[:middle], fine)
        fitting, least, error = (middle, least, error) if found is None else (fitting, middle, found)
    large = isinstance(error, OverflowError) or "too large" in str(error)
    raise InputError(
        f"the result does not fit the column {name!r}: " + (_LARGE if large else _one_line(error)),
        item=least - 1,
        hint="return values of one type in each column" + (", and large numbers as text" if large else ""),
    ) from error


def _checked_kinds(name: str, values: list[Any]) -> set[Place]:
    """Reject the first value whose kind differs from that of earlier values; return the places of nanoseconds."""
    kinds = Kinds()
    for item, value in enumerate(values):
        if misfit := kinds.misfit(value):
            raise InputError(
                f"the result does not fit the column {name!r}: {misfit}",
                item=item,
                hint="return values of one type in each column",
            )
    return kinds.fine


def _type(values: list[Any], fine: set[Place]) -> Any:
    """Return the type of a column; None if pyarrow may infer it."""
    import pyarrow as pa

    return with_nanoseconds(pa.infer_type(values), fine) if fine else None


def _is_unsigned(values: list[Any]) -> bool:
    """Return whether the values are unsigned 64-bit integers, a type that pyarrow does not infer."""
    known = [value for value in values if value is not None]
    return all(type(value) is int and 0 <= value < _UNSIGNED for value in known)


def _misfit(values: list[Any], fine: set[Place]) -> Exception | None:
    """Return the error that pyarrow raises for the values of a column, or None."""
    import pyarrow as pa

    try:
        pa.array(values, _type(values, fine))
    except (pa.ArrowException, OverflowError, TypeError, ValueError, AttributeError) as error:
        return error
    return None


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:_SHOWN]


def write_results(path: Path, form: str, reference: str) -> None:
    """Write the results of a job, by their reference, as ``jsonl`` or ``parquet``, None for failed items."""
    from runwide import job as jobs

    try:
        write(path, jobs.load(reference, on_error="return"), form)
    except InputError as error:
        error.hint = "; ".join(
            filter(None, (error.hint, f"the results themselves are stored: runwide.load({reference!r})"))
        )
        raise


_HINT = "return plain data from the function, or leave out the dataset and use runwide.load"
_RICH = (date, datetime, time, timedelta, Decimal, bytes)  # Parquet has types for these
_ARRAY_KINDS = "biufU"  # of numpy: bools, whole numbers, floats, texts


class NotPlain(ValueError):
    """A value is not plain data."""


@dataclass(slots=True)
class Plain:
    """A conversion of results to plain data, with counts of the numbers that became null.

    Args:
        rich: True for Parquet: dates, decimals and bytes are plain, and NaN stays NaN.
    """

    rich: bool
    nulled: int = 0
    items: int = 0

    def of(self, result: Any, item: int) -> Any:
        """Return a result as plain data; None for a failed item.

        Example:
            >>> Plain(rich=False).of({"a": (1, float("nan"))}, 0)
            {'a': [1, None]}
        """
        if isinstance(result, Failure):
            if isinstance(result.exception, ResultNotLoadable):
                raise InputError(result.exception.message, item=item, hint=result.exception.hint)
            return None
        before = self.nulled
        try:
            found = self._of(result, settings.max_json_depth())
        except NotPlain as error:
            raise InputError(str(error), item=item, hint=_HINT) from None
        self.items += self.nulled > before
        return found

    def _of(self, value: Any, depth: int) -> Any:
        if not depth:
            raise NotPlain("the result is nested too deep, or contains itself")
        scalar = self._scalar(value)
        if scalar is not _OTHER:
            return scalar
        if isinstance(value, dict):
            return self._object(value, depth)
        if isinstance(value, (list, tuple)):
            return [self._of(one, depth - 1) for one in value]
        if _is_of_numpy(value) and value.dtype.kind in _ARRAY_KINDS:
            return self._of(
                float(value) if value.dtype.char == "g" and not value.shape else value.tolist(), depth - 1
            )
        if self.rich and _is_missing(value):
            return None
        if self.rich and isinstance(value, time) and value.tzinfo is not None:
            raise NotPlain("a time with a time zone has no type in Parquet")
        if self.rich and isinstance(value, _RICH):
            return value
        raise NotPlain(f"{kind_of(value)} is not plain data of {'Parquet' if self.rich else 'JSON'}")

    def _scalar(self, value: Any) -> Any:
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, Enum) and not isinstance(value, (int, float, str)):
            return _OTHER
        if isinstance(value, int):
            return int(value)
        if isinstance(value, float):
            return self._number(float(value))
        return _text(value) if isinstance(value, str) else _OTHER

    def _number(self, value: float) -> float | None:
        if self.rich or isfinite(value):
            return value
        self.nulled += 1
        return None

    def _object(self, value: dict[Any, Any], depth: int) -> dict[str, Any]:
        found = {_key(key): self._of(one, depth - 1) for key, one in value.items()}
        if len(found) < len(value):
            raise NotPlain("keys of a dict become the same text")
        return found


_OTHER = object()


def _text(value: str) -> str:
    text = str.__str__(value)
    try:
        text.encode()
    except UnicodeEncodeError:
        raise NotPlain(f"the text {text[:80]!r} is invalid Unicode, and cannot be written as UTF-8") from None
    return text


def _key(key: Any) -> str:
    """Return a key of a dict as JSON writes it, a text."""
    if isinstance(key, str):
        return _text(key)
    if _is_of_numpy(key) and not key.shape:
        key = key.item()
    if key is None or isinstance(key, (bool, int)) or (isinstance(key, float) and isfinite(key)):
        return json.dumps(key)
    raise NotPlain(f"{kind_of(key)} cannot be the key of an object")


def _is_missing(value: Any) -> bool:
    """Return whether a value is a missing value of pandas, without importing pandas."""
    return type(value).__module__.startswith("pandas.") and type(value).__name__ in ("NaTType", "NAType")


def _is_of_numpy(value: Any) -> bool:
    """Return whether a value is a number or an array of numpy, without importing numpy."""
    return type(value).__module__ == "numpy" and hasattr(value, "dtype") and hasattr(value, "tolist")
