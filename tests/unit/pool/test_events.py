"""Each attempt at a task leaves one record, with all that is known of it."""

from __future__ import annotations

import os
import time

import numpy as np

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
    first, second = events_of(lambda _: 1 / 0, [1], workers=1, retries=1)
    assert (first.name, first.attempt, second.name, second.attempt) == ("task.retried", 1, "task.failed", 2)
    assert first.kind is second.kind is FailureKind.EXCEPTION
    assert second.detail == "ZeroDivisionError: division by zero"
    assert 0 < first.seconds < 1


def test_a_killed_worker_leaves_a_record_with_cause_and_duration():
    def die(_):
        time.sleep(0.1)
        os._exit(3)

    first, second = events_of(die, [1], workers=1)
    assert (first.name, second.name) == ("task.retried", "task.failed")
    assert second.kind is FailureKind.CRASH
    assert second.detail == "the worker exited"
    assert 0.09 < second.seconds < 5


def test_a_task_stopped_for_its_timeout_says_so():
    (event,) = events_of(lambda _: time.sleep(60), [1], workers=1, timeout=0.3)
    assert (event.name, event.kind) == ("task.failed", FailureKind.TIMEOUT)
    assert 0.3 <= event.seconds < 5


def test_a_result_that_cannot_be_loaded_here_is_a_failure():
    class Unloadable:
        def __reduce__(self):
            return int, ("no number",)

    (event,) = events_of(lambda _: Unloadable(), [1], workers=1)
    assert (event.name, event.kind) == ("task.failed", FailureKind.PICKLING)


def test_many_quick_tasks_have_one_record_each():
    assert [event.index for event in events_of(abs, range(3000), workers=2)] == list(range(3000))
