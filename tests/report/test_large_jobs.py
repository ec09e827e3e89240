"""Jobs of very many tasks that really ran: the page stays small, the sample is fair, and totals are exact."""

from __future__ import annotations

import faulthandler
import json
import random
from collections import Counter
from statistics import median

import pytest
from looking import number

import runwide
from runwide._report import report
from runwide.events import lines as events


def work(x):
    if x % 10_007 == 5:
        raise ValueError(f"no {x}")
    return sum(range(x % 300))


def ran(count, store, *, shards=2):
    """Run a job, and return its reference and its events."""
    job = runwide.scatter(work, range(count), store=str(store), shards=shards)
    for index in range(shards):
        runwide.shard(job, index, workers=2)
    return job, [
        json.loads(line)
        for part in sorted(store.glob("*/shards/*/events*.jsonl"))
        for line in part.read_text().splitlines()
    ]


def recorded(lines):
    """Yield item and seconds of each task that has a line and gave a value."""
    for line in lines:
        if line["name"] == "tasks.ended":
            yield from zip(line["items"], (nanos / 1e9 for nanos in line["lasted"]), strict=True)
        elif line["name"] == "task.ended":
            yield line["item"], line["seconds"]


def summed(lines, name):
    return sum(row[name] for line in lines if line["name"] == "events.summed" for row in line["workers"])


def test_the_page_of_100_000_tasks_that_ran_is_small_and_its_numbers_are_those_of_the_events(
    browse, tmp_path
):
    job, lines = ran(100_000, tmp_path / "store")
    html = report(job).html()
    assert len(html.encode()) < 2_000_000
    bad = [line["item"] for line in lines if line["name"] == "task.failed"]
    good = dict(recorded(lines))
    assert sorted([*good, *bad]) == list(range(100_000))
    shown = browse(html)
    assert number(shown, "ended") == len(good) == summed(lines, "ended")
    assert number(shown, "failed") == len(bad) == 10
    assert number(shown, "median") == pytest.approx(median(good.values()), rel=1e-3)
    assert number(shown, "longest") == pytest.approx(max(good.values()), rel=1e-3)
    useful = float(shown.locator(".lost[data-part=useful]").get_attribute("value"))
    assert useful == pytest.approx(sum(good.values()), rel=0.01)
    assert shown.locator("#rows .row").count() == 4
    assert shown.locator(".lane .mark.failed").count() > 0
    assert browse.said == []
    assert browse.outside == []


def check_sample(lines, count, share):
    """Check that this share of the successful tasks is written, chosen by index alone, and that the rest is exact."""
    runs = [line for line in lines if line["name"] == "run.started"]
    assert {run["sampled"] for run in runs} == {share}
    items = [item for item, _ in recorded(lines)]
    wanted = [x for x in range(count) if x % 10_007 != 5 and events.is_written(x, share)]
    assert sorted(items) == wanted
    bad = [line["item"] for line in lines if line["name"] == "task.failed"]
    assert sorted(bad) == [x for x in range(count) if x % 10_007 == 5]  # all of them
    assert summed(lines, "ended") == count - len(bad)
    assert sum(line["left_out"] for line in lines if line["name"] == "events.summed") == count - len(
        bad
    ) - len(items)
    tenths = Counter(item * 10 // count for item in items)  # evenly over the items
    assert max(tenths.values()) - min(tenths.values()) <= 0.02 * len(items)


def test_a_large_job_is_sampled_fairly_and_its_totals_are_exact(tmp_path, monkeypatch):
    monkeypatch.setattr(events, "WRITTEN", 10_000)
    job, lines = ran(40_000, tmp_path / "store")
    check_sample(lines, 40_000, 0.25)
    found = report(job)
    assert found.metrics["results"] == 40_000 - 4
    assert found.metrics["failed_items"] == 4
    assert any("A fair sample of 25 %" in finding.text for finding in found.findings)
    assert "sample" in found.html()


@pytest.mark.slow
def test_a_job_of_over_a_million_tasks_is_sampled_and_its_page_is_small(browse, tmp_path):
    faulthandler.dump_traceback_later(1800, exit=True)  # a long run is not a hang
    count = 1_200_000
    job, lines = ran(count, tmp_path / "store", shards=4)
    share = events.share_written(count)
    assert share == pytest.approx(1 / 1.2)
    check_sample(lines, count, share)
    html = report(job).html()
    assert len(html.encode()) < 2_000_000
    assert number(browse(html), "ended") == count - sum(line["name"] == "task.failed" for line in lines)
    assert browse.said == []


def test_a_map_of_very_many_tasks_without_a_store_has_a_small_page_too(browse):
    chance = random.Random(3)
    results = runwide.map(
        work, [chance.randrange(1, 5000) for _ in range(200_000)], workers=2, on_error="return"
    )
    html = results.report().html()
    assert len(html.encode()) < 2_000_000
    shown = browse(html)
    assert number(shown, "ended") == 200_000 - sum(isinstance(one, runwide.Failure) for one in results)
    assert browse.said == []
