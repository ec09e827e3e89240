"""Conclusions from measured throughputs."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runwide.host.measuring.gains import BUDGET, Sample, judge, plan


def rounds(*rates: float, share: float = 1.0) -> list[Sample]:
    return [Sample(rate, share) for rate in rates]


@given(st.integers(1, 1024), st.data())
def test_a_plan_stays_within_its_budget_and_tries_what_matters(logical, data):
    usable = data.draw(st.integers(1, logical))
    todo = plan(logical, usable)
    assert {1, usable, logical} <= set(todo.counts)
    assert list(todo.counts) == sorted(set(todo.counts))
    assert len(todo.counts) * todo.rounds * todo.seconds <= BUDGET + 1e-6


def test_up_to_eight_cpus_every_number_is_tried():
    assert plan(8, 4).counts == tuple(range(1, 9))
    assert plan(2, 2).rounds == 5


def test_a_slow_function_is_tried_with_few_numbers_of_workers():
    slow = plan(8, 4, call=1.5)
    assert slow.counts == (1, 4, 8)
    assert slow.duration < 20
    assert plan(8, 4, call=0.1).counts == plan(8, 4).counts


def test_the_fewest_workers_beyond_which_nothing_is_gained_are_recommended():
    verdict = judge(
        {1: rounds(10, 10.1, 9.9), 2: rounds(20, 20.1, 19.9), 3: rounds(20.2, 20.3, 20.1, share=0.67)},
        logical=2,
    )
    assert verdict.recommended == 2
    assert verdict.readings[1].speedup == pytest.approx(2)


def test_hyperthreads_that_add_something_are_recommended_as_they_are():
    verdict = judge({1: rounds(10, 10, 10), 2: rounds(13, 13.1, 12.9)}, logical=2)
    assert verdict.recommended == 2
    assert "still grows" in verdict.reason


def test_a_noisy_machine_tells_nothing():
    verdict = judge({1: rounds(10, 14, 7), 2: rounds(20, 12, 25)}, logical=2)
    assert verdict.recommended is None
    assert "too noisy to tell" in verdict.reason


def test_a_busy_machine_tells_nothing():
    verdict = judge({1: rounds(10, 10, 10), 2: rounds(11, 11, 11, share=0.55)}, logical=2)
    assert verdict.recommended is None
    assert "45%" in verdict.reason


def test_time_above_a_quota_is_not_taken_by_others():
    verdict = judge(
        {1: rounds(10, 10, 10), 2: rounds(15, 15, 15, share=0.75), 3: rounds(15, 15, 15, share=0.5)},
        logical=4,
        quota=1.5,
    )
    assert verdict.recommended == 2


def test_a_function_that_waits_is_held_against_itself():
    samples = {1: rounds(10, 10, 10, share=0.2), 2: rounds(20, 20, 20, share=0.2)}
    assert judge(samples, logical=2, cpu_bound=False).recommended == 2
    assert judge(samples, logical=2, cpu_bound=True).recommended is None


@given(st.dictionaries(st.integers(1, 64), st.lists(st.floats(0, 1e6), min_size=1, max_size=5), min_size=1))
def test_any_readings_give_a_verdict(rates):
    samples = {count: rounds(*values) for count, values in rates.items()}
    verdict = judge(samples, logical=64)
    assert verdict.recommended is None or verdict.recommended in rates
    assert [reading.workers for reading in verdict.readings] == sorted(rates)
