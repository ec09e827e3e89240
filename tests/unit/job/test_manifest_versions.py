"""A manifest that this release cannot read says which release made it, and what to do."""

from __future__ import annotations

import json

import pytest

import runwide
from runwide import json_text
from runwide.errors import FormatTooNew, FrameCorrupt
from runwide.job.manifest import read_job
from runwide.store import open_store
from runwide.store.buffers import sha256


def rewritten(job: str, change) -> str:
    """The job's manifest with other contents and the digest of those."""
    folder = job.partition("#")[0].rpartition("/")[0]
    with open_store(folder) as store:
        about = json.loads(store.read("job.json"))
        change(about)
        data = json_text.dumps(about)
        store.delete("job.json")
        store.create("job.json", data)
    return f"{folder}/job.json#sha256={sha256(data)}"


@pytest.fixture
def job(tmp_path) -> str:
    return runwide.scatter(abs, [-1, -2, -3], store=str(tmp_path), shards=2)


def test_the_error_of_fields_of_another_release_has_its_version(job):
    def change(about):
        about["placement"] = "spread"
        about["environment"]["runwide"] = "9.1.0"

    with pytest.raises(
        FormatTooNew, match=r"made by runwide 9\.1\.0, and this is runwide .*placement"
    ) as caught:
        read_job(rewritten(job, change))
    assert "image with runwide 9.1.0 (RUNWIDE_IMAGE)" in caught.value.hint


@pytest.mark.parametrize("field", ["environment", "packs", "function", "layout", "source", "reduced"])
def test_an_invalid_manifest_of_this_release_is_damage(job, field):
    with pytest.raises(FrameCorrupt, match="is invalid"):
        read_job(rewritten(job, lambda about: about.pop(field)))


@pytest.mark.parametrize(
    "layout",
    [
        {"count": 0}, {"count": -1}, {"count": 1 << 61}, {"count": True}, {"shards": 0}, {"shards": 1 << 61},
        {"shards": 1.5}, {"seed": None}, {"seed": "x" * 1000}, {"parts": 0}, {"parts": 3}, {"parts": 1 << 61},
        {"further": 1},
    ],
    ids=str,
)  # fmt: skip
def test_an_impossible_layout_is_damage_and_takes_no_memory(job, layout):
    with pytest.raises(FrameCorrupt, match="is invalid"):
        read_job(rewritten(job, lambda about: about["layout"].update(layout)))


@pytest.mark.parametrize(
    "change",
    [
        lambda packs: packs.clear(),
        lambda packs: packs.append(packs[-1]),
        lambda packs: packs.reverse(),
        lambda packs: packs[0].update(count=packs[0]["count"] + 1),
        lambda packs: packs[0].update(count=0),
        lambda packs: packs[0].update(count=1 << 61),
        lambda packs: packs[0].update(start=1),
        lambda packs: packs[-1].update(shard=0),
    ],
    ids=["none", "one more", "reversed", "an item more", "empty", "huge", "a gap", "of another shard"],
)
def test_packs_that_do_not_have_each_item_once_are_damage(job, change):
    with pytest.raises(FrameCorrupt, match="is invalid"):
        read_job(rewritten(job, lambda about: change(about["packs"])))


@pytest.mark.parametrize(
    "source",
    [{}, {"id": "../other"}, {"id": "a/b"}, {"job": "0"}, {"shards": []}, {"shards": ["x"]}, {"further": 1}],
    ids=str,
)
def test_a_source_that_is_not_a_job_of_the_store_is_damage(job, source):
    def change(about):
        about["source"] = {"id": "a-1", "job": "0" * 64, "shards": ["0" * 64], **source}
        about["packs"] = about["packs"] if not source else []  # a job has its items in one place

    with pytest.raises(FrameCorrupt, match="is invalid"):
        read_job(rewritten(job, change))


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        ({"layout": 3}, "an int is not a JSON object"),
        ({"count": 3}, "the field 'count' is unknown"),
        ({"function": {}}, "it has no 'digest'"),
        ({"packs": [7]}, "an int is not a JSON object"),
    ],
    ids=["layout", "strange", "missing", "pack"],
)
def test_the_error_of_a_damaged_job_does_not_name_functions_of_python(job, edit, said):
    with pytest.raises((FrameCorrupt, FormatTooNew)) as caught:
        read_job(rewritten(job, lambda about: about.update(edit)))
    assert said in caught.value.message
