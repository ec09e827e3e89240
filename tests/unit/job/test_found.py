"""Each function takes a job's reference, the URI of its folder, its id, the start of its id, or its name."""

from __future__ import annotations

import pytest

import runwide
from runwide import job as jobs
from runwide.errors import BadReference, DigestMismatch, InputError
from runwide.job import lookup
from runwide.job.reference import parse
from runwide.log import configure
from runwide.store import signing
from runwide.store.base import open_store

KEY = "0123456789abcdef" * 2


@pytest.fixture(autouse=True)
def nothing_said(monkeypatch):
    monkeypatch.setattr(signing, "_logged", set())
    monkeypatch.setattr(lookup, "_logged", set())


def halved(x):
    return 4 // x


def stored(store, name=None):
    """A finished job of three items, of which one failed; its reference."""
    results = runwide.map(halved, [4, 0, 1], store=store, name=name, workers=1, on_error="return")
    return results.job


def test_each_function_takes_each_way_to_name_a_job(anywhere):
    job = stored(anywhere, name="scores")
    uri = parse(job).folder
    job_id = uri.rpartition("/")[2]
    reference = jobs.finish(job)
    for text in (job, reference, uri, f"{uri}/", f"{uri}/job.json", job_id, job_id[:10], "scores"):
        assert jobs.reference_of(text, anywhere) == job, text
    for text in (uri, job_id, "scores"):
        assert runwide.status(text, store=anywhere).reference == job
        assert runwide.report(text, store=anywhere).story.reference == job
        assert runwide.replay(text, 2, store=anywhere) == 4
        for read in (runwide.load, runwide.gather, runwide.attach):
            assert [str(one) for one in read(text, on_error="return", store=anywhere)][::2] == ["1", "4"]
    assert runwide.load(job, on_error="return")[2] == 4
    assert runwide.load(f"{uri}/result.json", on_error="return")[2] == 4
    (again,) = runwide.rerun("scores", store=anywhere, function=lambda x: x, workers=1)
    assert runwide.gather(job, [again]) == [1, 0, 4]
    assert runwide.shard("scores", 0, store=anywhere, workers=1) == again
    assert jobs.clean("scores", store=anywhere) > 5
    with pytest.raises(InputError, match="the job with the name 'scores' was removed"):
        runwide.status("scores", store=anywhere)
    with pytest.raises(InputError, match="no job has the id or name 'score'") as caught:
        runwide.status("score", store=anywhere)
    assert "did you mean" not in str(caught.value)


def test_the_store_of_the_environment_is_searched(memory, monkeypatch):
    job = stored(memory, name="scores")
    monkeypatch.setenv("RUNWIDE_STORE", memory)
    assert jobs.reference_of("scores") == job


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("scroes", r"no job has the id or name 'scroes'.*did you mean 'scores'\?.*runwide ls memory:"),
        ("nightly", r"batch of pipeline runs, not a job.*memory://.*/batches/nightly"),
        ("{store}/batches/nightly", "batch of pipeline runs, not a job"),
        ("{store}", r"a store with 2 jobs, not a job.*runwide ls memory:"),
        ("{store}/a-20261124t231308-0000000000000000", "there is no job at this URI.*runwide ls memory:"),
        ("{start}", "matches 2 jobs: '"),
    ],
    ids=["misspelt", "batch", "batch-uri", "store", "gone", "ambiguous"],
)
def test_a_text_that_matches_no_job_is_an_error_of_one_line_that_says_what_to_do(memory, text, message):
    job = stored(memory, name="scores")
    with open_store(memory) as root:
        root.create("batches/nightly/runs/x/000-claimed.json", b"{}")
        job_id = parse(job).folder.rpartition("/")[2]
        other = f"{job_id[:18]}{'0' * 16}"
        root.create(f"{other}/job.json", b"{}")
    with pytest.raises((InputError, BadReference), match=message) as caught:
        jobs.reference_of(text.format(store=memory, start=job_id[:17]), memory)
    assert "\n" not in str(caught.value)


def test_a_name_without_a_store_is_an_error():
    with pytest.raises(BadReference, match=r"'scores' is not a reference.*--store STORE or RUNWIDE_STORE"):
        runwide.status("scores")


def test_a_name_of_a_job_and_of_a_batch_is_ambiguous_where_both_are_accepted(memory):
    stored(memory, name="nightly")
    assert lookup.batch_of("nightly", memory) is None
    with open_store(memory) as root:
        root.create("batches/nightly/runs/x/000-claimed.json", b"{}")
        root.create("batches/weekly/runs/x/000-claimed.json", b"{}")
    assert lookup.batch_of("weekly", memory) == f"{memory}/batches/weekly"
    with pytest.raises(InputError, match="name of a job and of a batch"):
        lookup.batch_of("nightly", memory)


def test_one_log_line_says_what_vouches_for_a_job_without_a_digest(tmp_path, monkeypatch):
    job = stored(str(tmp_path / "store"))
    uri = parse(job).folder
    try:
        configure(format="text", file=tmp_path / "log")
        for _ in range(2):
            assert lookup.find_job(uri).vouched is False
        assert lookup.find_job(job).vouched is True
        assert runwide.replay(uri, 2) == 4
        monkeypatch.setenv("RUNWIDE_SIGNING_KEY", KEY)
        with pytest.raises(DigestMismatch):
            lookup.find_job(uri)
        signed = parse(stored(str(tmp_path / "store"))).folder
        for _ in range(2):
            assert lookup.find_job(signed).vouched is True
    finally:
        configure()
    said = (tmp_path / "log").read_text()
    assert said.count("what=results") == said.count("what='function and results'") == 1
    assert said.count("job.vouched") == 1


def test_a_batch_without_objects_is_an_error(anywhere):
    with open_store(anywhere) as store:
        store.create("batches/nightly/runs/x", b"")
        uri = store.uri
    assert lookup.batch_of(f"{uri}/batches/nightly/") == f"{uri}/batches/nightly/"
    with pytest.raises(InputError, match=r"there is no batch at this URI .*did you mean 'nightly'"):
        lookup.batch_of(f"{uri}/batches/nigtly")


def test_names_with_spaces_are_rejected_or_found(memory):
    with pytest.raises(InputError, match="begins or ends with a space; give name='lead'"):
        runwide.map(abs, [-1], store=memory, name=" lead", workers=1)
    job = runwide.map(abs, [-1], store=memory, name="batches", workers=1).job
    assert lookup.batch_of("batches", memory) is None
    assert runwide.status("batches", store=memory).reference == job
    assert lookup.reference_of(parse(job).folder.rpartition("/")[2][0], memory) == job


def test_each_reader_rejects_an_invalid_reference(memory):
    job = runwide.scatter(abs, [-1], store=memory, shards=1)
    for given in (None, 5):
        with pytest.raises(BadReference, match=f"{given} is not a reference"):
            runwide.load(given)
    with pytest.raises(InputError, match="invalid item='0': expected a whole number"):
        runwide.replay(job, "0")
