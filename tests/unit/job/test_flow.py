"""Reading ahead: in order, a bounded number at a time, and on threads only where that helps."""

from __future__ import annotations

import threading

import pytest

from runwide.job.flow import ahead, closed


def test_a_single_input_is_read_where_it_is_asked_for():
    asked: list[threading.Thread] = []
    assert list(ahead(lambda x: asked.append(threading.current_thread()) or x, [7], threads=4)) == [7]
    assert asked == [threading.current_thread()]


def test_no_inputs_give_no_results():
    assert list(ahead(abs, [], threads=4)) == []


def test_several_inputs_are_read_at_once_and_come_in_order():
    together = threading.Barrier(3, timeout=20)

    def read(x: int) -> int:
        together.wait()
        return x

    assert list(ahead(read, range(6), threads=3)) == [0, 1, 2, 3, 4, 5]


def test_an_exception_is_raised_in_the_order_of_the_inputs():
    arriving = ahead(lambda x: 6 // x, [3, 0, 2], threads=2)
    assert next(arriving) == 2
    with pytest.raises(ZeroDivisionError):
        next(arriving)


def test_a_generator_that_another_thread_runs_is_closed_there_without_waiting():
    entered, go_on, left = threading.Event(), threading.Event(), threading.Event()

    def inputs():
        try:
            entered.set()
            go_on.wait(60)
            yield 1
        finally:
            left.set()

    generator = inputs()
    with closed(generator):
        taking = threading.Thread(target=next, args=(generator,))
        taking.start()
        assert entered.wait(60)
    assert not left.is_set()
    go_on.set()
    taking.join()
    del taking, generator
    assert left.is_set()


def test_an_exception_during_closing_is_not_lost():
    def inputs():
        try:
            yield 1
        finally:
            raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"), closed(inputs()) as generator:
        next(generator)
