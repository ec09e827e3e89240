"""The numbers of a report are the numbers of the events."""

from __future__ import annotations

import json
from dataclasses import asdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runwide import words
from runwide._report import figures, series
from runwide._report.reading import Story
from runwide._report.series import Clock
from runwide.events import lines as events
from runwide.events.model import Run, TaskEvent, WorkerSums
from runwide.events.reading import Reader
from runwide.records import FailureKind

HOST = {"workers": 2, "physical": 2, "logical": 2, "usable": 2, "memory": 1000}


def run_text(attempts, *, start=1000.0, end=1010.0, run="r", shard=0, host=HOST):
    """A run with attempts given as (item, worker, started, seconds, name)."""
    lines = [events.run_line(Run(run, start, shard=shard, host=host), 0)]
    sums: dict[int, WorkerSums] = {}
    for item, worker, started, seconds, name in attempts:
        kind = None if name == "task.ended" else FailureKind.EXCEPTION
        event = TaskEvent(
            name,
            started + seconds,
            item,
            worker,
            1,
            1,
            seconds,
            started=started,
            cpu_seconds=seconds,
            kind=kind,
        )
        sums.setdefault(worker, WorkerSums()).add(event)
        lines.append(events.task_line(event, item=item, shard=shard))
    lines.append(events.sums_line(end, sums, 0))
    if end:
        lines.append(events.end_line(end))
    return "".join(lines).encode()


def runs_of(*texts):
    reader = Reader()
    for shard, text in texts:
        reader.read(text, shard=shard)
    return reader.runs()


def story_of(*texts, items=10):
    found = runs_of(*texts)
    return Story("t", "f", items, len({shard for shard, _ in texts}), len(texts), found)


def test_lost_time_is_divided_by_cause():
    runs = runs_of((0, run_text([
        (0, 0, 1001.0, 2.0, "task.ended"),
        (1, 0, 1004.0, 1.0, "task.retried"),   # a second of waiting before it
        (1, 0, 1005.0, 3.0, "task.ended"),
        (2, 1, 1002.0, 4.0, "task.ended"),     # two seconds until the other worker ends
    ])))  # fmt: skip
    lost = figures.lost(runs)
    assert asdict(lost) == pytest.approx(
        {
            "total": 20.0, "useful": 9.0, "wasted": 1.0, "startup": 3.0, "queueing": 1.0, "stragglers": 2.0,
            "spill": 4.0, "unused": 0.0, "imbalance": 0.0,
        }
    )  # fmt: skip


@given(
    st.lists(st.tuples(st.integers(0, 1), st.floats(0.001, 2), st.floats(0, 1), st.booleans()), max_size=30)
)
def test_lost_time_adds_up_to_workers_times_duration(tasks):
    clock = [1000.0, 1000.0]
    attempts = []
    for item, (worker, took, gap, good) in enumerate(tasks):
        started, seconds = round(clock[worker] + gap, 3), round(took, 3)
        clock[worker] = started + seconds
        attempts.append((item, worker, started, seconds, "task.ended" if good else "task.failed"))
    end = max(clock) + 1
    lost = figures.lost(runs_of((0, run_text(attempts, end=end))))
    assert lost.total == pytest.approx(2 * (end - 1000), abs=1e-3)


def test_shards_wait_for_the_slowest_one_at_any_time_of_their_runs():
    first = run_text([(0, 0, 1000.0, 1.0, "task.ended")], end=1004.0)
    second = run_text([(1, 0, 5000.0, 1.0, "task.ended")], start=5000.0, end=5010.0)
    assert figures.lost(runs_of((0, first), (1, second))).imbalance == pytest.approx(12.0)


def test_an_item_that_succeeds_in_a_later_run_has_not_failed():
    first = run_text([(3, 0, 1000.0, 1.0, "task.failed")], run="a")
    second = run_text([(3, 0, 2000.0, 1.0, "task.ended")], run="b", start=2000.0, end=2010.0)
    assert figures.of(story_of((0, first))).failed == 1
    assert figures.of(story_of((0, first), (0, second))).failed == 0


def test_the_last_event_ends_a_killed_run():
    text = run_text([(0, 0, 1001.0, 5.0, "task.ended")], end=0)
    found = figures.of(story_of((0, text)))
    assert found.killed_runs == 1
    assert found.wall == pytest.approx(6.0)


def test_cores_are_counted_up_to_the_quota():
    (log,) = runs_of((0, run_text([], host={**HOST, "physical": 8, "quota": 1.5})))
    assert figures.physical(log) == 1.5


def test_pauses_between_runs_are_not_on_the_clock():
    first = run_text([(0, 0, 1000.0, 1.0, "task.ended")], run="a")
    second = run_text([(1, 0, 90_000.0, 1.0, "task.ended")], run="b", start=90_000.0, end=90_005.0)
    clock = Clock.over(runs_of((0, first), (0, second)))
    assert (clock.span, clock.pauses) == (15.0, 1)
    assert clock.at(90_002.0) == 12.0
    assert clock.at(50_000.0) == 10.0


def test_bins_hold_all_busy_time():
    text = run_text([(0, 0, 1001.0, 2.5, "task.ended"), (1, 1, 1000.5, 7.25, "task.ended")])
    found = series.over_time(runs_of((0, text)), bins=7)
    assert sum(found.busy) * found.step == pytest.approx(9.75)
    assert sum(found.used) * found.step == pytest.approx(9.75)
    assert sum(found.cores) * found.step == pytest.approx(20.0)


def test_memory_over_time_is_the_memory_of_the_fullest_container():
    lines = run_text([], host={**HOST, "memory": 1000})
    more = events.memory_line(1005.0, 250) + events.memory_line(1005.1, 750)
    (log,) = runs_of((0, lines + more.encode()))
    found = series.over_time([log], bins=2)
    assert found.memory == (None, 0.75)


@given(st.lists(st.floats(1e-6, 1e5), min_size=1, max_size=50))
def test_every_task_is_in_the_bar_of_its_time(seconds):
    bars = series.histogram((value, 1) for value in seconds)
    for bar in bars:
        assert bar.count == sum(bar.low <= value < bar.high for value in seconds)
    assert sum(bar.count for bar in bars) == len(seconds)


@given(st.floats(1e-4, 1e4), st.floats(1.0, 100.0))
def test_a_histogram_has_at_least_five_bars_where_their_labels_can_differ(low, ratio):
    """143 tasks of 46 to 68 ms were a single bar."""
    assert len(series.histogram([(0.046, 70), (0.068, 73)])) == 5
    bars = series.histogram([(low, 1), (low * ratio, 1)])
    labels = [words.seconds(bar.low) for bar in bars]
    assert len(set(labels)) == len(labels) <= 16
    assert len(bars) >= 5 or ratio < 1.2


def test_metrics_are_plain_finite_numbers():
    found = figures.metrics(figures.of(story_of((0, run_text([(0, 0, 1001.0, 2.0, "task.ended")])))))
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert (found["results"], found["median_task_seconds"]) == (1, 2.0)


GOOD = run_text([(0, 0, 1001.0, 2.0, "task.ended")])


@pytest.mark.parametrize(
    "line",
    [
        b"no json",
        b"[1]",
        b"{}",
        b'{"name":"task.ended"}',
        b'{"name":"task.ended","time":NaN,"item":1,"worker":0}',
        b'{"name":"task.ended","time":1e300,"item":1,"worker":0}',
        b'{"name":"task.ended","time":1001,"item":-1,"worker":0}',
        b'{"name":"task.ended","time":1001,"item":{"a":1},"worker":0}',
        b'{"name":"task.failed","time":1001,"item":1,"worker":0,"detail":["x"]}',
        b'{"name":"events.summed","workers":[{"worker":0}]}',
        b'{"name":"host.sampled","time":1001,"memory":"much"}',
        b"[" * 100_000,
    ],
)
def test_malformed_lines_are_counted_and_left_out(line):
    reader = Reader()
    reader.read(GOOD + line + b"\n")
    assert reader.unreadable == 1
    (log,) = reader.runs()
    assert [one.item for one in log.attempts] == [0]


def test_the_shard_is_known_by_the_place_of_the_file_and_not_by_its_content():
    (log,) = runs_of((5, run_text([(0, 0, 1001.0, 2.0, "task.ended")], shard=0)))
    assert log.run.shard == 5
    assert log.attempts[0].shard == 5
