"""The pool's decisions are pure functions of counts and times."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from runwide.causes import Cause
from runwide.pool.policy import (
    CHUNK_ITEMS,
    LEAST_SECONDS,
    Budget,
    Charges,
    Pace,
    cause_of_death,
    chunk_size,
    lookahead,
    may_prefetch,
)

paces = st.builds(
    Pace,
    st.none() | st.floats(0, 1e4),
    st.floats(0, 1e10),
    st.integers(1, CHUNK_ITEMS),
)


@given(paces, st.integers(1, 10**9), st.booleans(), st.integers(1, 1000))
def test_a_chunk_has_at_least_one_task_and_at_most_the_limit(pace, available, final, workers):
    assert 1 <= chunk_size(pace, available=available, final=final, workers=workers) <= CHUNK_ITEMS


@given(paces, st.integers(1, 10**6), st.integers(1, 64))
def test_the_last_chunks_leave_work_for_every_worker_where_it_is_worth_a_message(pace, available, workers):
    size = chunk_size(pace, available=available, final=True, workers=workers, at_hand=True)
    worth = pace.seconds is not None and size * max(pace.seconds, 1e-7) > LEAST_SECONDS
    assert size == 1 or size * workers <= available or not worth


@given(paces, st.integers(1, 10**6), st.integers(1, 64), st.booleans())
def test_of_items_that_come_one_by_one_no_worker_takes_more_than_its_share(pace, available, workers, final):
    size = chunk_size(pace, available=available, final=final, workers=workers)
    assert size == 1 or size * workers <= available


def test_a_first_chunk_is_one_task():
    assert chunk_size(Pace(), available=10**6, final=True, workers=2) == 1


def test_long_tasks_travel_alone_and_short_ones_together():
    assert chunk_size(Pace(1.0), available=10**6, final=True, workers=2) == 1
    assert chunk_size(Pace(1e-6, 0, CHUNK_ITEMS), available=10**6, final=True, workers=2) == CHUNK_ITEMS


def test_large_payloads_bound_the_chunk():
    assert chunk_size(Pace(1e-6, 100e6, 1000), available=10**6, final=True, workers=2) == 1


@given(paces, st.integers(1, 64))
def test_lookahead_feeds_every_worker(pace, workers):
    assert lookahead(pace, workers=workers) >= 2 * workers


def test_only_short_chunks_are_prefetched_and_only_while_there_is_plenty():
    assert may_prefetch(Pace(0.001), tasks=1, available=100, workers=2)
    assert not may_prefetch(Pace(1.0), tasks=1, available=100, workers=2)
    assert not may_prefetch(Pace(0.001), tasks=1, available=2, workers=2)


def test_a_pace_follows_the_measurements():
    pace = Pace().after(tasks=1, seconds=1.0, payload=10)
    for _ in range(20):
        pace = pace.after(tasks=100, seconds=0.1, payload=1000)
    assert 0.0009 < pace.seconds < 0.0011
    assert pace.largest == 100


def test_budgets_are_separate():
    budget = Budget(retries=1, max_crashes=2)
    assert budget.allows(Charges(errors=1, crashes=1))
    assert not budget.allows(Charges(errors=2))
    assert not budget.allows(Charges(crashes=2))


def test_each_oom_kill_is_used_up_by_one_death():
    assert cause_of_death(-9, timed_out=False, oom_credits=1) is Cause.OUT_OF_MEMORY
    assert cause_of_death(-9, timed_out=False, oom_credits=0) is Cause.SIGNAL
    assert cause_of_death(1, timed_out=False, oom_credits=1) is Cause.EXIT
    assert cause_of_death(-9, timed_out=True, oom_credits=1) is Cause.TIMEOUT
