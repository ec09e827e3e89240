"""References read back as they were written, and everything else is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runwide.errors import BadReference
from runwide.job.reference import Reference, parse, parse_shard, short_reference

DIGESTS = st.binary(min_size=32, max_size=32).map(bytes.hex)


@given(st.sampled_from(["gs://b/runs", "/a b/c#d", "/x/y#sha256=z"]), DIGESTS)
def test_a_reference_reads_back(folder, digest):
    reference = Reference(f"{folder}/job.json", digest)
    assert parse(str(reference)) == reference
    assert parse(f" {reference}\n") == reference
    assert (reference.folder, reference.name) == (folder, "job.json")


@given(st.integers(0, 99999), DIGESTS)
def test_a_shard_reads_back_from_its_short_and_its_full_form(index, digest):
    full = str(Reference(f"gs://b/j/shards/{index:04d}/shard.json", digest))
    assert parse_shard(short_reference(index, full)) == (index, digest) == parse_shard(full)


def test_the_references_of_2000_shards_fit_into_one_argument_of_a_command():
    full = str(Reference("gs://bucket/prefix/shards/1999/shard.json", "f" * 64))
    assert len(f'"{short_reference(1999, full)}", ') * 2000 < 128 * 1024


@pytest.mark.parametrize(
    "text",
    [
        "",
        "nonsense",
        "gs://b/j/job.json",
        "gs://b/job.json#sha256=12",
        "gs://b/j#sha256=" + "g" * 64,
        "#sha256=" + "0" * 64,
    ],
)
def test_the_error_of_an_invalid_reference_describes_a_valid_one(text):
    with pytest.raises(BadReference, match="pass the whole line"):
        parse(text)


@pytest.mark.parametrize(
    "text", ["7", "7:", "x:" + "A" * 43, "7:" + "A" * 42, "gs://b/j/job.json#sha256=" + "0" * 64]
)
def test_an_invalid_reference_of_a_shard_is_rejected(text):
    with pytest.raises(BadReference):
        parse_shard(text)
