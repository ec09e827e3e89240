"""The first measurement of the watch over memory, and its interval."""

from __future__ import annotations

import pytest

from runwide.host.memory import Memory
from runwide.pool.resources import MemoryWatch, next_look

MIB = 1 << 20


def there_is(size, *, available):
    return Memory(
        limit=size,
        source="",
        high=None,
        used=None,
        total=None,
        available=available,
        oom_kills=0,
        kills_all=True,
    )


@pytest.fixture(params=["auto", "always"])
def watch(request, monkeypatch):
    monkeypatch.setenv("RUNWIDE_MEMORY_GUARD", request.param)
    return MemoryWatch(0.1, None)


def test_it_looks_the_sooner_for_the_first_time_the_less_is_left(watch):
    watch.begin(there_is(256 * MIB, available=100 * MIB))
    assert watch.seconds == next_look(100 * MIB, 256 * MIB, 0.1) < 0.02


@pytest.mark.parametrize("available", [None, 60 << 30])
def test_if_much_memory_is_left_or_the_amount_is_unknown_the_watch_waits(watch, available):
    watch.begin(there_is(64 << 30, available=available))
    assert watch.seconds == 0.1


def test_without_a_guard_it_takes_its_time(monkeypatch):
    monkeypatch.setenv("RUNWIDE_MEMORY_GUARD", "never")
    watch = MemoryWatch(0.1, None)
    watch.begin(there_is(256 * MIB, available=10 * MIB))
    assert watch.seconds == 0.1
