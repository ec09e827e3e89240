"""Results as a file that other tools read: JSON lines, or Parquet."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from runwide.cli import files
from runwide.errors import InputError
from runwide.records import Failure

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

FORMATS = ("jsonl", "parquet")


def write(path: Path, results: Sequence[Any], form: str) -> None:
    """Write results to a file, whose folder is made if need be, in order.

    Args:
        path: The file.
        results: What the items gave; a `runwide.Failure` becomes a null, or a row of nulls.
        form: ``jsonl``, one result a line, or ``parquet``, one a row: a dict has its keys as columns, anything else is in
            the column ``result``.

    Raises:
        InputError: A result is no plain data, or pyarrow is missing.
    """
    values = [None if isinstance(one, Failure) else one for one in results]
    if form == "jsonl":
        files.write(path, "".join(map(_line, values)))
    else:
        _write_parquet(path, values)


def _line(value: Any) -> str:
    try:
        return json.dumps(value) + "\n"
    except (TypeError, ValueError) as error:
        raise InputError(
            f"a {type(value).__name__} is not JSON: {error}",
            hint="return plain data from the function, or leave out the dataset and use runwide.load",
        ) from error


def _write_parquet(path: Path, values: list[Any]) -> None:
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError as error:
        raise InputError(
            "a dataset as Parquet takes pyarrow, which is not installed here",
            hint="install pyarrow in the image of the components, or take JSON lines",
        ) from error
    rows = values if any(isinstance(one, dict) for one in values) else [{"result": one} for one in values]
    names = dict.fromkeys(name for row in rows if isinstance(row, dict) for name in row)
    try:
        table = pa.table({name: pa.array([(row or {}).get(name) for row in rows]) for name in names})
        path.parent.mkdir(parents=True, exist_ok=True)
        parquet.write_table(table, path)
    except (pa.ArrowException, AttributeError, TypeError) as error:
        raise InputError(
            f"these results are no table: {error}",
            hint="return plain values, or a dict with the same keys for each item",
        ) from error
    except OSError as error:
        raise InputError(f"the output cannot be written ({error.strerror})", uri=str(path)) from error
