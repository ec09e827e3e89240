"""Results as a file that other tools read: JSON lines, or Parquet."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from runwide.cli import files
from runwide.cli.column_kinds import Kinds, with_nanoseconds
from runwide.cli.plain_data import Plain
from runwide.errors import InputError
from runwide.log import Log

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path as FilePath

    from runwide.cli.column_kinds import Path

log = Log("cli")

FORMATS = ("jsonl", "parquet")
_UNSIGNED = 1 << 64
_LARGE = "a whole number does not fit into 64 bits with a sign, from -2**63 to 2**63 - 1"
_SHOWN = 300  # characters of what pyarrow says


def write(path: FilePath, results: Sequence[Any], form: str) -> None:
    """Write results to a file, whose folder is made if need be, in order.

    Args:
        path: The file.
        results: What the items gave; a `runwide.Failure` becomes a null, or a row of nulls. Tuples become lists, numbers and
            arrays of numpy those of Python.
        form: ``jsonl``, one result a line, where NaN and infinities are null, with a warning that counts them; or
            ``parquet``, one a row: a dict has its keys as columns, anything else is in the column ``result``.

    Raises:
        InputError: A result is no plain data, or does not fit the others; ``error.item`` is its
            index. Or pyarrow is missing.
    """
    plain = Plain(rich=form == "parquet")
    values = [plain.of(result, item) for item, result in enumerate(results)]
    if form == "parquet":
        _write_parquet(path, values)
        return
    files.write(path, "".join(json.dumps(value, allow_nan=False) + "\n" for value in values))
    if plain.nulled:
        log.warning(
            "dataset.nulled",
            numbers=plain.nulled,
            items=plain.items,
            cause="JSON has no NaN and no infinite numbers: they were written as null",
        )


def _write_parquet(path: FilePath, values: list[Any]) -> None:
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError as error:
        raise InputError(
            "a dataset as Parquet takes pyarrow, which is not installed here",
            hint="install pyarrow in the image of the components, or take JSON lines",
        ) from error
    table = pa.table({name: _column(name, column) for name, column in _columns(values).items()})
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        parquet.write_table(table, path)
    except pa.ArrowException as error:
        raise InputError(
            f"these results are no table of Parquet: {_said(error)}",
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
                f"the result is no row of the table: it is a {type(value).__name__}, and others are dicts",
                item=item,
                hint="return a dict for each item, or for none",
            )
    names = dict.fromkeys(name for row in values for name in row or ())
    if not names:
        raise InputError(
            "the results are empty dicts, of which Parquet makes no columns",
            hint="return a value for each item, or take JSON lines",
        )
    return {name: [(row or {}).get(name) for row in values] for name in names}


def _column(name: str, values: list[Any]) -> Any:
    """Make a column; reject the first value that does not fit those before it."""
    import pyarrow as pa

    fine = _checked_kinds(name, values)
    error = _misfit(values, fine)
    if error is None:
        return pa.array(values, _type(values, fine))
    if _is_unsigned(values):
        return pa.array(values, pa.uint64())
    fitting, least = 0, len(values)
    while least - fitting > 1:  # so many values fit, and so many do not
        middle = (fitting + least) // 2
        found = _misfit(values[:middle], fine)
        fitting, least, error = (middle, least, error) if found is None else (fitting, middle, found)
    large = isinstance(error, OverflowError) or "too large" in str(error)
    raise InputError(
        f"the result does not fit the column {name!r}: " + (_LARGE if large else _said(error)),
        item=least - 1,
        hint="return values of one type in each column" + (", and large numbers as text" if large else ""),
    ) from error


def _checked_kinds(name: str, values: list[Any]) -> set[Path]:
    """Reject the first value of another kind than those before it; return the places of nanoseconds."""
    kinds = Kinds()
    for item, value in enumerate(values):
        if misfit := kinds.misfit(value):
            raise InputError(
                f"the result does not fit the column {name!r}: {misfit}",
                item=item,
                hint="return values of one type in each column",
            )
    return kinds.fine


def _type(values: list[Any], fine: set[Path]) -> Any:
    """The type of a column, None where pyarrow may infer it."""
    import pyarrow as pa

    return with_nanoseconds(pa.infer_type(values), fine) if fine else None


def _is_unsigned(values: list[Any]) -> bool:
    """Tell whether the values are whole numbers of 64 bits without a sign, a type that pyarrow does not infer."""
    known = [value for value in values if value is not None]
    return all(type(value) is int and 0 <= value < _UNSIGNED for value in known)


def _misfit(values: list[Any], fine: set[Path]) -> Exception | None:
    """Return the error of pyarrow for values that are no column, or None."""
    import pyarrow as pa

    try:
        pa.array(values, _type(values, fine))
    except (pa.ArrowException, OverflowError, TypeError, ValueError, AttributeError) as error:
        return error
    return None


def _said(error: Exception) -> str:
    return " ".join(str(error).split())[:_SHOWN]


def write_results(path: FilePath, form: str, reference: str) -> None:
    """Write the results of a job as a dataset, None for those that failed.

    Args:
        path: The file.
        form: ``jsonl`` or ``parquet``.
        reference: The results.

    Raises:
        InputError: They do not fit the format, and say where they are stored.
    """
    from runwide import job as jobs

    try:
        write(path, jobs.load(reference, on_error="return"), form)
    except InputError as error:
        error.hint = "; ".join(
            filter(None, (error.hint, f"the results themselves are stored: runwide.load({reference!r})"))
        )
        raise
