"""The events of a shard are stored beside its results, line by line, and add up."""

from __future__ import annotations

import json
from collections import Counter

import pytest

import runwide
from runwide.errors import StoreUnavailable
from runwide.events import lines as events
from runwide.events import log as log_module
from runwide.events.log import EventLog
from runwide.events.model import Run, TaskEvent
from runwide.events.parts import of_name
from runwide.job import manifest
from runwide.job.reference import parse
from runwide.store.base import open_store
from runwide.testing.stores import mount


def failing(x):
    if x % 10 == 3:
        raise ValueError(f"no {x}")
    return x * x


def parts_of(job, shard=0):
    store = open_store(parse(job).folder)
    names = [info.name for info in store.list(f"shards/{shard:04d}/events")]
    return {name: [json.loads(line) for line in bytes(store.read(name)).splitlines()] for name in names}


def lines_of(job, shard=0):
    return [line for lines in parts_of(job, shard).values() for line in lines]


def items_of(job, shard=1):
    """The items of a shard."""
    return manifest.read_job(job).items_of(shard)


def test_every_attempt_has_a_line_with_the_index_in_the_whole_job(memory):
    job = runwide.scatter(failing, range(40), store=memory, shards=2)
    runwide.shard(job, 1, workers=2, retries=1)
    lines = [line for line in lines_of(job, 1) if line["name"].startswith("task.")]
    assert Counter((line["name"], line["item"]) for line in lines) == Counter(
        [("task.ended", x) for x in items_of(job) if x % 10 != 3]
        + [(name, x) for x in items_of(job) if x % 10 == 3 for name in ("task.retried", "task.failed")]
    )
    assert all(line["shard"] == 1 for line in lines)


def test_the_sums_are_those_of_the_lines(memory):
    job = runwide.scatter(failing, range(40), store=memory, shards=1)
    runwide.shard(job, 0, workers=2)
    lines = lines_of(job)
    (sums,) = [line for line in lines if line["name"] == "events.summed"]
    for row in sums["workers"]:
        mine = [line for line in lines if line.get("worker") == row["worker"] and "item" in line]
        assert row["ended"] == sum(line["name"] == "task.ended" for line in mine)
        assert row["failed"] == sum(line["name"] == "task.failed" for line in mine)
        assert row["cpu_seconds"] == pytest.approx(sum(line.get("cpu_seconds", 0) for line in mine), abs=1e-4)
        assert row["first"] == pytest.approx(min(line["started"] for line in mine), abs=1e-5)
        assert row["last"] == pytest.approx(max(line["time"] for line in mine), abs=1e-5)


def test_reads_and_writes_of_the_store_are_lines_too(memory):
    job = runwide.scatter(failing, range(40), store=memory, shards=1)
    runwide.shard(job, 0, workers=1)
    names = Counter(line["name"] for line in lines_of(job))
    assert names["items.fetched"] == 1
    assert names["chunk.spilled"] == 1
    assert names["objects.listed"] == 1
    spilled = next(line for line in lines_of(job) if line["name"] == "chunk.spilled")
    store = open_store(parse(job).folder)
    assert spilled["bytes"] == len(store.read(spilled["object"]))


def test_a_run_records_its_machine_and_its_end(memory):
    job = runwide.scatter(failing, range(10), store=memory, shards=1)
    runwide.shard(job, 0, workers=1)
    first, *_, last = lines_of(job)
    assert (first["name"], last["name"]) == ("run.started", "run.ended")
    assert first["host"]["workers"] == 1
    assert first["host"]["physical"] == runwide.cores().physical
    assert first["time"] <= last["time"]


def test_a_second_run_of_a_shard_writes_beside_the_first_and_a_finished_one_writes_nothing(memory):
    job = runwide.scatter(failing, range(10), store=memory, shards=1)
    runwide.shard(job, 0, workers=1)
    runwide.shard(job, 0, workers=1)
    (name,) = parts_of(job)
    used = of_name(name)  # which its last part, here the only one, tells
    host = lines_of(job)[0]["host"]
    assert (used.cpus, used.gib > 0) == (min(host["logical"], host["quota"] or host["logical"]), True)
    assert 0 <= used.seconds < 100
    runwide.shard(job, 0, workers=1, rerun_failed=True)
    first, second = parts_of(job).values()
    assert [line["item"] for line in second if "item" in line] == [3] or [
        line["item"] for line in first if "item" in line
    ] == [3]
    assert first[0]["id"] != second[0]["id"]


def test_the_users_listener_gets_the_index_in_the_whole_job(memory):
    heard = []
    job = runwide.scatter(failing, range(40), store=memory, shards=2)
    runwide.shard(job, 1, workers=1, on_event=heard.append)
    assert sorted(event.index for event in heard) == list(items_of(job))


def test_events_that_cannot_be_written_are_only_a_warning(tmp_path, capsys):
    def refuse(method, name, _):
        if method == "create" and "/events" in name:
            raise StoreUnavailable("the store is away", uri=name)

    store = mount("no-events", str(tmp_path), refuse)
    job = runwide.scatter(failing, range(5), store=store, shards=1)
    reference = runwide.shard(job, 0, workers=1)
    assert len(runwide.gather(job, [reference], on_error="return")) == 5
    assert "events.lost" in capsys.readouterr().err


def test_a_shard_that_stops_early_has_written_its_events(memory):
    def refuse(method, name, _):
        if method == "create" and "/chunks/" in name:
            raise StoreUnavailable("the store is away", uri=name)

    job = runwide.scatter(abs, range(20), store=mount("no-chunks", memory, refuse), shards=1)
    with pytest.raises(StoreUnavailable):
        runwide.shard(job, 0, workers=1)
    assert sorted(line["item"] for line in lines_of(job) if "item" in line) == list(range(20))


def attempt(index, name="task.ended", **known):
    return TaskEvent(name, 1000.0 + index, index, index % 2, 1, seconds=0.5, started=999.5 + index, **known)


def written(run, attempts):
    parts = []
    with EventLog(run, lambda _, data: parts.append(data)) as log:
        for event in attempts:
            log.task(event, event.index)
    return [json.loads(line) for part in parts for line in part.splitlines()]


def test_of_a_large_job_a_sample_is_written_and_the_sums_stay_exact():
    run = Run("r", 999.0, sampled=events.share_written(10_000_000))
    lines = written(run, [attempt(index) for index in range(20_000)])
    tasks = [line for line in lines if "item" in line]
    assert lines[0]["sampled"] == 0.1
    assert len(tasks) == pytest.approx(2000, abs=2)
    (sums,) = [line for line in lines if line["name"] == "events.summed"]
    assert sum(row["ended"] for row in sums["workers"]) == 20_000
    assert sums["left_out"] == 20_000 - len(tasks)
    assert sum(row["seconds"] for row in sums["workers"]) == pytest.approx(10_000)


def test_failures_and_retries_are_always_written():
    run = Run("r", 999.0, sampled=0.001)
    lines = written(run, [attempt(index, "task.failed", detail="x") for index in range(100)])
    assert sum("item" in line for line in lines) == 100


def test_any_error_loses_one_part_and_ends_neither_the_run_nor_the_log(monkeypatch):
    monkeypatch.setattr(log_module, "_TICK", 0.01)
    monkeypatch.setattr(log_module, "_PART_BYTES", 1)
    parts = []

    def write(_number, data):
        parts.append(data)
        if len(parts) == 1:
            raise OSError("not of ours")

    with EventLog(Run("r", 999.0), write, host=lambda: 1 // 0) as log:
        log.begin()
        log.task(attempt(0), 0)
        while not parts:
            log._stop.wait(0.01)
        log.object("no event")  # which is no fault of the run's either
        log.task(attempt(1), 1)
    lines = [json.loads(line) for part in parts[1:] for line in part.splitlines()]
    assert [line["item"] for line in lines if line["name"] == "task.ended"] == [1]
    assert lines[-1]["name"] == "run.ended"


def test_a_long_run_is_written_in_parts_that_add_up(monkeypatch):
    monkeypatch.setattr(log_module, "_PART_BYTES", 10_000)
    monkeypatch.setattr(log_module, "_TICK", 0.01)
    parts = []
    with EventLog(Run("r", 999.0), lambda _, data: parts.append(data)) as log:
        log.begin()
        for index in range(300):
            log.task(attempt(index), index)
            if index % 100 == 99:
                log._stop.wait(0.1)
    assert len(parts) > 1
    lines = [json.loads(line) for part in parts for line in part.splitlines()]
    assert [line["part"] for line in lines if line["name"] == "run.started"] == list(range(len(parts)))
    rows = [row for line in lines if line["name"] == "events.summed" for row in line["workers"]]
    assert sum(row["ended"] for row in rows) == sum("item" in line for line in lines) == 300


def test_a_manifest_is_not_touched_by_events(memory):
    job = runwide.scatter(abs, range(10), store=memory, shards=1)
    runwide.shard(job, 0, workers=1)
    about = manifest.read_job(job)
    found, _ = manifest.read_shard(open_store(about.uri), about, 0)
    assert [chunk.name for chunk in found.chunks] == ["shards/0000/chunks/000000.pack"]


def tasks_of(lines):
    """Item and seconds of all tasks that have ended, those that share a line among them."""
    for line in lines:
        if line["name"] == "tasks.ended":
            yield from zip(line["items"], (nanos / 1e9 for nanos in line["lasted"]), strict=True)
        elif line["name"] == "task.ended":
            yield line["item"], line["seconds"]


def test_many_short_tasks_share_lines_that_have_each_task_and_add_up(memory):
    job = runwide.scatter(lambda x: 1 // (x % 100 - 3), range(3000), store=memory, shards=2)
    runwide.shard(job, 1, workers=2)
    lines = lines_of(job, 1)
    assert sum(line["name"] == "tasks.ended" for line in lines) > 0
    told = sorted(item for item, _ in tasks_of(lines))
    assert told == [x for x in items_of(job) if x % 100 != 3]
    assert sum(line["name"] == "task.failed" for line in lines) == 1500 - len(told)
    rows = [row for line in lines if line["name"] == "events.summed" for row in line["workers"]]
    assert sum(row["ended"] for row in rows) == len(told)
    assert sum(row["seconds"] for row in rows) == pytest.approx(
        sum(one for _, one in tasks_of(lines)), rel=0.01
    )
    size = sum(len(json.dumps(line)) for line in lines if line["name"] == "tasks.ended")
    assert size < 60 * len(told)


def test_of_tasks_that_share_lines_the_same_items_are_sampled(memory, monkeypatch):
    monkeypatch.setattr(events, "WRITTEN", 1000)
    job = runwide.scatter(abs, range(10_000), store=memory, shards=1)
    runwide.shard(job, 0, workers=2)
    lines = lines_of(job)
    assert lines[0]["sampled"] == 0.1
    assert sorted(item for item, _ in tasks_of(lines)) == [
        x for x in range(10_000) if events.is_written(x, 0.1)
    ]
    summed = [line for line in lines if line["name"] == "events.summed"]
    assert sum(row["ended"] for line in summed for row in line["workers"]) == 10_000
    assert sum(line["left_out"] for line in summed) == 10_000 - len(list(tasks_of(lines)))


def test_the_users_listener_gets_short_tasks_one_by_one(memory):
    heard = []
    job = runwide.scatter(abs, range(4000), store=memory, shards=2)
    runwide.shard(job, 1, workers=2, on_event=heard.append)
    assert sorted(event.index for event in heard) == list(items_of(job))


def test_a_run_records_the_image_of_its_step(memory, monkeypatch):
    monkeypatch.setenv("RUNWIDE_IMAGE", "europe-docker.pkg.dev/shop/images/score:7")
    job = runwide.scatter(abs, [-1], store=memory, shards=1)
    runwide.shard(job, 0, workers=1)
    (log,) = runwide.report(job).story.runs
    assert log.run.image == "europe-docker.pkg.dev/shop/images/score:7"
