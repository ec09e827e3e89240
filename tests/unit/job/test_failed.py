"""Failures in the records and the commands of a job."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

import runwide
from runwide.cli.jobs import gather_command
from runwide.errors import IntegrityError, TasksFailed
from runwide.job import manifest
from runwide.job.reference import parse
from runwide.store.base import open_store


def wordy(x):
    if x % 2:
        raise ValueError("first\n" + "y" * 100_000)
    return x


def test_long_messages_are_cut_in_records_and_lists(memory):
    job = runwide.scatter(wordy, range(20), store=memory, shards=3)
    for index in range(3):
        runwide.shard(job, index, workers=1)
    about = manifest.read_job(job)
    with open_store(about.uri) as store:
        for index in range(3):
            assert len(store.read(manifest.shard_name(index))) < 1 << 20
    for one in runwide.status(job).failures:
        assert "\n" not in one.error
        assert len(one.error) <= 300
    told = CliRunner().invoke(gather_command, [job]).exception
    assert isinstance(told, TasksFailed)
    assert [failure.index for failure in told.failures] == list(range(1, 20, 2))
    assert "\n" not in str(told)
    assert len(str(told)) < 3000
    with pytest.raises(ValueError, match="first") as caught:
        runwide.gather(job)
    assert len(str(caught.value)) == 100_006
    assert len(str(caught.value.__cause__)) < 10_000


def test_the_error_of_a_changed_chunk_says_how_to_repair_it(tmp_path):
    results = runwide.map(abs, range(6), store=tmp_path, name="six", workers=1)
    (chunk,) = tmp_path.glob("*/shards/0000/chunks/*.pack")
    data = bytearray(chunk.read_bytes())
    data[-70] ^= 1
    chunk.write_bytes(data)
    for read in (runwide.load, lambda job: list(runwide.load(job, stream=True))):
        with pytest.raises(
            IntegrityError, match=r"run again: runwide shard .* 0, then runwide gather"
        ) as caught:
            read(results.job)
        assert parse(results.job).folder in caught.value.uri
    runwide.shard(results.job, 0, workers=1)
    assert runwide.gather(results.job) == list(range(6))
