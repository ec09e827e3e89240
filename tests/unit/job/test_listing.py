"""A listing of a store shows the true states of its jobs, takes few requests, and unpickles nothing."""

from __future__ import annotations

import json
import os
import sys
import time
from collections import Counter

import pytest
import terminal
from click.testing import CliRunner

import runwide
from runwide.cli import cli
from runwide.errors import BadReference
from runwide.job import finish, manifest
from runwide.job.listing import State, jobs_of
from runwide.job.reference import parse
from runwide.store import records
from runwide.store.base import open_store
from runwide.testing.stores import mount

FORBIDDEN = "a-20261124t231308-0000000000000000"


def halved(x):
    return 4 // x


def of(store, **options):
    return {
        parse(one.reference).folder if one.reference else one.id: one
        for one in jobs_of(store, **options).jobs
    }


def test_states_are_those_of_the_store(anywhere):
    named = runwide.map(halved, [4, 2], store=anywhere, name="scores", workers=1).job
    failed = runwide.map(halved, [4, 0], store=anywhere, workers=1, on_error="return").job
    half = runwide.scatter(halved, [4, 0], store=anywhere, shards=2)
    runwide.shard(half, 0, workers=1)
    new = runwide.scatter(halved, [4], store=anywhere, shards=1)
    ungathered = runwide.scatter(halved, [4, 0], store=anywhere, shards=1)
    runwide.shard(ungathered, 0, workers=1)
    removed = runwide.map(halved, [4], store=anywhere, workers=1).job
    with open_store(anywhere) as root:
        for info in root.sub(parse(removed).folder.rpartition("/")[2]).list("shards/0000/chunks/"):
            root.sub(parse(removed).folder.rpartition("/")[2]).delete(info.name)
        root.create(f"{FORBIDDEN}/items/000.pack", b"x")
        root.create("pictures/cat.jpg", b"x")
        root.create("batches/nightly/runs/x/000-claimed.json", b"{}")
    listing = jobs_of(anywhere)
    assert (listing.batches, listing.others, listing.older) == (("nightly",), ("pictures",), 0)
    found = of(anywhere)
    states = {one: found[parse(one).folder].state for one in (named, failed, half, new, ungathered, removed)}
    assert list(states.values()) == [
        State.FINISHED, State.FAILURES, State.RUNNING, State.UNSTARTED, State.FAILURES, State.INCOMPLETE,
    ]  # fmt: skip
    assert of(anywhere, now=time.time() + 3600)[parse(half).folder].state is State.INCOMPLETE
    scores = found[parse(named).folder]
    assert (scores.name, scores.items, scores.failed, scores.gathered) == ("scores", 2, 0, True)
    assert scores.bytes > 500
    assert scores.core_seconds > 0
    assert scores.cost is not None
    assert scores.cost.dollars > 0
    assert found[parse(ungathered).folder].failed == 1
    assert found[parse(new).folder].cost is None
    assert found[FORBIDDEN].state is State.DAMAGED
    made = [one.created for one in listing.jobs]
    assert made == sorted(made, reverse=True)
    assert [one.id for one in jobs_of(anywhere, limit=2).jobs] == [one.id for one in listing.jobs[:2]]
    assert jobs_of(anywhere, limit=2).older == len(listing.jobs) - 2


def test_a_failed_item_that_succeeded_later_does_not_count_as_failed(memory):
    job = runwide.map(halved, [4, 0], store=memory, workers=1, on_error="return").job
    runwide.rerun(job, function=lambda x: x, workers=1)
    assert [one.state for one in jobs_of(memory).jobs] == [State.FINISHED]


def test_a_listing_takes_few_requests():
    inner = "memory://listing-requests"
    for _ in range(3):
        job = runwide.scatter(halved, [4, 2, 1, 4], store=inner, shards=4)
        finish(job, [runwide.shard(job, index, workers=1) for index in range(4)])
    asked = Counter()
    store = mount("listing", inner, lambda method, *_: asked.update([method]))
    assert [one.finished for one in jobs_of(store).jobs] == [4, 4, 4]
    # the folders, then of each job: its objects, job.json and result.json; names has none
    assert asked == {"folders": 1, "list": 4, "read": 6}


def test_only_the_names_of_shown_jobs_are_read(tmp_path):
    inner = str(tmp_path / "store")
    for name in ("old", "new"):
        runwide.map(halved, [4], store=inner, name=name, workers=1)
    newest = next(one for one in jobs_of(inner).jobs if one.name == "new")
    for path in (tmp_path / "store" / "names").iterdir():
        if newest.id not in path.read_text():
            os.utime(path, (1000, 1000))
    read = []
    store = mount("names", inner, lambda method, name, _: read.append((method, name)))
    assert {one.name for one in jobs_of(store).jobs} == {"", "new"}
    assert len([name for method, name in read if method == "read" and "/names/" in name]) == 1


def test_the_machine_comes_from_the_record_of_a_run(memory):
    job = runwide.map(halved, [4], store=memory, workers=1).job
    about = manifest.read_job(job)
    plain = jobs_of(memory).jobs[0].cost
    resources = {
        "cpu": None,
        "memory": None,
        "accelerator": None,
        "machine_type": "n2-standard-32",
        "spot": False,
        "retries": 0,
    }
    with open_store(about.uri) as folder:
        run = {"run": "x", "engine": {"engine": "vertex"}, "resources": resources}
        folder.create("runs/000.json", records.written("run", run, owner=about.digest, place="runs/000.json"))
    (one,) = jobs_of(memory).jobs
    assert (one.where.engine, one.where.machine) == ("vertex", "n2-standard-32")
    assert one.cost.dollars > plain.dollars + 0.03  # the fee of a run
    assert "Vertex AI" in one.cost.basis
    assert runwide.report(job).metrics["estimated_dollars"] == pytest.approx(one.cost.dollars, rel=0.2)


def test_nothing_is_unpickled(memory):
    job = runwide.map(halved, [4], store=memory, workers=1).job
    with open_store(parse(job).folder) as folder:
        for info in list(folder.list()):
            if info.name.endswith((".pkl", ".pack")):
                folder.delete(info.name)
                folder.create(info.name, b"cos\nsystem\n(S'exit 1'\ntR.")
    assert [one.items for one in jobs_of(memory).jobs] == [1]


def test_the_command_prints_a_table_or_an_object_a_line(tmp_path, monkeypatch):
    store = str(tmp_path / "store")
    job = runwide.map(halved, [4, 0], store=store, name="scores", workers=1, on_error="return").job
    (tmp_path / "store" / FORBIDDEN).mkdir()
    (tmp_path / "store" / FORBIDDEN / "job.json").write_text("{}")
    (tmp_path / "store" / "pictures").mkdir()
    monkeypatch.setenv("RUNWIDE_STORE", store)
    said = CliRunner().invoke(cli, ["ls"], catch_exceptions=False)
    head, row, damaged = said.stdout.splitlines()
    assert head.split() == ["job", "name", "age", "function", "items", "state", "size", "cost"]
    assert parse(job).folder.rpartition("/")[2] in row
    assert all(word in row for word in ("scores", "halved", "1 failed", "KiB", "under $0.01"))
    assert FORBIDDEN in damaged
    assert "damaged" in damaged
    assert f"{FORBIDDEN} cannot be read: " in said.stderr
    assert "other folders: pictures" in said.stderr
    assert "costs are estimates: list prices of 2026-09-23" in said.stderr
    objects = [json.loads(line) for line in CliRunner().invoke(cli, ["ls", "--json"]).stdout.splitlines()]
    assert [one["state"] for one in objects] == ["failures", "damaged"]
    assert objects[0]["reference"] == job
    assert objects[0]["failed"] == 1
    assert objects[0]["estimate"].startswith("list prices of 2026-09-23")
    monkeypatch.delenv("RUNWIDE_STORE")
    assert isinstance(CliRunner().invoke(cli, ["ls"]).exception, runwide.errors.InputError)
    refused = CliRunner().invoke(cli, ["ls", parse(job).folder]).exception
    assert str(refused).startswith("this is a job, not a store")
    assert "no jobs in" in CliRunner().invoke(cli, ["ls", str(tmp_path / "store" / "pictures")]).stderr


def test_a_missing_folder_is_an_error_and_not_an_empty_store(tmp_path):
    (tmp_path / "items.jsonl").write_text("1\n")
    for name in ("nope", "items.jsonl"):
        with pytest.raises(BadReference, match="the folder does not exist"):
            jobs_of(tmp_path / name)
    assert jobs_of(tmp_path).jobs == ()


LONG = "a-name-of-more-than-forty-characters-for-scores"
LEFT_OUT = {50: "name, age, function, items, size, cost", 66: "age, function, size, cost", 160: ""}


@pytest.mark.parametrize("columns", LEFT_OUT)
def test_a_narrow_terminal_names_the_columns_that_do_not_fit_and_cuts_nothing(columns, tmp_path):
    runwide.map(halved, [4], store=tmp_path, name=LONG, workers=1)
    job = runwide.map(halved, [4, 0], store=tmp_path, workers=1, on_error="return").job
    env = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
    words = [sys.executable, "-m", "runwide.cli", "ls", str(tmp_path)]
    said = terminal.run(words, columns=columns, env=env).screen()
    table = [line for line in said if "do not fit" not in line and not line.startswith("costs are")]
    assert max(map(len, table)) <= columns
    assert parse(job).folder.rpartition("/")[2] in {line.split()[0] for line in table}
    assert any("1 failed" in line for line in table)
    assert "\N{HORIZONTAL ELLIPSIS}" not in "".join(said)
    hints = [line for line in said if "do not fit" in line]
    assert [LEFT_OUT[columns] in line and "--json" in line for line in hints] == [True] * bool(
        LEFT_OUT[columns]
    )
    assert any(line.startswith("costs are estimates") for line in said) == (columns == 160)
    if columns >= 66:
        assert LONG in "".join(line[36:60].strip().split("  ")[0] for line in table)


def test_a_pipe_gets_a_line_for_each_row_without_cuts(tmp_path):
    runwide.map(halved, [4], store=tmp_path, name=LONG * 4, workers=1)
    said = CliRunner().invoke(cli, ["ls", str(tmp_path)], catch_exceptions=False).stdout.splitlines()
    assert len(said) == 2
    assert LONG * 4 in said[1]
    assert [line.rstrip() for line in said] == said
