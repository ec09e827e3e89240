"""Reading ahead: in order, a bounded number at a time, and on threads only where that helps."""

from __future__ import annotations

import threading

import pytest

from runwide.job.flow import ahead


def test_a_single_input_is_read_where_it_is_asked_for():
    asked: list[threading.Thread] = []
    assert list(ahead(lambda x: asked.append(threading.current_thread()) or x, [7], threads=4)) == [7]
    assert asked == [threading.current_thread()]


def test_of_no_input_nothing_comes():
    assert list(ahead(abs, [], threads=4)) == []


def test_several_are_read_beside_each_other_and_come_in_their_order():
    together = threading.Barrier(3, timeout=20)

    def read(x: int) -> int:
        together.wait()
        return x

    assert list(ahead(read, range(6), threads=3)) == [0, 1, 2, 3, 4, 5]


def test_what_one_raises_comes_in_its_place():
    arriving = ahead(lambda x: 6 // x, [3, 0, 2], threads=2)
    assert next(arriving) == 2
    with pytest.raises(ZeroDivisionError):
        next(arriving)
