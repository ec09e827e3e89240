"""Bytes are passed on in pieces that are neither large nor numerous."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from runwide.store.buffers import gathered, views


@given(st.lists(st.binary(max_size=300), max_size=40), st.integers(1, 200))
def test_gathered_pieces_are_the_same_bytes_each_no_longer_than_asked_for(parts, size):
    found = list(gathered(views(parts), size))
    assert b"".join(found) == b"".join(parts)
    assert all(0 < len(piece) <= size for piece in found)


@given(st.lists(st.integers(1, 60), min_size=1, max_size=200))
def test_of_two_neighbours_one_is_always_more_than_half_of_what_was_asked_for(sizes):
    found = [len(piece) for piece in gathered([memoryview(bytes(size)) for size in sizes], 64)]
    assert all(one + two > 64 for one, two in pairwise(found))


def test_a_large_part_is_not_copied():
    data = bytearray(1000)
    (piece,) = gathered([memoryview(data)], 1000)
    data[500] = 7
    assert piece[500] == 7
