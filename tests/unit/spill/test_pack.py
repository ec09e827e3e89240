"""A pack's index has the places of its values; a pack with another digest is refused."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runwide.errors import DigestMismatch, FormatTooNew, FrameCorrupt
from runwide.store import pack
from runwide.store.codec import decode, encode


def packed(values, **options):
    members = [pack.Member(10 + n, encode(v, context=f"c{n}"), failed=n == 1) for n, v in enumerate(values)]
    return pack.build(members, job="job", slot="items/0.pack", **options)


def joined(one):
    return bytearray(b"".join(one.parts))


@given(st.lists(st.binary(max_size=300) | st.integers(), max_size=30))
def test_every_value_is_found_by_its_entry(values):
    one = packed(values)
    data = joined(one)
    head = pack.read_head(data, job="job", slot="items/0.pack", digest=one.head.digest)
    assert head == one.head
    assert len(data) == one.size == head.stop
    assert [entry.item for entry in head.entries] == list(range(10, 10 + len(values)))
    assert [entry.failed for entry in head.entries] == [n == 1 for n in range(len(values))]
    found = [
        decode(data[entry.offset : entry.stop], digest=entry.digest, context=f"c{n}")
        for n, entry in enumerate(head.entries)
    ]
    assert found == values


def test_values_lie_at_multiples_of_64():
    assert {entry.offset % 64 for entry in packed([b"a" * n for n in range(100)]).head.entries} == {0}


def test_the_head_alone_is_enough_for_the_index():
    one = packed(["a", "b"])
    assert pack.read_head(joined(one)[: one.head.size]) == one.head


def test_the_note_of_the_writer_comes_back():
    assert pack.read_head(joined(packed([1], note={"failures": ["ä"]}))).note == {"failures": ["ä"]}


def test_a_head_that_a_manifest_does_not_name_is_refused():
    with pytest.raises(DigestMismatch, match="not the promised"):
        pack.read_head(joined(packed([1])), digest=packed([2]).head.digest, uri="gs://b/o")


@given(st.data())
def test_a_flipped_bit_in_a_head_shows_even_where_no_manifest_names_it(data):
    one = packed(["a", "b"])
    content = joined(one)
    # Readers with the key check the bytes of the signature.
    bits = [*range(56 * 8), *range(88 * 8, one.head.size * 8)]
    position = data.draw(st.sampled_from(bits))
    content[position // 8] ^= 1 << position % 8
    with pytest.raises((FrameCorrupt, FormatTooNew)):
        pack.read_head(content)


@pytest.mark.parametrize(("field", "value"), [("job", "other"), ("slot", "items/1.pack")])
def test_a_valid_pack_of_another_place_is_refused(field, value):
    wanted = {"job": "job", "slot": "items/0.pack", field: value}
    with pytest.raises(FrameCorrupt, match="belongs to"):
        pack.read_head(joined(packed([1])), **wanted)


@pytest.mark.parametrize("cut", [0, 8, 23, 87, 88, -1])
def test_a_cut_head_is_refused(cut):
    one = packed([1, 2])
    with pytest.raises(FrameCorrupt):
        pack.read_head(joined(one)[: one.head.size][:cut], uri="gs://b/o")


def test_a_pack_of_a_newer_format_says_so():
    data = joined(packed([1]))
    struct.pack_into("<H", data, 8, pack.VERSION + 1)
    with pytest.raises(FormatTooNew, match="upgrade runwide"):
        pack.read_head(data)


@given(st.data())
def test_a_value_that_was_changed_is_found_before_it_is_used(data):
    one = packed([b"abc", "x" * 500, 3])
    changed = joined(one)
    head = pack.read_head(changed)
    pack.verify_values(changed, head)
    changed[data.draw(st.integers(head.size, len(changed) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(DigestMismatch):
        pack.verify_values(changed, head)


@pytest.mark.parametrize("change", [-1, 1])
def test_a_pack_of_another_size_than_its_index_says_is_refused(change):
    one = packed([b"abc", "x" * 500])
    data = joined(one)
    other = data[:change] if change < 0 else data + bytes(change)
    with pytest.raises(FrameCorrupt, match="accounts for"):
        pack.verify_values(other, pack.read_head(data))
