"""A map returns a list that also has a report."""

from __future__ import annotations

import asyncio
import copy
import json
import math
import pickle
import time

import numpy as np
import pytest

import runwide
from runwide.errors import InputError, TasksFailed, TooManyFailures
from runwide.events import trace
from runwide.records import FailureKind


def test_results_are_a_list_and_copies_of_them_are_plain_lists():
    results = runwide.map(lambda x: x * x, range(4), workers=1)
    assert isinstance(results, list)
    assert results == [0, 1, 4, 9]
    assert repr(results) == "[0, 1, 4, 9]"
    assert json.dumps(results) == "[0, 1, 4, 9]"
    assert np.array(results).sum() == 14
    for made in (
        results[:], results[1:3], results + results, results * 1, results.copy(), sorted(results),
        copy.copy(results), copy.deepcopy(results),
        *(pickle.loads(pickle.dumps(results, protocol)) for protocol in range(6)),
    ):  # fmt: skip
        assert type(made) is list
    assert pickle.loads(pickle.dumps(results)) == results


def spin(seconds):
    until = time.thread_time() + seconds
    while time.thread_time() < until:
        pass
    return seconds


def test_a_map_without_store_records_each_task_that_takes_a_millisecond():
    results = runwide.map(spin, [0.004] * 30 + [0.2], workers=2)
    report = results.report()
    assert report.metrics["results"] == 31
    assert report.metrics["failed_items"] == 0
    assert 0.004 <= report.figures.times.median < report.figures.times.longest
    assert report.figures.times.longest >= 0.2
    assert report.figures.slowest[0].item == 30
    assert 0.3 < report.metrics["cpu_seconds"] < 1
    assert {one.count for log in report.story.runs for one in log.attempts if one.each > 0.002} == {1}
    assert "spin" in report.html()
    assert report._repr_html_().startswith('<iframe sandbox="allow-scripts"')


def test_short_tasks_are_recorded_in_groups_and_the_page_says_so():
    report = runwide.map(abs, range(20_000), workers=2).report()
    assert report.metrics["results"] == report.figures.times.count == 20_000
    assert report.figures.times.longest < 0.1
    found = [finding.text for finding in report.findings]
    assert any(text.startswith("Short tasks were timed in groups of up to") for text in found)
    covered = sorted((one.item, one.count) for log in report.story.runs for one in log.attempts)
    at = 0
    for item, count in covered:
        assert item == at
        at += count
    assert at == 20_000


def test_failures_that_are_returned_are_on_the_page_with_their_tracebacks():
    report = runwide.map(lambda x: 1 / (x - 3), range(6), workers=1, on_error="return").report()
    assert report.metrics["failed_items"] == 1
    assert report.metrics["results"] == 5
    assert "ZeroDivisionError: division by zero" in report.html()
    assert "Traceback" in report.html()
    assert report.story.failures[0].kind is FailureKind.EXCEPTION


def test_an_error_has_the_report_of_failures_that_are_raised():
    with pytest.raises(ZeroDivisionError) as raised:
        runwide.map(lambda x: 1 / (x - 3), range(6), workers=1, retries=1)
    summary = raised.value.__cause__
    assert isinstance(summary, TasksFailed)
    assert summary.results.report().metrics["failed_items"] == 1
    assert summary.results.report().metrics["retried_attempts"] == 1
    with pytest.raises(TooManyFailures) as many:
        runwide.map(lambda x: 1 / 0, range(6), workers=1, max_failures=1)
    assert many.value.results.report().metrics["failed_items"] >= 2


def test_results_of_a_map_with_a_store_have_its_job(tmp_path):
    results = runwide.map(abs, [-1, -2], store=str(tmp_path), name="two", workers=1)
    assert results == [1, 2]
    assert results.job.startswith(str(tmp_path))
    assert results.report().metrics["results"] == 2
    assert results.report().story.uri.startswith(str(tmp_path))
    with pytest.raises(ZeroDivisionError) as raised:
        runwide.map(lambda x: 1 / x, [1, 0], store=str(tmp_path), name="bad", workers=1)
    assert raised.value.__cause__.results.report().metrics["failed_items"] == 1


def test_results_of_gather_and_load_have_their_job(tmp_path):
    job = runwide.scatter(abs, [-1, -2], store=str(tmp_path), shards=1)
    references = [runwide.shard(job, 0, workers=1)]
    assert runwide.gather(job, references).report().metrics["results"] == 2
    result = runwide.job.finish(job, references)
    assert runwide.load(result).report().metrics["results"] == 2
    assert runwide.report(result).metrics["results"] == 2


def test_a_map_in_a_coroutine_has_a_report():
    results = asyncio.run(runwide.amap(abs, [-1, -2, -3], workers=1))
    assert results == [1, 2, 3]
    assert results.report().metrics["results"] == 3


def test_a_listener_gets_each_task_and_the_report_is_complete():
    heard = []
    results = runwide.map(abs, range(3000), workers=2, on_event=heard.append)
    assert sorted(event.index for event in heard) == list(range(3000))
    assert results.report().metrics["results"] == 3000
    assert not any(one.count > 1 for log in results.report().story.runs for one in log.attempts)
    with runwide.Recording() as recording:
        results = runwide.map(abs, range(3000), workers=2, on_event=recording)
    assert runwide.report(recording).metrics["results"] == results.report().metrics["results"] == 3000


def test_a_map_of_very_many_tasks_keeps_a_bounded_number_of_times_and_exact_totals(monkeypatch):
    monkeypatch.setattr(trace, "_ROWS", 50)
    results = runwide.map(spin, [0.001] * 400, workers=2)
    # the bound, and tasks that arrived together on a busy machine
    assert sum(map(len, results.trace.rows.values())) < 200
    report = results.report()
    assert report.metrics["results"] == report.figures.times.count == 400
    assert math.isclose(
        report.figures.times.mean * 400,
        sum(row.seconds for row in report.story.runs[0].sums.values()),
        rel_tol=0.01,
    )


def test_results_without_events_say_how_to_record_them():
    class Elsewhere:
        def map(self, function, items, **options):
            return [function(item) for item in items]

    results = runwide.map(abs, [-1], on=Elsewhere())
    assert results == [1]
    with pytest.raises(InputError, match="nothing was recorded"):
        results.report()
    assert runwide.map(nested, [3], workers=1) == ["InputError"]


def nested(x):
    import runwide

    try:
        runwide.map(abs, range(x)).report()
    except runwide.RunwideError as error:
        return type(error).__name__
    return "no error"


def test_a_report_opens_in_a_browser(monkeypatch):
    opened = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    page = runwide.map(abs, [-1], workers=1).report().open()
    assert opened == [page.as_uri()]
    assert "<!doctype html>" in page.read_text()
    page.unlink()
    page.parent.rmdir()


def test_the_page_of_a_map_speaks_of_no_shard_and_of_no_job():
    report = runwide.map(lambda x: 1 / x, [0, 1], workers=1, on_error="return").report()
    (bad,) = [finding for finding in report.findings if finding.level == "error"]
    assert "JOB" not in bad.advice
    assert "store=" in bad.advice
    assert "shard finished" not in report.html()
    assert ">worker 0</span>" in report.html()
