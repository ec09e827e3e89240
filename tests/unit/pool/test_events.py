"""Each attempt at a task leaves one record, with all that is known of it."""

from __future__ import annotations

import os
import time

import numpy as np
import pytest

import runwide
from runwide.pool import outcomes
from runwide.records import FailureKind


def events_of(function, items, **options):
    events = []
    list(outcomes(function, items, on_event=events.append, **options))
    return sorted(events, key=lambda event: (event.index, event.attempt))


def test_an_attempt_is_queued_then_started_then_ended():
    before = time.time()
    for event in events_of(lambda _: time.sleep(0.02), range(6), workers=2):
        assert before <= event.queued <= event.started <= event.time <= time.time()
        assert abs(event.time - event.started - event.seconds) < 1e-3
        assert event.name == "task.ended"
        assert event.kind is None


def test_cpu_time_is_that_of_the_task_and_sleep_has_none():
    def spin(seconds):
        until = time.process_time() + seconds
        while time.process_time() < until:
            pass
        time.sleep(0.05)

    spun, slept = events_of(spin, [0.1, 0.0], workers=1)
    assert 0.1 <= spun.cpu_seconds < 0.14
    assert slept.cpu_seconds < 0.04


def test_memory_is_the_workers_own_highest_and_not_its_parents():
    held = np.ones(30_000_000)  # 240 MB in this process
    small, large = events_of(lambda n: np.ones(n).sum(), [10, 12_500_000], workers=1, chunksize=1)
    assert large.peak_rss - small.peak_rss > 80e6
    assert small.peak_rss < 200e6 < held.nbytes


def test_bytes_are_those_of_the_result():
    small, large = events_of(np.ones, [1, 100_000], workers=1)
    assert large.bytes - small.bytes > 799_000


def test_the_cpu_is_one_that_this_process_may_use():
    assert {event.cpu for event in events_of(abs, range(20), workers=2)} <= os.sched_getaffinity(0)


def test_an_exception_that_is_tried_again_is_retried_then_failed():
    began = time.monotonic()
    first, second = events_of(lambda _: 1 / 0, [1], workers=1, retries=1)
    assert (first.name, first.attempt, second.name, second.attempt) == ("task.retried", 1, "task.failed", 2)
    assert first.kind is second.kind is FailureKind.EXCEPTION
    assert second.detail == "ZeroDivisionError: division by zero"
    assert 0 < first.seconds < time.monotonic() - began


def test_a_killed_worker_leaves_a_record_with_cause_and_duration():
    def die(_):
        time.sleep(0.1)
        os._exit(3)

    began = time.monotonic()
    first, second = events_of(die, [1], workers=1)
    assert (first.name, second.name) == ("task.retried", "task.failed")
    assert second.kind is FailureKind.CRASH
    assert second.detail == "the worker exited"
    assert 0.09 < second.seconds < time.monotonic() - began


def test_a_task_stopped_for_its_timeout_says_so():
    began = time.monotonic()
    (event,) = events_of(lambda _: time.sleep(600), [1], workers=1, timeout=0.3)
    assert (event.name, event.kind) == ("task.failed", FailureKind.TIMEOUT)
    assert 0.3 <= event.seconds < time.monotonic() - began < 600


def test_a_result_that_cannot_be_loaded_here_is_a_failure():
    class Unloadable:
        def __reduce__(self):
            return int, ("no number",)

    (event,) = events_of(lambda _: Unloadable(), [1], workers=1)
    assert (event.name, event.kind) == ("task.failed", FailureKind.PICKLING)


def test_many_quick_tasks_have_one_record_each():
    assert [event.index for event in events_of(abs, range(3000), workers=2)] == list(range(3000))


def in_one_go(_):
    import sys

    frame = sys._getframe()
    while frame.f_code.co_name != "run_batch":
        frame = frame.f_back
    return len(frame.f_locals["entries"]) > 1


def test_with_a_listener_tasks_of_microseconds_still_run_many_in_one_go_and_are_timed_one_by_one():
    events = []
    results = [
        outcome.value for outcome in outcomes(in_one_go, range(5000), workers=2, on_event=events.append)
    ]
    assert sum(results) > 4000
    assert sorted(event.index for event in events) == list(range(5000))
    by_worker = {}
    for event in sorted(events, key=lambda event: event.started):
        assert event.started <= event.time
        assert abs(event.time - event.started - event.seconds) < 1e-6
        assert event.started >= by_worker.get(event.worker, 0) - 1e-6  # one after another
        by_worker[event.worker] = event.time


class Batches:
    """A listener that takes many at once."""

    def __init__(self, *, grouped):
        self.grouped = grouped
        self.batches, self.others = [], []

    def __call__(self, event):
        self.others.append(event)

    def batch(self, batch):
        self.batches.append(batch)


def test_a_listener_that_takes_batches_gets_each_task_once_and_failures_apart():
    heard = Batches(grouped=False)
    list(outcomes(lambda x: 1 // (x % 100 - 7), range(1000), workers=2, on_event=heard))
    assert sorted(event.index for event in heard.others) == list(range(7, 1000, 100))
    assert {event.name for event in heard.others} == {"task.failed"}
    told = [event.index for batch in heard.batches for event in batch.events()]
    assert sorted(told) == [x for x in range(1000) if x % 100 != 7]
    assert all(set(batch.counts) == {1} for batch in heard.batches)


def test_a_listener_of_groups_gets_short_tasks_together_and_long_ones_one_by_one():
    heard = Batches(grouped=True)
    list(
        outcomes(
            lambda x: time.sleep(0.003) if x < 8 else 1 // (x - 1500), range(3000), workers=1, on_event=heard
        )
    )
    assert [event.index for event in heard.others] == [1500]
    assert 0 < heard.others[0].seconds < 0.01
    told = sorted(event.index for batch in heard.batches for event in batch.events())
    assert told == [x for x in range(3000) if x != 1500]
    first = next(batch for batch in heard.batches if batch.index == 0)
    assert first.counts[0] == 1
    assert first.ends[0] - first.starts[0] >= 0.003
    assert max(max(batch.counts) for batch in heard.batches) > 100
    assert sum(sum(batch.cpu_seconds) for batch in heard.batches) > 0


def test_the_cpu_time_of_tasks_that_run_in_one_go_adds_up_to_what_they_took():
    def spin(_):
        sum(range(300))
        return time.process_time()

    events = []
    told = sorted(
        outcome.value for outcome in outcomes(spin, range(20_000), workers=1, on_event=events.append)
    )
    used = told[-1] - told[0]  # by all that the worker does, the tasks for the most part
    assert 0.3 * used < sum(event.cpu_seconds for event in events) < 1.2 * used


def test_an_item_that_cannot_be_loaded_leaves_the_others_their_records():
    class Unloadable:
        def __reduce__(self):
            return int, ("no number",)

    items = [Unloadable() if x == 50 else [x] for x in range(400)]
    began = time.monotonic()
    events = events_of(len, items, workers=1)
    took = time.monotonic() - began
    assert [event.index for event in events] == list(range(400))
    assert [event.index for event in events if event.kind is not None] == [50]
    assert all(0 <= event.seconds < took for event in events)


class Fussy:
    """A listener that raises for each event, of whatever kind."""

    def __init__(self, error):
        self.error = error
        self.heard = 0

    def __call__(self, _event):
        self.heard += 1
        raise self.error


@pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt(), SystemExit(3)])
@pytest.mark.parametrize("place", [{}, {"store": "memory://fussy"}])
def test_a_listener_that_raises_hears_everything_and_stops_no_task(error, place, capsys):
    listener = Fussy(error)
    assert runwide.map(abs, range(100), workers=1, on_event=listener, **place) == list(range(100))
    assert listener.heard == 100
    assert capsys.readouterr().err.count("callback.failed") == 1
    listener.heard = 0
    assert list(runwide.imap(abs, range(100), workers=1, on_event=listener)) == list(range(100))
    assert listener.heard == 100
