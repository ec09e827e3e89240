"""Items are sent to workers without a copy, and are collected without warnings."""

from __future__ import annotations

import gc
import pickle

import pytest

from runwide.job.task import Part


@pytest.mark.parametrize("size", [10, 100_000])
def test_a_part_arrives_as_the_bytes_that_it_names(size):
    data = bytearray(bytes(range(250)) * (size // 250 + 1))
    buffers = []
    pickled = pickle.dumps(Part(data, 3, size), protocol=5, buffer_callback=buffers.append)
    assert len(pickled) < 500
    arrived = pickle.loads(pickled, buffers=[bytearray(buffer.raw()) for buffer in buffers])
    assert bytes(arrived) == bytes(data[3:size])


def test_a_part_in_a_garbage_cycle_is_collected_quietly():
    # With a PickleBuffer in its place this fails, or crashes, on Python 3.10 to 3.12.
    for _ in range(50):
        cycle = [Part(memoryview(bytearray(1000)), 10, 20)]
        cycle.append(cycle)
        del cycle
        gc.collect()
