"""Wrong calls of the command line: an error with its name on one line, a non-zero exit status, and no lost results."""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
import sys
import zlib
from pathlib import Path

import cloudpickle
import pytest

import runwide
from runwide import json_text
from runwide.job import manifest
from runwide.job.reference import parse
from runwide.store.buffers import sha256

MODULE = """
import threading
def double(x): return 2 * x
def scaled(x, factor=1): return x * factor
def picky(x): return 1 // x
lock = threading.Lock()
def make():
    lock = threading.Lock()
    def inner(x): return lock
    return inner
locked = make()
number = 3
"""


@pytest.fixture
def cli(tmp_path):
    """Runs the real command line in a folder with a module of the user's."""
    Path(tmp_path, "mine.py").write_text(MODULE)

    def run(*args, expect=0):
        command = [sys.executable, "-c", "from runwide.cli import main; main()", *map(str, args)]
        environment = os.environ | {"RUNWIDE_LOG_LEVEL": "error"}
        done = subprocess.run(
            command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False, env=environment
        )
        assert done.returncode == expect, done.stderr
        return done

    return run


@pytest.fixture
def job(cli):
    return cli(
        "scatter",
        "--function",
        "mine:double",
        "--items-json",
        "[1, 2, 3]",
        "--store",
        "store",
        "--shards",
        "2",
    ).stdout.strip()


def refused(done, error, *words):
    """One line on standard error, with the error's name and everything that helps; nothing on standard output."""
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith(f"runwide: {error}: ")
    for word in words:
        assert re.search(word, lines[0]), lines[0]


def scatter(cli, *args, function=("--function", "mine:double"), items=("--items-json", "[1, 2]"), expect=0):
    rest = args or ("--store", "store", "--shards", "2")
    return cli("scatter", *function, *items, *rest, expect=expect)


def test_a_job_runs_from_scatter_to_gather(cli, tmp_path):
    out = ("--job-out", "out/job", "--shards-out", "out/deep/shards", "--constants-json", '{"factor": 10}')
    done = scatter(cli, "--store", "store", "--shards", "3", *out, function=("--function", "mine:scaled"))
    job = Path(tmp_path, "out/job").read_text()
    assert done.stdout == job + "\n"
    indices = json.loads(Path(tmp_path, "out/deep/shards").read_text())
    assert indices == ["0", "1"]
    for index in indices:
        full = cli("shard", job, index, "--workers", "1", "--manifest-out", f"out/{index}").stdout.strip()
        assert parse(full).folder.endswith(f"/shards/{int(index):04d}")
    short = json.dumps([Path(tmp_path, "out", index).read_text() for index in indices])
    result = cli("gather", job, "--shards-json", short, "--result-out", "out/result").stdout.strip()
    assert result == Path(tmp_path, "out/result").read_text()
    assert runwide.load(result) == [10, 20]
    assert "2 of 2 shards finished, 0 items failed, gathered" in cli("status", job).stdout
    assert json.loads(cli("status", job, "--json").stdout)["items"] == 2
    assert cli("clean", job, "--yes").stdout.startswith("deleted ")
    assert list(Path(tmp_path, "store").iterdir()) == []


@pytest.mark.parametrize("compressed", [False, True])
def test_a_function_may_come_as_base64_or_in_a_file(cli, tmp_path, compressed):
    pickled = cloudpickle.dumps(lambda x, add=0: x + add)
    text = base64.b64encode(zlib.compress(pickled) if compressed else pickled).decode()
    text = f"z:{text}" if compressed else text
    Path(tmp_path, "raw").write_bytes(pickled)
    Path(tmp_path, "text").write_text(text + "\n")
    for function in (("--function-base64", text), ("--function-file", "raw"), ("--function-file", "text")):
        rest = ("--store", "store", "--shards", "1", "--constants-json", '{"add": 5}')
        job = scatter(cli, *rest, function=function).stdout.strip()
        cli("shard", job, "0", "--workers", "1")
        assert runwide.load(cli("gather", job).stdout.strip()) == [6, 7]


@pytest.mark.parametrize(
    ("constants", "why"),
    [
        ('{"factr": 10}', r"unexpected keyword argument 'factr'.*it takes \(x, factor.*the item first"),
        ('{"x": 10}', "multiple values for argument 'x'"),
    ],
    ids=["unknown", "the item's"],
)
def test_constants_that_the_function_does_not_take_are_an_error_before_the_job_is_made(
    cli, tmp_path, constants, why
):
    rest = ("--store", "store", "--shards", "1", "--constants-json", constants)
    refused(scatter(cli, *rest, function=("--function", "mine:scaled"), expect=2), "InputError", why)
    assert not Path(tmp_path, "store").exists()


def test_map_prints_one_line_per_result_and_null_for_a_failed_one(cli, tmp_path):
    Path(tmp_path, "items.jsonl").write_text("1\n0\n\n2\n")
    done = cli("map", "mine:picky", "items.jsonl", "--workers", "1", expect=1)
    assert done.stdout == "1\nnull\n0\n"
    assert re.fullmatch(
        r"runwide: TasksFailed: 1 of 3 items failed: item 1: ZeroDivisionError: .*\n", done.stderr
    )


def test_a_failed_item_fails_gather_unless_on_error_is_return(cli):
    done = scatter(cli, function=("--function", "mine:picky"), items=("--items-json", "[1, 0, 2]"))
    job = done.stdout.strip()
    for index in "01":
        cli("shard", job, index, "--workers", "1")
    refused(
        cli("gather", job, expect=1), "TasksFailed", "1 of 3", "item 1: ZeroDivisionError", "on-error return"
    )
    result = cli("gather", job, "--on-error", "return").stdout.strip()
    found = runwide.load(result, on_error="return")
    assert (found[0], found[1].type, found[2]) == (1, "ZeroDivisionError", 0)


def test_a_function_that_cannot_be_pickled(cli, tmp_path):
    done = scatter(cli, function=("--function", "mine:locked"), expect=2)
    refused(done, "FunctionNotPicklable", "lock")
    assert not Path(tmp_path, "store").exists()


@pytest.mark.parametrize(
    ("function", "why"),
    [
        (("--function", "mine:nothing"), "has no attribute 'nothing'"),
        (("--function", "nowhere:f"), "No module named 'nowhere'"),
        (("--function", "mine"), "names no function"),
        (("--function", "mine:number"), "is an int, not a function"),
        (("--function-base64", "!!"), "not base64"),
        (("--function-base64", "AAAA"), "not base64 of a pickle"),
        (("--function-base64", "z:AAAA"), "not base64 of a pickle"),
        (("--function-file", "nowhere"), "cannot be read"),
        ((), "give one of"),
        (("--function", "mine:double", "--function-base64", "x"), "not --function and --function-base64"),
    ],
)
def test_an_invalid_function(cli, function, why):
    refused(scatter(cli, function=function, expect=2), "InputError", why)


@pytest.mark.parametrize(
    ("items", "error", "why"),
    [
        (("--items-json", "[]"), "NoItems", "no items"),
        (("--items-json", "{}"), "InputError", "not a JSON list"),
        (("--items-json", "[1,"), "InputError", "not JSON"),
        (("--items-file", "nowhere.json"), "InputError", "cannot be read.*nowhere.json"),
        ((), "InputError", "give one of"),
    ],
)
def test_invalid_items(cli, items, error, why):
    refused(scatter(cli, items=items, expect=2), error, why)


def test_an_item_that_cannot_be_pickled_is_named(tmp_path):
    # Items of the command line are JSON, so this one is for Python.
    with pytest.raises(runwide.errors.ItemNotPicklable, match="item 1: a generator cannot be pickled"):
        runwide.scatter(abs, [1, (x for x in ())], store=str(tmp_path), shards=1)


def test_a_store_that_cannot_be_written(cli, tmp_path):
    Path(tmp_path, "file").touch()
    done = scatter(cli, "--store", "file/store", "--shards", "1", expect=1)
    refused(done, "StoreNotWritable", "file/store", "choose another store")


def test_a_missing_store(cli):
    refused(
        scatter(cli, "--store", "s3://x/y", "--shards", "1", expect=2), "BadReference", "no store for s3://"
    )


@pytest.mark.gcs
def test_a_missing_bucket(cli, gcs):
    done = scatter(cli, "--store", "gs://nowhere/x", "--shards", "1", expect=1)
    refused(done, "StoreNotFound", "gs://nowhere/x/", "gcloud storage buckets create")


def test_a_digest_that_does_not_match(cli, job):
    folder = parse(job).folder
    Path(folder, "function.pkl").write_bytes(b"other")
    done = cli("shard", job, "0", expect=1)
    refused(done, "DigestMismatch", "function.pkl", "none of them was unpickled")


def changed(job, **changes):
    reference = parse(job)
    path = Path(reference.uri)
    about = json_text.loads(path.read_bytes()) | changes
    path.write_bytes(json_text.dumps(about))
    return f"{path}#sha256={sha256(path.read_bytes())}"


def test_a_job_made_by_another_python(cli, job):
    environment = dict(manifest.read_job(job).environment) | {"python": "3.9.18"}
    done = cli("shard", changed(job, environment=environment), "0", expect=1)
    refused(done, "EnvironmentMismatch", r"Python 3\.9\.18", r"image with Python 3\.9")


def test_a_job_of_a_newer_format(cli, job):
    refused(
        cli("shard", changed(job, format=99), "0", expect=1), "FormatTooNew", "format 99", "upgrade runwide"
    )


@pytest.mark.parametrize("index", ["2", "99"])
def test_a_shard_out_of_range(cli, job, index):
    refused(cli("shard", job, index, expect=2), "ShardOutOfRange", f"no shard {index}", "from 0 to 1")


def test_a_missing_job(cli, job):
    cli("clean", job, "--yes")
    for command in (("shard", job, "0"), ("gather", job), ("status", job)):
        refused(cli(*command, expect=1), "StoreNotFound", "the job was deleted")


def test_an_invalid_reference_of_a_job(cli):
    for command in (("shard", "nonsense", "0"), ("gather", "nonsense"), ("status", "nonsense")):
        refused(cli(*command, expect=2), "BadReference", "pass the whole line")


def test_missing_shards_lose_no_finished_results(cli, job):
    cli("shard", job, "1", "--workers", "1")
    refused(
        cli("gather", job, expect=1),
        "JobIncomplete",
        "1 of 2 shards have not finished: 0",
        "runwide shard .* 0",
    )
    cli("shard", job, "0", "--workers", "1")
    assert runwide.load(cli("gather", job).stdout.strip()) == [2, 4, 6]


@pytest.mark.parametrize("text", ["[1]", "{}", '["x"]'])
def test_invalid_references_of_shards(cli, job, text):
    done = cli("gather", job, "--shards-json", text, expect=2)
    assert len(done.stderr.splitlines()) == 1


def test_clean_asks_first(cli, job):
    done = cli("clean", job, expect=2)  # standard input is empty
    asked, said = done.stderr.splitlines()
    assert asked.startswith("Delete everything below")
    assert said.endswith("give --yes")
    assert Path(parse(job).uri).exists()


def test_an_output_that_cannot_be_written(cli, tmp_path):
    Path(tmp_path, "file").touch()
    done = scatter(cli, "--store", "store", "--shards", "1", "--job-out", "file/job", expect=2)
    refused(done, "InputError", "output cannot be written", "file/job")


def test_a_failed_item_can_be_replayed_and_run_again(cli, tmp_path):
    done = scatter(cli, function=("--function", "mine:picky"), items=("--items-json", "[1, 0, 2]"))
    job = done.stdout.strip()
    for index in "01":
        cli("shard", job, index, "--workers", "1")
    assert cli("replay", job, "2").stdout == "0\n"
    assert "ZeroDivisionError" in cli("replay", job, "1", expect=1).stderr
    refused(cli("replay", job, "9", expect=2), "InputError", "no item 9")
    shards = cli("rerun", job, "--workers", "1").stdout
    result = cli("gather", job, "--shards-json", shards, "--on-error", "return").stdout.strip()
    assert runwide.load(result, on_error="return")[0] == 1
    source = tmp_path / "mine.py"
    source.write_text(source.read_text() + "\n\ndef mended(x):\n    return 10 // x if x else -1\n")
    assert cli("replay", job, "1", "--function", "mine:mended").stdout == "-1\n"
    shards = cli("rerun", job, "--workers", "1", "--function", "mine:mended").stdout
    assert runwide.load(cli("gather", job, "--shards-json", shards).stdout.strip())[1] == -1
    refused(cli("rerun", job, "--function", "mine:no", expect=2), "InputError", "mine:no cannot be imported")


def test_jobs_can_be_cleaned_by_age(cli, job, tmp_path):
    assert cli("clean", "--older-than", "1h", "store").stdout == "no job is that old\n"
    refused(cli("clean", "--older-than", "soon", "store", expect=2), "InputError", "7d, 12h or 30m")
    Path(tmp_path, "store", parse(job).folder.rpartition("/")[2]).rename(
        tmp_path / "store/a-20200101t000000-0123456789abcdef"
    )
    assert "a-20200101t000000" in cli("clean", "--older-than", "7d", "--yes", "store").stdout
    assert list(Path(tmp_path, "store").iterdir()) == []


def test_clean_rejects_folders_that_are_not_jobs(cli, tmp_path):
    refused(cli("clean", tmp_path, "--yes", expect=2), "BadReference", "not the folder of a job")
