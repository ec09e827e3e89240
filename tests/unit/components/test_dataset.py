"""Results as JSON lines and as Parquet, and results that are not a table."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum, IntEnum
from math import inf, isnan, nan
from typing import NamedTuple

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from pyarrow.json import read_json
from pyarrow.parquet import read_table

import runwide
from runwide.cli import cli, dataset
from runwide.errors import InputError, ResultNotLoadable
from runwide.records import Failure, FailureKind
from runwide.tables.sources import items_from

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
        ([2**63, FAILED, 2**64 - 1], [{"result": 2**63}, {"result": None}, {"result": 2**64 - 1}]),
        ([[1, 2], [3]], [{"result": [1, 2]}, {"result": [3]}]),
    ],
)
def test_parquet_has_a_row_for_each_result(tmp_path, results, rows):
    dataset.write(tmp_path / "new" / "d", results, "parquet")
    assert read_table(tmp_path / "new" / "d").to_pylist() == rows


class Point(NamedTuple):
    x: int
    y: float


@dataclass
class Record:
    x: int


class Size(IntEnum):
    SMALL = 1


class Colour(Enum):
    RED = "red"


def written(path, results, form):
    dataset.write(path, results, form)
    if form == "parquet":
        rows = read_table(path).to_pylist()
        return [row["result"] for row in rows] if rows[0].keys() == {"result"} else rows
    return [json.loads(line, parse_constant=pytest.fail) for line in path.read_text().splitlines()]


@pytest.mark.parametrize("form", ["jsonl", "parquet"])
@pytest.mark.parametrize(
    ("result", "plain"),
    [
        (np.int64(7), 7),
        (np.float32(0.5), 0.5),
        (np.longdouble(0.5), 0.5),
        (np.bool_(True), True),
        (np.str_("x"), "x"),
        (np.arange(3), [0, 1, 2]),
        ((1, 2), [1, 2]),
        (Point(1, 0.5), [1.0, 0.5]),
        (Size.SMALL, 1),
        ({"a": (1, np.int8(2))}, {"a": [1, 2]}),
        ({1: "x"}, {"1": "x"}),
        (True, True),
        ("\u2028", "\u2028"),
        (None, None),
    ],
    ids=range(14),
)
def test_numbers_of_numpy_and_tuples_become_plain_data(tmp_path, form, result, plain):
    assert written(tmp_path / "d", [result, result], form) == [plain, plain]


LOOP: list = []
LOOP.append(LOOP)


@pytest.mark.parametrize("form", ["jsonl", "parquet"])
@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize(
    "result",
    [
        object(),
        {1},
        Record(1),
        Colour.RED,
        1j,
        LOOP,
        "\ud800",
        {(1, 2): 3},
        {1: 2, "1": 3},
        np.datetime64("2024-01-01"),
    ],
    ids=range(10),
)
def test_a_result_that_is_not_plain_data_is_an_error_that_names_the_item(tmp_path, form, result, nested):
    with pytest.raises(InputError, match=r"item 1: .*runwide\.load") as caught:
        dataset.write(tmp_path / "d", [None, {"a": [result]} if nested else result], form)
    assert caught.value.item == 1
    assert not (tmp_path / "d").exists()


@pytest.mark.parametrize(
    "result",
    [date(2024, 1, 1), datetime(2024, 1, 1, tzinfo=timezone.utc), Decimal("1.5"), b"x"],
    ids=range(4),
)
def test_dates_decimals_and_bytes_are_data_of_parquet_and_not_of_json(tmp_path, result):
    assert written(tmp_path / "d", [result], "parquet") == [result]
    with pytest.raises(InputError, match=r"item 0: a \w+ is not plain data of JSON"):
        dataset.write(tmp_path / "e", [result], "jsonl")


def test_numbers_that_are_none_are_null_in_json_lines_with_one_warning_that_counts_them(tmp_path, caplog):
    results = [nan, {"a": [inf, 1.0], "b": -inf}, 2.0, np.float64(nan)]
    assert written(tmp_path / "d", results, "jsonl") == [None, {"a": [None, 1.0], "b": None}, 2.0, None]
    (record,) = [one for one in caplog.records if one.levelname == "WARNING"]
    assert "dataset.nulled" in record.getMessage()
    assert "numbers=4" in record.getMessage()
    assert "items=3" in record.getMessage()


def test_numbers_that_are_none_stay_so_in_parquet(tmp_path, caplog):
    found = written(tmp_path / "d", [inf, nan, 1.0], "parquet")
    assert (found[0], isnan(found[1]), found[2]) == (inf, True, 1.0)
    assert not caplog.records


def test_strict_readers_read_the_files(tmp_path):
    results = [{"a": nan, "b": "\u2028", "n": 2**40}, {"a": 1.5, "b": None, "n": 1}]
    wanted = [{**results[0], "a": None}, results[1]]
    dataset.write(tmp_path / "d", results, "jsonl")
    assert read_json(tmp_path / "d").to_pylist() == wanted
    dataset.write(tmp_path / "e", wanted, "parquet")
    assert read_table(tmp_path / "e").to_pylist() == wanted
    assert items_from(str(tmp_path / "d"), metadata={"format": "jsonl"}) == wanted
    assert items_from(str(tmp_path / "e")) == wanted


@pytest.mark.parametrize(
    ("results", "message"),
    [
        ([1, 2, 2**70, 3], "item 2: .*column 'result': a whole number does not fit into 64 bits"),
        ([{"a": 1}, {"a": [2**64]}], "item 1: .*column 'a'"),
        ([{"a": [1]}, {"a": [-(2**63) - 1]}], "item 1: .*64 bits"),
        ([2**64 - 1, -1], "item 0: "),
        ([1] * 1000 + ["x"] + [1] * 1000, "item 1000: .*column 'result'"),
        ([{"a": 1}, None, {"a": "x"}], "item 2: .*column 'a'"),
        ([{"a": 1}, 2], "item 1: .*the result is an int; the other rows are dicts"),
        ([2, {"a": 1}], "item 0: .*the other rows are dicts"),
        ([[1], 2], "item 1: "),
        ([True, 2], "item 1: "),
        ([{}, {}], "empty dicts"),
        ([{"a": {}}], "the results are not a table"),
    ],
    ids=range(12),
)
def test_results_that_are_no_table_are_an_error_that_names_the_item(tmp_path, results, message):
    with pytest.raises(InputError, match=message):
        dataset.write(tmp_path / "d", results, "parquet")


NOON = datetime(2024, 1, 1, 12)  # noqa: DTZ001 - without a time zone on purpose
EAST = timezone(timedelta(hours=5))
NANOSECONDS = [pd.Timestamp(123, tz="UTC"), pd.Timestamp(123), pd.Timedelta(123)]
PAIRS = {
    "date and datetime": (date(2024, 1, 1), NOON),
    "aware and naive": (NOON.replace(tzinfo=EAST), NOON),
    "text and bytes": ("a", b"b"),
    "number and bool": (0.5, True),
    "number and decimal": (1, Decimal("1.5")),
    "time and timedelta": (time(12), timedelta(1)),
}


@pytest.mark.parametrize("turn", [1, -1], ids=["as is", "turned"])
@pytest.mark.parametrize(
    "around", [lambda one: one, lambda one: {"x": [None, {"y": one}]}], ids=["bare", "nested"]
)
@pytest.mark.parametrize("pair", PAIRS)
def test_two_kinds_of_values_in_a_column_are_an_error_and_none_becomes_the_other(
    tmp_path, pair, around, turn
):
    first, second = map(around, PAIRS[pair][::turn])
    with pytest.raises(InputError, match=r"item 2: .*does not fit the column 'a': .*and an earlier value is"):
        dataset.write(tmp_path / "d", [{"a": first}, None, {"a": second}], "parquet")
    if around(1) != 1:
        with pytest.raises(InputError, match="item 0: "):
            dataset.write(tmp_path / "d", [{"a": [first, second]}], "parquet")


@pytest.mark.parametrize("around", [lambda one: one, lambda one: {"x": [{"y": one}]}], ids=["bare", "nested"])
@pytest.mark.parametrize("value", NANOSECONDS, ids=["aware", "naive", "timedelta"])
def test_nanoseconds_of_pandas_stay_in_parquet(tmp_path, value, around):
    results = [{"a": around(value)}, {"a": around(None)}]
    assert written(tmp_path / "d", results, "parquet") == results


def test_what_pandas_has_for_missing_values_is_null_in_parquet(tmp_path):
    assert written(tmp_path / "d", [pd.NaT, NOON, pd.NA], "parquet") == [None, NOON, None]
    assert written(tmp_path / "d", [[1, pd.NA], [2]], "parquet") == [[1, None], [2]]


def test_a_time_with_a_time_zone_is_no_data_of_parquet(tmp_path):
    assert written(tmp_path / "d", [time(12)], "parquet") == [time(12)]
    with pytest.raises(InputError, match="item 0: a time with a time zone"):
        dataset.write(tmp_path / "d", [time(12, tzinfo=EAST)], "parquet")


def test_the_error_of_a_large_number_says_what_fits(tmp_path):
    with pytest.raises(InputError, match=r"item 0: .*from -2\*\*63 to 2\*\*63 - 1"):
        dataset.write(tmp_path / "d", [{"a": [2**63]}], "parquet")


@pytest.mark.parametrize("form", ["jsonl", "parquet"])
def test_a_result_that_cannot_be_loaded_here_is_an_error_and_no_null(tmp_path, form):
    missing = Failure(
        1, FailureKind.PICKLING, "ResultNotLoadable", "no", exception=ResultNotLoadable("it is not here")
    )
    with pytest.raises(InputError, match="item 1: it is not here"):
        dataset.write(tmp_path / "d", [1, missing], form)


@pytest.mark.parametrize("form", ["jsonl", "parquet"])
def test_a_dataset_that_fails_leaves_the_results_where_they_are(tmp_path, form):
    job = runwide.scatter(lambda x: {x} if x == 2 else x, [1, 2], store=str(tmp_path / "store"), shards=1)
    runwide.shard(job, 0, workers=1)
    words = ["gather", job, "--dataset-out", str(tmp_path / "d"), "--dataset-format", form]
    done = CliRunner().invoke(cli, [*words, "--result-out", str(tmp_path / "result")])
    assert done.exit_code != 0
    reference = (tmp_path / "result").read_text()
    assert done.stdout.strip() == reference
    assert isinstance(done.exception, InputError)
    assert "item 1: a set is not plain data" in str(done.exception)
    assert f"runwide.load('{reference}')" in str(done.exception)
    assert runwide.load(reference) == [1, {2}]
