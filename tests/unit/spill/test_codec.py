"""Values are the same after encoding and decoding; bytes with another digest are never unpickled."""

from __future__ import annotations

import pickle
import struct
import sys
import types
from typing import ClassVar

import cloudpickle
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runwide.errors import DigestMismatch, FormatTooNew, FrameCorrupt
from runwide.store import codec
from runwide.store.buffers import sha256
from runwide.store.codec import decode, encode, rebound

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.tuples(inner, inner),
    max_leaves=20,
)


class Bomb:
    """An object that reports when it is unpickled."""

    exploded: ClassVar[list[int]] = []

    def __reduce__(self):
        return (Bomb.exploded.append, (1,))


def joined(frame):
    return bytearray(b"".join(frame.parts))


def framed(value, context="c"):
    frame = encode(value, context=context)
    return joined(frame), frame.digest


@given(VALUES, st.text(max_size=20))
def test_a_value_comes_back_equal(value, context):
    data, digest = framed(value, context)
    assert decode(data, digest=digest, context=context) == value


@given(VALUES)
def test_size_and_digest_are_those_of_the_bytes(value):
    frame = encode(value, context="c")
    data = joined(frame)
    assert (frame.size, frame.digest) == (len(data), sha256(data))
    assert len(data) % 64 == 0


@given(VALUES, st.text(max_size=100))
def test_the_quick_way_for_small_values_gives_the_same_frame(value, context):
    with pytest.MonkeyPatch.context() as patch:
        quick = encode(value, context=context)
        patch.setattr(codec, "_SMALL", 0)
        usual = encode(value, context=context)
    assert len(quick.parts) == 1
    assert (joined(quick), quick.size, quick.digest) == (joined(usual), usual.size, usual.digest)


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("shape", [(3,), (1000,), (300, 40)])
def test_an_array_comes_back_equal_and_writable(shape, order):
    array = np.asarray(np.random.default_rng(1).normal(size=shape), order=order)
    data, digest = framed({"x": array})
    found = decode(data, digest=digest, context="c")["x"]
    assert np.array_equal(found, array)
    found += 1.0


def test_a_large_array_is_a_view_on_the_caller_on_the_way_in_and_on_the_buffer_on_the_way_out():
    array = np.arange(100_000.0)
    frame = encode(array, context="c")
    assert any(
        np.shares_memory(np.frombuffer(part, np.uint8), array) for part in frame.parts if len(part) > 4096
    )
    data = joined(frame)
    found = decode(data, digest=frame.digest, context="c")
    assert np.shares_memory(found, np.frombuffer(data, np.uint8))
    assert found.ctypes.data % 16 == 0


def test_an_array_that_was_read_only_stays_so():
    array = np.arange(10_000.0)
    array.flags.writeable = False
    data, digest = framed(array)
    assert not decode(data, digest=digest, context="c").flags.writeable


def test_a_strided_view_is_encoded_without_the_elements_that_it_skips():
    array = np.arange(1_000_000.0)[::100]
    data, digest = framed(array)
    assert len(data) < 100_000
    assert np.array_equal(decode(data, digest=digest, context="c"), array)


def test_lambdas_and_closures_are_encoded_by_value():
    factor = 3
    data, digest = framed(lambda x: x * factor)
    assert decode(data, digest=digest, context="c")(2) == 6


def test_definitions_in_main_are_encoded_by_value(monkeypatch):
    main = types.ModuleType("__main__")
    monkeypatch.setitem(sys.modules, "__main__", main)
    exec("class Point:\n    def __init__(self, x): self.x = x", main.__dict__)
    data, digest = framed(main.Point(4))
    monkeypatch.setitem(sys.modules, "__main__", types.ModuleType("__main__"))
    assert decode(data, digest=digest, context="c").x == 4


def test_definitions_in_a_registered_module_are_encoded_by_value(monkeypatch):
    module = types.ModuleType("only_here")
    monkeypatch.setitem(sys.modules, "only_here", module)
    exec("class Point: pass", module.__dict__)
    cloudpickle.register_pickle_by_value(module)
    try:
        data, digest = framed(module.Point())
    finally:
        cloudpickle.unregister_pickle_by_value(module)
    monkeypatch.delitem(sys.modules, "only_here")
    assert type(decode(data, digest=digest, context="c")).__name__ == "Point"


def test_a_value_that_cannot_be_pickled_raises_the_exception_of_pickle():
    with pytest.raises(TypeError, match="generator"):
        encode((x for x in ()), context="c")


@given(st.data())
def test_any_flipped_bit_is_seen_before_anything_is_unpickled(data):
    frame, digest = framed([Bomb(), "text" * 20])
    position = data.draw(st.integers(0, len(frame) * 8 - 1))
    frame[position // 8] ^= 1 << position % 8
    with pytest.raises(DigestMismatch):
        decode(frame, digest=digest, context="c", uri="gs://b/o")
    assert Bomb.exploded == []


@pytest.mark.parametrize("cut", [0, 1, 7, 8, 39, 40, 64, -1])
def test_a_cut_frame_is_refused_even_with_the_right_digest(cut):
    frame, _ = framed([Bomb()])
    part = frame[:cut]
    with pytest.raises(FrameCorrupt) as caught:
        decode(part, digest=sha256(part), context="c", uri="gs://b/o")
    assert caught.value.uri == "gs://b/o"
    assert Bomb.exploded == []


@pytest.mark.parametrize(("offset", "value"), [(12, 2**31), (16, 2**20), (16, 1), (24, 2**62), (24, 0)])
def test_lengths_that_lead_out_of_the_frame_are_refused(offset, value):
    frame, _ = framed([Bomb()])
    struct.pack_into("<Q" if offset == 24 else "<I", frame, offset, value)
    with pytest.raises(FrameCorrupt):
        decode(frame, digest=sha256(frame), context="c")
    assert Bomb.exploded == []


def test_a_valid_frame_of_another_slot_is_refused_before_it_is_unpickled():
    frame, digest = framed(Bomb(), "job-1/item/1")
    with pytest.raises(FrameCorrupt, match="belongs to 'job-1/item/1', not to 'job-2/item/1'"):
        decode(frame, digest=digest, context="job-2/item/1")
    assert Bomb.exploded == []


def test_a_frame_of_a_newer_format_says_so():
    frame, _ = framed(1)
    struct.pack_into("<H", frame, 8, codec.VERSION + 1)
    with pytest.raises(FormatTooNew, match="upgrade runwide"):
        decode(frame, digest=sha256(frame), context="c")


def test_a_bare_pickle_is_not_a_frame():
    data = pickle.dumps(Bomb()).ljust(128, b".")
    with pytest.raises(FrameCorrupt, match="not a value written by runwide"):
        decode(data, digest=sha256(data), context="c")
    assert Bomb.exploded == []


# --- the same value in another slot


@given(VALUES, st.text(max_size=80), st.text(max_size=80))
def test_binding_a_value_to_another_slot_gives_the_frame_of_encoding_it_there(value, context, other):
    data, _ = framed(value, context)
    moved = rebound(data, context=context, new=other)
    assert (joined(moved), moved.digest) == framed(value, other)
    assert decode(joined(moved), digest=moved.digest, context=other) == value


@pytest.mark.parametrize("compression", ["none", "zstd"])
def test_large_buffers_move_with_their_value_and_stay_writable(compression, monkeypatch):
    monkeypatch.setenv("RUNWIDE_COMPRESSION", compression)
    value = {"a": np.zeros(40_000), "b": np.arange(30_001, dtype=np.int16), "c": "x" * 20_000}
    data, _ = framed(value)
    moved = rebound(data, context="c", new="another slot")
    assert joined(moved) == framed(value, "another slot")[0]
    found = decode(joined(moved), digest=moved.digest, context="another slot")
    found["b"] += 1
    assert np.array_equal(found["b"], value["b"] + 1)
    assert found["c"] == value["c"]


def test_a_value_is_not_unpickled_to_be_bound_to_another_slot():
    data, _ = framed(Bomb())
    Bomb.exploded.clear()
    rebound(data, context="c", new="d")
    assert Bomb.exploded == []


def test_only_a_frame_of_the_given_slot_is_bound_to_another_slot():
    data, _ = framed([1, 2, 3])
    with pytest.raises(FrameCorrupt, match="belongs to 'c', not to 'other'"):
        rebound(data, context="other", new="d")
    for broken in (b"", data[:20], b"x" + data[1:]):
        with pytest.raises(FrameCorrupt):
            rebound(broken, context="c", new="d")
    newer = bytearray(data)
    newer[8:10] = struct.pack("<H", codec.VERSION + 1)
    with pytest.raises(FormatTooNew):
        rebound(newer, context="c", new="d")
