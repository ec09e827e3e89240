"""Results as JSON lines and as Parquet, and what is no table."""

from __future__ import annotations

import pytest
from pyarrow.parquet import read_table

from runwide.cli import dataset
from runwide.errors import InputError
from runwide.records import Failure, FailureKind

FAILED = Failure(1, FailureKind.EXCEPTION, "ValueError", "no")


def test_json_lines_have_a_null_for_what_failed(tmp_path):
    dataset.write(tmp_path / "new" / "d", [1, FAILED, {"a": "x"}], "jsonl")
    assert (tmp_path / "new" / "d").read_text() == '1\nnull\n{"a": "x"}\n'


@pytest.mark.parametrize(
    ("results", "rows"),
    [
        ([1, FAILED, 3], [{"result": 1}, {"result": None}, {"result": 3}]),
        (
            [{"a": 1}, FAILED, {"a": 2, "b": "x"}],
            [{"a": 1, "b": None}, {"a": None, "b": None}, {"a": 2, "b": "x"}],
        ),
        ([[1, 2], [3]], [{"result": [1, 2]}, {"result": [3]}]),
    ],
)
def test_parquet_has_a_row_for_each_result(tmp_path, results, rows):
    dataset.write(tmp_path / "new" / "d", results, "parquet")
    assert read_table(tmp_path / "new" / "d").to_pylist() == rows


@pytest.mark.parametrize(
    ("results", "form", "message"),
    [
        ([object()], "jsonl", "a object is not JSON"),
        ([object()], "parquet", "these results are no table"),
        ([{"a": 1}, 2], "parquet", "these results are no table"),
        ([{"a": 1}, {"a": "x"}], "parquet", "these results are no table"),
    ],
)
def test_what_is_no_data_is_named(tmp_path, results, form, message):
    with pytest.raises(InputError, match=message):
        dataset.write(tmp_path / "d", results, form)
