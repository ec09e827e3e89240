"""A manifest that this release cannot read says which release made it, and what to do."""

from __future__ import annotations

import json

import pytest

import runwide
from runwide.errors import FormatTooNew, FrameCorrupt
from runwide.job.manifest import read_job
from runwide.spill import canonical, open_store
from runwide.spill.buffers import sha256


def rewritten(job: str, change) -> str:
    """The job's manifest with other contents and the digest of those."""
    folder = job.partition("#")[0].rpartition("/")[0]
    with open_store(folder) as store:
        about = json.loads(store.read("job.json"))
        change(about)
        data = canonical.dumps(about)
        store.delete("job.json")
        store.create("job.json", data)
    return f"{folder}/job.json#sha256={sha256(data)}"


@pytest.fixture
def job(tmp_path) -> str:
    return runwide.scatter(abs, [-1], store=str(tmp_path), shards=1)


def test_fields_of_another_release_are_told_with_its_version(job):
    def change(about):
        about["placement"] = "spread"
        about["environment"]["runwide"] = "9.1.0"

    with pytest.raises(
        FormatTooNew, match=r"made by runwide 9\.1\.0, and this is runwide .*placement"
    ) as caught:
        read_job(rewritten(job, change))
    assert "image with runwide 9.1.0 (RUNWIDE_IMAGE)" in caught.value.hint


@pytest.mark.parametrize("field", ["environment", "packs", "function", "starts"])
def test_a_manifest_of_this_release_that_makes_no_sense_is_damaged(job, field):
    with pytest.raises(FrameCorrupt, match="makes no sense"):
        read_job(rewritten(job, lambda about: about.pop(field)))
