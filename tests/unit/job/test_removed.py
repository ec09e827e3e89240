"""A finished job of which any object was removed gives the right results, or says which parts are gone and what to do."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import pytest
from click.testing import CliRunner

import runwide
from runwide.cli import cli
from runwide.errors import BadReference, EngineError, JobIncomplete, ObjectNotFound
from runwide.job import finish, plan, rerun, status
from runwide.job.manifest import RESULT, read_job
from runwide.store import open_store
from runwide.store.buffers import sha256

ITEMS = list(range(6))
RESULTS = [x * 2 for x in ITEMS]
ROOTS = (f"memory://removed-{number}" for number in itertools.count())


def double(x):
    return x * 2


def named(root):
    return runwide.map(double, ITEMS, store=root, name="doubles", shards=2, workers=1)


class Finished:
    """A finished job of two shards, whose objects are copied to a store of each test, without some of them."""

    def __init__(self, root):
        named(root)
        with open_store(root) as store:
            self.objects = {info.name: bytes(store.read(info.name)) for info in store.list()}
        self.job_id = next(name for name in self.objects if name.endswith("job.json")).partition("/")[0]

    def names(self):
        """The objects, as they are called in the job's folder."""
        return [name.removeprefix(f"{self.job_id}/") for name in self.objects]

    def without(self, *gone, root=None):
        root = root or next(ROOTS)
        left = {
            name: data
            for name, data in self.objects.items()
            if name.removeprefix(f"{self.job_id}/") not in gone
        }
        assert len(left) == len(self.objects) - len(gone)
        with open_store(root) as store:
            for name, data in left.items():
                store.create(name, data)
        return Copy(root, self)


class Copy:
    def __init__(self, root, made):
        self.root = root
        self.folder = f"{root}/{made.job_id}"
        self._objects = {name.removeprefix(f"{made.job_id}/"): data for name, data in made.objects.items()}

    def reference(self, name="job.json"):
        return f"{self.folder}/{name}#sha256={sha256(self._objects[name])}"

    @property
    def shards(self):
        return [self.reference(f"shards/{index:04d}/shard.json") for index in range(2)]


@pytest.fixture(scope="module")
def finished():
    return Finished(next(ROOTS))


def items_of(finished, shard):
    """The items of a shard, as an error lists them."""
    found = plan.spans(read_job(finished.without().reference()).items_of(shard))
    return ", ".join(str(start) if stop - start == 1 else f"{start}-{stop - 1}" for start, stop in found)


def gathered_by_command(copy):
    done = CliRunner().invoke(cli, ["gather", copy.reference()])
    if done.exception is not None:
        raise done.exception
    return runwide.load(done.stdout.strip())


READERS = {
    "load": lambda copy: runwide.load(copy.reference(RESULT)),
    "load of the folder": lambda copy: runwide.load(copy.folder),
    "gather": lambda copy: runwide.gather(copy.reference()),
    "gather of shards": lambda copy: runwide.gather(copy.reference(), copy.shards),
    "the command gather": gathered_by_command,
    "attach": lambda copy: runwide.attach(copy.reference()),
    "a call of the same name": lambda copy: named(copy.root),
    "rerun": lambda copy: runwide.gather(copy.reference(), rerun(copy.reference(), workers=1)),
}
PART = re.compile(r"shards/\d+/(shard\.json|chunks/\d+\.pack)")
REPAIRING = ("a call of the same name", "rerun")


def tried(reader, copy):
    """Return the results of a reader, or its error."""
    try:
        return READERS[reader](copy), None
    except (JobIncomplete, ObjectNotFound, BadReference, EngineError) as error:
        return None, error


@pytest.mark.parametrize("reader", READERS)
def test_without_any_single_object_results_are_right_or_the_error_names_the_missing_parts(finished, reader):
    for name in finished.names():
        found, error = tried(reader, finished.without(name))
        if error is None:
            assert found == RESULTS, name
            continue
        assert "\n" not in str(error)
        if name == "job.json":
            assert reader != "a call of the same name"
            assert "call the map, or run the pipeline, again" in error.hint
        elif name == RESULT:
            assert reader == "load"
            assert "the job's folder" in error.hint
        else:
            assert reader not in REPAIRING, name
            assert PART.fullmatch(name), (name, error)
            shard = int(name.split("/")[1])
            assert re.search(rf"(shards: |removed: |finished: |store: ){shard}\b", str(error))
            assert f"items {items_of(finished, shard)}" in str(error)
            assert "runwide shard" in error.hint


@pytest.mark.gcs
def test_a_bucket_without_any_one_object_says_the_same(finished, gcs):
    for number, name in enumerate(finished.names()):
        copy = finished.without(name, root=f"{gcs}/{number}")
        if name.endswith((".pack", "shard.json")) and name.startswith("shards/"):
            with pytest.raises(JobIncomplete, match="removed from the store"):
                runwide.load(copy.reference(RESULT))
        elif name not in ("job.json", RESULT):
            assert runwide.load(copy.reference(RESULT)) == RESULTS


def test_all_missing_parts_are_in_one_error(finished):
    gone = [f"shards/{index:04d}/chunks/000000.pack" for index in range(2)]
    copy = finished.without(*gone)
    with pytest.raises(JobIncomplete, match=r"the results of 6 of 6 items .*items 0-5 \(shards: 0, 1\)"):
        runwide.load(copy.folder)


@pytest.mark.parametrize("reader", ["gather", "gather of shards", "the command gather"])
@pytest.mark.parametrize("gone", ["shards/0001/chunks/000000.pack", "shards/0001/shard.json"])
def test_no_job_with_removed_parts_is_logged_as_gathered(finished, caplog, reader, gone):
    caplog.set_level("INFO")
    found, error = tried(reader, finished.without())
    assert (error, "job.gathered" in caplog.text) == (None, True)
    caplog.clear()
    found, error = tried(reader, finished.without(gone))
    assert found is None
    assert "removed from the store" in str(error)
    assert "job.gathered" not in caplog.text


def test_a_shard_that_has_not_finished_is_not_said_to_be_removed(finished):
    with pytest.raises(JobIncomplete, match="1 of 2 shards have not finished: 1"):
        finish(finished.without("shards/0001/shard.json", RESULT).reference())


def test_the_commands_in_the_error_restore_the_results(finished):
    copy = finished.without("shards/0001/chunks/000000.pack")
    with pytest.raises(JobIncomplete) as caught:
        finish(copy.reference())
    assert not [shard for shard in status(copy.reference()).shards if shard.index == 1 and shard.finished]
    job, index = re.search(r"runwide shard '(\S+)' (\d+)", caught.value.hint).groups()
    runwide.shard(job, int(index), workers=1)
    again = finish(job)
    assert runwide.load(again) == RESULTS
    with pytest.raises(JobIncomplete, match=r"gather again \(runwide gather .*\) and load what that returns"):
        runwide.load(copy.reference(RESULT))  # it names the chunk that was removed


@pytest.mark.parametrize("gone", ["function.pkl", "items/0001.pack"])
def test_a_shard_that_cannot_be_run_from_the_store_says_why(finished, gone):
    copy = finished.without("shards/0001/chunks/000000.pack", gone)
    with pytest.raises(
        JobIncomplete, match=rf"cannot be run from the store, since {gone} .*give another name="
    ):
        runwide.load(copy.folder)
    with pytest.raises(
        JobIncomplete, match=rf"{gone} of the job was removed .*items {items_of(finished, 1)} cannot be run"
    ):
        runwide.shard(copy.reference(), 1, workers=1)
    assert named(copy.root) == RESULTS  # which has its items


def test_a_long_list_in_an_error_is_shortened(tmp_path):
    job = runwide.scatter(double, list(range(60)), store=str(tmp_path), shards=30)
    with pytest.raises(
        JobIncomplete, match=r"30 of 30 shards have not finished: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, … "
    ):
        runwide.gather(job)
    folder = Path(job.partition("#")[0]).parent
    for path in folder.glob("items/*.pack"):
        path.unlink()
    with pytest.raises(JobIncomplete) as caught:
        runwide.gather(job)
    assert len(str(caught.value)) < 1000
