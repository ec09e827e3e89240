"""When the watch over memory looks first, and at whom."""

from __future__ import annotations

import pytest

from runwide.pool.machine import Memory
from runwide.pool.memory_watch import MemoryWatch, next_look

MIB = 1 << 20


@pytest.fixture(params=["auto", "always"])
def watch(request, monkeypatch):
    monkeypatch.setenv("RUNWIDE_MEMORY_GUARD", request.param)
    return MemoryWatch(0.1, None)


def test_it_looks_the_sooner_for_the_first_time_the_less_is_left(watch):
    watch.begin(Memory(size=256 * MIB, oom_kills=0, kills_all=True, available=100 * MIB))
    assert watch.seconds == next_look(100 * MIB, 256 * MIB, 0.1) < 0.02


@pytest.mark.parametrize("available", [None, 60 << 30])
def test_where_much_is_left_or_nobody_knows_it_takes_its_time(watch, available):
    watch.begin(Memory(size=64 << 30, oom_kills=0, kills_all=True, available=available))
    assert watch.seconds == 0.1


def test_without_a_guard_it_takes_its_time(monkeypatch):
    monkeypatch.setenv("RUNWIDE_MEMORY_GUARD", "never")
    watch = MemoryWatch(0.1, None)
    watch.begin(Memory(size=256 * MIB, oom_kills=0, kills_all=True, available=10 * MIB))
    assert watch.seconds == 0.1
