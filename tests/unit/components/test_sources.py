"""The sources of a fan-out's items, and the number of components that they are worth."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from urllib.parse import urlencode
from urllib.request import Request, urlopen

import pytest

import runwide
from runwide.cli import scatter
from runwide.errors import FrameCorrupt, InputError, NoItems, ObjectNotFound
from runwide.job import finish
from runwide.store import open_store
from runwide.tables.sources import items_from

ROWS = [{"country": "fr", "days": 7}, {"country": "de", "days": 14}]


def parquet(path):
    import pyarrow as pa
    from pyarrow import parquet

    parquet.write_table(pa.Table.from_pylist(ROWS), path)


def written(path, text: str) -> str:
    path.write_text(text, encoding="utf-8")
    return str(path)


@pytest.mark.parametrize("ending", [".jsonl", ".ndjson", ""])
def test_json_lines_are_one_item_each(tmp_path, ending):
    text = "\n".join(json.dumps(row) for row in ROWS) + "\n\n"
    assert items_from(written(tmp_path / f"rows{ending}", text)) == ROWS


@pytest.mark.parametrize("ending", [".json", ""])
def test_a_json_list_is_the_items(tmp_path, ending):
    assert items_from(written(tmp_path / f"rows{ending}", json.dumps(ROWS))) == ROWS


@pytest.mark.parametrize("ending", [".csv", ".CSV", ""])
def test_rows_of_csv_are_dicts_with_the_types_of_their_columns(tmp_path, ending):
    assert items_from(written(tmp_path / f"rows{ending}", '\ufeffcountry,days\nfr,7\n"de",14\n')) == ROWS


@pytest.mark.parametrize("ending", [".parquet", ""])
def test_rows_of_parquet_are_dicts(tmp_path, ending):
    parquet(tmp_path / f"rows{ending}")
    assert items_from(str(tmp_path / f"rows{ending}")) == ROWS


def test_what_a_user_names_may_be_a_link_and_lie_behind_links(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "given").symlink_to("data")
    written(tmp_path / "data/real.csv", "country,days\nfr,7\nde,14\n")
    (tmp_path / "data/beside.csv").symlink_to("real.csv")
    written(tmp_path / "elsewhere", "country,days\nfr,7\nde,14\n")
    (tmp_path / "data/far.csv").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "data/gone.csv").symlink_to("nothing")
    for name in ("real.csv", "beside.csv"):
        assert items_from(f"{tmp_path}/given/{name}") == ROWS
        assert items_from(f"file://{tmp_path}/data/{name}") == ROWS
    assert items_from(f"{tmp_path}/given/far.csv") == ROWS
    assert items_from(f"{tmp_path}/given/*.csv") == [
        f"{tmp_path}/given/{name}.csv" for name in ("beside", "far", "real")
    ]
    (tmp_path / "data/loop.csv").symlink_to("loop.csv")
    with pytest.raises(FrameCorrupt, match="a link, not an object"):
        items_from(f"{tmp_path}/data/loop.csv")


def test_files_that_match_are_items_by_their_uris(tmp_path):
    for name in ("day/b.parquet", "day/a.parquet", "day/c.csv", "day/deep/d.parquet", "other/e.parquet"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    assert items_from(f"{tmp_path}/day/*.parquet") == [
        f"{tmp_path}/day/a.parquet",
        f"{tmp_path}/day/b.parquet",
    ]
    assert items_from(f"file://{tmp_path}/*/[ad]*.parquet") == [f"file://{tmp_path}/day/a.parquet"]


def create_placeholder(uri: str, name: str) -> None:
    """Make an empty object such as a console makes for a folder."""
    bucket, _, prefix = uri.removeprefix("gs://").partition("/")
    wanted = urlencode({"uploadType": "media", "name": f"{prefix}/{name}"})
    host = os.environ["STORAGE_EMULATOR_HOST"]
    urlopen(Request(f"{host}/upload/storage/v1/b/{bucket}/o?{wanted}", data=b"", method="POST")).close()


@pytest.mark.gcs
def test_a_bucket_is_read_as_a_folder_is(gcs):
    with open_store(gcs) as store:
        store.create("day/1.csv", b"x\n1\n")
        store.create("day/2.csv", b"x\n2\n")
    create_placeholder(gcs, "day/")
    create_placeholder(gcs, "day_$folder$")
    with pytest.raises(NoItems):
        items_from(f"{gcs}/*")
    assert items_from(f"{gcs}/**") == [f"{gcs}/day/1.csv", f"{gcs}/day/2.csv"]
    assert items_from(f"{gcs}/day/*.csv") == [f"{gcs}/day/1.csv", f"{gcs}/day/2.csv"]
    assert items_from(f"{gcs}/day/2.csv") == [{"x": 2}]


def test_results_of_another_job_are_items_with_their_types(tmp_path):
    job = runwide.scatter(lambda x: (x, {x}), [1, 2], store=str(tmp_path), shards=1)
    runwide.shard(job, 0, workers=1)
    assert items_from(finish(job)) == [(1, {1}), (2, {2})]
    assert items_from(job) == items_from(finish(job))
    with pytest.raises(InputError, match="not the reference of results"):
        items_from(job.replace("job.json", "function.pkl"))


@pytest.mark.parametrize(
    ("name", "text", "error", "message"),
    [
        ("empty.jsonl", "", NoItems, "there are no items"),
        ("bad.jsonl", "1\n{", InputError, "line 2 is not JSON"),
        ("bad.json", '{"a": 1}', InputError, "JSON, and not a JSON list"),
        ("bad.json", "[", InputError, "the file is not JSON"),
        ("bad.csv", 'a,b\n"x', InputError, "cannot be read as csv"),
        ("bad.parquet", "PAR1", InputError, "cannot be read as parquet"),
    ],
)
def test_a_file_that_is_not_what_it_should_be_is_named(tmp_path, name, text, error, message):
    with pytest.raises(error, match=message) as caught:
        items_from(written(tmp_path / name, text))
    assert name in str(caught.value)


def test_a_missing_source_is_an_error(tmp_path):
    with pytest.raises(ObjectNotFound):
        items_from(f"{tmp_path}/none.csv")
    with pytest.raises(NoItems, match="there are no items"):
        items_from(f"{tmp_path}/*.csv")
    with pytest.raises(InputError, match=r"expected a URI or an absolute path"):
        items_from("rows.csv")


def test_quick_items_are_worth_one_component_and_slow_ones_more():
    assert scatter.size_of("auto", lambda: abs, list(range(1000))).shards == 1
    assert scatter.components_for(30.0, items=1000, workers=4) == 13
    assert scatter.components_for(3600.0, items=1000, workers=4) == 20
    assert scatter.components_for(0.0, items=1, workers=4) == 1


def test_a_sample_that_is_too_slow_ends_and_counts(monkeypatch):
    monkeypatch.setattr(scatter, "_SAMPLE_SECONDS", 0.5)

    def slow(x):
        import time

        time.sleep(30)

    assert scatter.size_of("auto", lambda: slow, list(range(100_000))).shards == 20


@pytest.mark.parametrize("text", ["0", "-1", "many", "1.5", ""])
def test_an_invalid_number_of_shards_is_rejected(text):
    with pytest.raises(InputError, match="invalid --shards"):
        scatter.size_of(text, lambda: abs, [1])


def test_what_was_measured_is_not_computed_again(tmp_path):
    (tmp_path / "counting.py").write_text(
        "from pathlib import Path\n"
        "def work(x):\n"
        f"    with Path({str(tmp_path / 'calls')!r}).open('a') as file:\n"  # the module runs where its code was unpacked
        "        file.write(f'{x}\\n')\n"
        "    return 1 // x\n"
    )
    words = ["scatter", "--function", "counting:work", "--items-json", json.dumps([1, 0, *range(2, 40)])]
    done = subprocess.run(
        [sys.executable, "-m", "runwide.cli", *words, "--store", str(tmp_path / "store"), "--shards", "auto"],
        cwd=tmp_path, capture_output=True, text=True, check=True, timeout=60,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
    )  # fmt: skip
    job = done.stdout.strip()
    measured = (tmp_path / "calls").read_text().split()
    assert len(measured) == 16
    subprocess.run(
        [sys.executable, "-m", "runwide.cli", "shard", job, "0"],
        cwd=tmp_path, capture_output=True, check=True, timeout=60,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
    )  # fmt: skip
    calls = Counter((tmp_path / "calls").read_text().split())
    assert calls == {str(x): 1 for x in range(40)} | ({"0": 2} if "0" in measured else {})
    results = runwide.gather(job, on_error="return")
    assert [results[0], *results[2:]] == [1, *(1 // x for x in range(2, 40))]
    assert results[1].type == "ZeroDivisionError"
