"""Requests go at the documented pace, slower when the service says so, and never stop."""

from __future__ import annotations

import threading

from hypothesis import given
from hypothesis import strategies as st

from runwide.store.rate import Limiter, Pace


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds


def sent_in(limiter, clock, seconds):
    end, count = clock.now + seconds, 0
    while clock.now < end:
        limiter.wait()
        count += 1
    return count


def test_a_second_holds_as_many_requests_as_the_rate():
    clock = Clock()
    limiter = Limiter(1000, clock=clock, sleep=clock.sleep)
    sent_in(limiter, clock, 5)
    assert 990 <= sent_in(limiter, clock, 1) <= 1010


def test_a_burst_after_a_pause_is_a_seconds_worth_at_most():
    clock = Clock()
    limiter = Limiter(100, clock=clock, sleep=clock.sleep)
    clock.now += 3600
    burst = 0
    while clock.now == 3700.0:
        limiter.wait()
        burst += 1
    assert burst <= 100 * 2**3 + 2  # an hour is three doublings


def test_shards_share_the_rate_of_a_bucket():
    clock = Clock()
    limiter = Limiter(1000, clock=clock, sleep=clock.sleep)
    limiter.share(100, 1000)
    sent_in(limiter, clock, 5)
    assert 9 <= sent_in(limiter, clock, 1) <= 11


def test_a_refusal_halves_the_rate_and_half_a_minute_brings_it_back():
    clock = Clock()
    limiter = Limiter(1000, clock=clock, sleep=clock.sleep)
    sent_in(limiter, clock, 5)
    limiter.refused(clock.now)
    assert 450 <= sent_in(limiter, clock, 1) <= 560
    sent_in(limiter, clock, 30)
    assert sent_in(limiter, clock, 1) >= 990


def test_refusals_of_requests_that_were_sent_together_count_once():
    # 64 threads are refused at the same moment: if each refusal halved the rate, it would take minutes to recover.
    clock = Clock()
    limiter = Limiter(1000, clock=clock, sleep=clock.sleep)
    sent_in(limiter, clock, 5)
    sent = [limiter.wait() for _ in range(64)]
    clock.now += 0.2
    for moment in sent:
        limiter.refused(moment)
    assert 499 <= limiter._pace.rate(clock.now) <= 505
    clock.now += 0.001
    limiter.refused(limiter.wait())  # this one was sent after that
    assert 249 <= limiter._pace.rate(clock.now) <= 255


@given(st.lists(st.floats(0, 1e5), max_size=300), st.floats(0, 1e7))
def test_refusals_never_stop_a_process(refusals, later):
    pace = Pace(1000 / 500, since=0.0)
    for moment in sorted(refusals):
        pace = pace.refused(moment)
    assert pace.rate(max([later, *refusals])) >= 1


def test_threads_share_one_limiter():
    clock = Clock()
    lock = threading.Lock()

    def sleep(seconds):
        with lock:
            clock.now += seconds

    limiter = Limiter(100, clock=clock, sleep=sleep)
    threads = [threading.Thread(target=lambda: [limiter.wait() for _ in range(100)]) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert clock.now - 100.0 >= (800 - 100) / 110
