"""Compressed values come back unchanged; sizes that compressed bytes claim are never trusted."""

from __future__ import annotations

import os
import struct
import sys

import numpy as np
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

import runwide
from runwide.errors import EnvironmentMismatch, FormatTooNew, FrameCorrupt, InputError
from runwide.job import manifest
from runwide.store.base import open_store
from runwide.store.buffers import compressed, samples, sha256
from runwide.store.codec import ZSTD, decode, encode

TABLE = {"day": ["2026-11-24"] * 5000, "flags": np.zeros(100_000), "small": 1}


@pytest.fixture(autouse=True)
def zstd(monkeypatch):
    monkeypatch.setenv("RUNWIDE_COMPRESSION", "zstd")


def framed(value):
    frame = encode(value, context="c")
    data = bytearray(b"".join(frame.parts))
    assert (len(data), sha256(data), len(data) % 64) == (frame.size, frame.digest, 0)
    return data


def loaded(data):
    return decode(data, digest=sha256(data), context="c", uri="gs://b/o")


def is_compressed(data):
    return struct.unpack_from("<H", data, 10)[0] == ZSTD


def test_a_value_for_which_it_pays_is_compressed_and_comes_back_equal_and_writable():
    data = framed(TABLE)
    assert is_compressed(data)
    assert len(data) < 100_000
    found = loaded(data)
    assert (found["day"], found["small"]) == (TABLE["day"], 1)
    found["flags"] += 1
    assert found["flags"].sum() == 100_000


@pytest.mark.parametrize(
    "value",
    [os.urandom(1 << 20), np.random.default_rng(1).random(100_000), "a" * 1000],
    ids=["bytes", "array", "text"],
)
def test_random_and_small_values_are_not_compressed(value):
    data = framed(value)
    assert not is_compressed(data)
    assert np.array_equal(loaded(data), value)


def test_a_value_that_shrinks_only_in_its_samples_is_not_compressed():
    data = bytearray(os.urandom(1 << 20))
    for start in range(0, len(data), len(data) // 3 - 6000):
        data[max(0, start - 20_000) : start + 20_000] = bytes(
            len(data[max(0, start - 20_000) : start + 20_000])
        )
    sample = b"".join(samples([memoryview(data)], len(data)))
    assert len(zstandard.compress(sample)) < 0.5 * len(sample)
    assert compressed([data], len(data)) is None


@pytest.mark.parametrize("size", [16 << 10, (64 << 10) + 64])
def test_a_value_of_a_few_samples_is_compressed_like_a_large_value(size):
    assert compressed([b"abc" * size], size * 3) is not None
    assert compressed([os.urandom(size)], size) is None


def test_nothing_is_compressed_unless_it_is_asked_for(monkeypatch):
    monkeypatch.delenv("RUNWIDE_COMPRESSION")
    assert not is_compressed(framed(TABLE))


@given(st.lists(st.integers(0, 200_000), min_size=1, max_size=4), st.integers(0, 3))
def test_arrays_of_any_size_come_back(sizes, random):
    value = [np.arange(size) % 7 if number != random else np.frombuffer(os.urandom(size), np.uint8)
             for number, size in enumerate(sizes)]  # fmt: skip
    found = loaded(framed(value))
    assert all(np.array_equal(ours, theirs) for ours, theirs in zip(value, found, strict=True))


@given(st.lists(st.integers(0, 100_000), max_size=5))
def test_samples_lie_inside_of_the_parts(sizes):
    found = samples([memoryview(bytes(size)) for size in sizes], sum(sizes))
    assert len(found) <= 4
    assert all(0 < len(piece) <= 16 << 10 for piece in found)


def test_the_start_of_a_value_does_not_decide_alone_whether_it_is_compressed():
    assert not is_compressed(framed([bytes(20_000), os.urandom(1 << 20)]))


@pytest.mark.parametrize("length", [0, 1, 70_000, 2**40, 2**63])
def test_another_length_than_the_bytes_have_is_refused(length):
    data = framed("a" * 100_000)
    struct.pack_into("<Q", data, 24, length)
    with pytest.raises(FrameCorrupt) as caught:
        loaded(data)
    assert caught.value.uri == "gs://b/o"


def test_no_more_memory_is_taken_than_the_header_says():
    import tracemalloc

    data = framed("a" * 100_000)
    start = data.index(zstandard.MAGIC_NUMBER.to_bytes(4, "little"))
    bomb = zstandard.ZstdCompressor(level=19).compress(bytes(1 << 30))
    data[start:] = bomb + bytes(-(start + len(bomb)) % 64)
    struct.pack_into("<Q", data, 32, len(bomb))
    assert len(data) < 1 << 20
    tracemalloc.start()
    with pytest.raises(FrameCorrupt, match="does not decompress to the"):
        loaded(data)
    assert tracemalloc.get_traced_memory()[1] < 16 << 20
    tracemalloc.stop()


@pytest.mark.parametrize("rest", [b"", b"garbage" * 100, bytes(64)], ids=["none", "garbage", "zeros"])
def test_bytes_that_are_not_a_zstd_frame_are_refused(rest):
    data = framed("a" * 100_000)
    start = data.index(zstandard.MAGIC_NUMBER.to_bytes(4, "little"))
    with pytest.raises(FrameCorrupt):
        loaded(data[:start] + rest)


def test_an_unknown_flag_is_a_newer_format():
    data = framed(1)
    struct.pack_into("<H", data, 10, 2)
    with pytest.raises(FormatTooNew, match="upgrade runwide"):
        loaded(data)


def test_without_zstandard_both_sides_say_what_to_install(monkeypatch):
    data = framed(TABLE)
    monkeypatch.setitem(sys.modules, "zstandard", None)
    with pytest.raises(EnvironmentMismatch, match=r"runwide\[zstd\]"):
        loaded(data)
    with pytest.raises(InputError, match=r"runwide\[zstd\]"):
        framed(TABLE)


def test_a_job_with_compression_takes_less_of_the_store_and_gives_the_same(tmp_path, monkeypatch):
    def sizes(word):
        monkeypatch.setenv("RUNWIDE_COMPRESSION", word)
        store = str(tmp_path / word)
        job = runwide.scatter(lambda x: x + x, ["ab" * 50_000, "c"], store=store, shards=1)
        assert runwide.gather(job, [runwide.shard(job, 0, workers=1)]) == ["ab" * 100_000, "cc"]
        listed = open_store(manifest.read_job(job).uri).list()
        return sum(info.size for info in listed if info.name.endswith(".pack"))

    assert sizes("zstd") * 20 < sizes("none")
