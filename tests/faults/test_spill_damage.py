"""A store, or a proxy before it, that damages every answer is reported with the object's URI, and not waited for."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
import requests

import runwide
from runwide.errors import DigestMismatch, IntegrityError, ObjectExists, StoreError
from runwide.job import progress
from runwide.job.reference import parse
from runwide.store.base import DAMAGES, open_store
from runwide.testing.proxy import Disturbance, Kind, Proxy

pytestmark = [pytest.mark.faults, pytest.mark.gcs, pytest.mark.usefixtures("short_pauses")]

LARGE = bytes(range(256)) * 4096 * 5  # 5 MiB
ALWAYS = 1000


@pytest.fixture
def proxy(gcs, gcs_server, monkeypatch):
    with Proxy(gcs_server.url) as proxy:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", proxy.url)
        yield proxy


@pytest.fixture
def store(gcs, proxy):
    return open_store(gcs)


def reported(caught, uri):
    assert caught.value.uri == uri
    assert f"{DAMAGES} times" in caught.value.message
    assert "\n" not in str(caught.value)
    assert not isinstance(caught.value, (StoreError, DigestMismatch))
    return True


@pytest.mark.parametrize("kind", [Kind.FLIP, Kind.SHORT], ids=lambda kind: kind.name)
def test_a_read_that_comes_damaged_each_time_is_given_up_after_five(store, proxy, kind):
    store.create("object", LARGE)
    proxy.add(Disturbance(kind, "GET", times=ALWAYS))
    with pytest.raises(IntegrityError) as caught:
        store.read("object")
    assert reported(caught, store.child_uri("object"))
    assert len(proxy.spoiled) == DAMAGES


@pytest.mark.parametrize("kind", [Kind.FLIP, Kind.SHORT], ids=lambda kind: kind.name)
def test_a_read_that_comes_damaged_four_times_and_then_right_gives_the_right_bytes(store, proxy, kind):
    store.create("object", LARGE)
    proxy.add(Disturbance(kind, "GET", times=DAMAGES - 1))
    assert store.read("object") == LARGE
    assert len(proxy.spoiled) == DAMAGES - 1


def test_damage_between_refusals_is_counted_too(store, proxy):
    store.create("object", LARGE)
    proxy.add(
        Disturbance(Kind.FLIP, "GET", times=2),
        Disturbance(Kind.STATUS, "GET", times=2),
        Disturbance(Kind.FLIP, "GET", times=ALWAYS),
    )
    with pytest.raises(IntegrityError) as caught:
        store.read("object")
    assert reported(caught, store.child_uri("object"))
    assert len(proxy.spoiled) == DAMAGES + 2


def test_damage_of_one_object_says_nothing_of_another(store, proxy):
    for name in ("bad", "good"):
        store.create(name, name.encode() * 1000)
    proxy.add(Disturbance(Kind.FLIP, "GET", "bad", times=ALWAYS))
    for _ in range(2):
        with pytest.raises(IntegrityError) as caught:
            store.read("bad")
        assert reported(caught, store.child_uri("bad"))
        assert store.read("good") == b"good" * 1000


def test_a_range_cut_to_a_matching_length_each_time_is_given_up_after_five(store, proxy):
    store.create("object", LARGE)
    proxy.add(Disturbance(Kind.SHORT, "GET", times=ALWAYS))
    with pytest.raises(IntegrityError) as caught:
        store.read("object", start=10, length=100_000)
    assert reported(caught, store.child_uri("object"))
    assert len(proxy.spoiled) == DAMAGES


@pytest.mark.parametrize("kind", [Kind.FLIP, Kind.SHORT], ids=lambda kind: kind.name)
def test_an_upload_whose_answer_comes_damaged_is_looked_for(store, proxy, gcs, gcs_server, kind):
    proxy.add(Disturbance(kind, "POST", times=ALWAYS))
    store.create("object", LARGE)
    assert gcs_server.get(f"{gcs.removeprefix('gs://bucket/')}/object") == LARGE
    assert len(proxy.spoiled) == 1


def test_an_upload_of_which_every_answer_comes_damaged_is_given_up(store, proxy):
    proxy.add(Disturbance(Kind.SHORT, times=ALWAYS))
    with pytest.raises(IntegrityError) as caught:
        store.create("object", LARGE)
    assert reported(caught, store.child_uri("object"))


def test_bytes_that_arrive_damaged_are_sent_again_and_no_others_are_replaced(store, proxy, gcs, gcs_server):
    # The emulator stores what does not match the checksum that was sent, and says so in its answer.
    proxy.add(Disturbance(Kind.FLIP_UPLOAD, "POST", times=DAMAGES - 1))
    store.create("object", LARGE)
    assert gcs_server.get(f"{gcs.removeprefix('gs://bucket/')}/object") == LARGE
    proxy.clear()
    with pytest.raises(ObjectExists):
        store.create("object", b"other")


def test_bytes_that_arrive_damaged_each_time_are_given_up(store, proxy):
    proxy.add(Disturbance(Kind.FLIP_UPLOAD, "POST", times=ALWAYS))
    with pytest.raises(IntegrityError) as caught:
        store.create("object", LARGE)
    assert reported(caught, store.child_uri("object"))
    assert len(proxy.spoiled) == DAMAGES


def test_a_server_that_rejects_the_checksum_each_time_is_given_up(store, proxy):
    body = (
        '{"error": {"code": 400, "message": "Provided CRC32C \\"AAAAAA==\\" doesn\'t match calculated CRC32C '
        '\\"2HvlZg==\\".", "errors": [{"domain": "global", "reason": "invalid"}]}}'
    )
    proxy.add(Disturbance(Kind.STATUS, "POST", status=400, times=DAMAGES - 1, body=body))
    store.create("object", LARGE)
    proxy.add(Disturbance(Kind.STATUS, "POST", status=400, times=ALWAYS, body=body))
    with pytest.raises(IntegrityError) as caught:
        store.create("other", LARGE)
    assert reported(caught, store.child_uri("other"))
    assert len(proxy.spoiled) == 2 * DAMAGES - 1


@pytest.mark.parametrize("kind", [Kind.FLIP, Kind.SHORT], ids=lambda kind: kind.name)
def test_a_listing_that_comes_damaged_is_read_again_and_given_up_after_five(store, proxy, kind):
    store.create("object", b"data")
    proxy.add(Disturbance(kind, "GET", times=DAMAGES - 1))
    found = [info.name for info in store.list()]
    assert found == ["object"] or kind is Kind.FLIP  # a bit in bytes that are not read is no damage
    proxy.clear()
    proxy.add(Disturbance(Kind.SHORT, "GET", times=ALWAYS))
    with pytest.raises(IntegrityError) as caught:
        list(store.list())
    assert reported(caught, store.uri)


def work(text):
    return text[:1]


@pytest.fixture(params=[None, 20_000], ids=["whole", "ranges"])
def read_by(request, monkeypatch):
    """Items are read with their whole pack, or by ranges."""
    if request.param:
        monkeypatch.setattr("runwide.job.reading._RANGE", request.param)


def job_of(gcs):
    return runwide.scatter(work, [str(n) * 5000 for n in range(9)], store=gcs, shards=1)


@pytest.mark.parametrize("kind", [Kind.FLIP, Kind.SHORT], ids=lambda kind: kind.name)
@pytest.mark.parametrize("contains", ["job.json", "function.pkl", "items%2F"])
@pytest.mark.usefixtures("read_by")
def test_a_shard_whose_input_comes_damaged_each_time_ends_with_its_uri(gcs, proxy, kind, contains):
    job = job_of(gcs)
    proxy.add(Disturbance(kind, "GET", contains, times=ALWAYS))
    with pytest.raises(IntegrityError) as caught:
        runwide.shard(job, 0, workers=1)
    assert contains.removesuffix("%2F") in caught.value.uri
    assert f"{DAMAGES} times" in caught.value.message
    proxy.clear()
    assert runwide.gather(job, [runwide.shard(job, 0, workers=1)]) == [str(n) for n in range(9)]


@pytest.mark.parametrize(
    ("contains", "kind"), [("chunks", Kind.FLIP), ("shard.json", Kind.FLIP), ("result", Kind.SHORT)]
)
def test_a_gather_whose_input_comes_damaged_each_time_ends_with_its_uri(gcs, proxy, contains, kind):
    job = job_of(gcs)
    ended = [runwide.shard(job, 0, workers=1)]
    if contains == "result":
        runwide.gather(job, ended)  # so that the result is there, and is looked at
    proxy.add(Disturbance(kind, "GET", contains, times=ALWAYS))
    with pytest.raises(IntegrityError) as caught:
        runwide.gather(job, ended)
    assert contains in caught.value.uri
    assert f"{DAMAGES} times" in caught.value.message


def test_chunks_that_come_damaged_are_not_taken_for_damaged_chunks(gcs, proxy, tmp_path):
    job = job_of(gcs)
    runwide.shard(job, 0, workers=1)
    before = [info.name for info in open_store(parse(job).folder).list()]
    proxy.add(Disturbance(Kind.FLIP, "GET", "chunks%2F", times=ALWAYS))
    with pytest.raises(IntegrityError) as caught:
        runwide.shard(job, 0, workers=1)
    assert "chunks" in caught.value.uri
    proxy.clear()
    assert [info.name for info in open_store(parse(job).folder).list()] == before


@pytest.mark.parametrize("kind", [Kind.FLIP, Kind.SHORT, Kind.FLIP_UPLOAD], ids=lambda kind: kind.name)
@pytest.mark.parametrize("name", [None, "named"])
def test_a_map_with_a_store_that_damages_every_answer_ends_with_a_uri(gcs, proxy, kind, name):
    proxy.add(Disturbance(kind, times=ALWAYS))
    with pytest.raises(IntegrityError) as caught:
        runwide.map(work, ["a", "b"], workers=1, store=gcs, name=name)
    assert caught.value.uri.startswith(gcs)


class Compressed(BaseHTTPRequestHandler):
    """Answers with what claims to be compressed."""

    def do_GET(self):
        self.send_response(200)
        self.send_header("content-encoding", "gzip")
        self.send_header("content-length", "7")
        self.end_headers()
        self.wfile.write(b"damaged")

    def log_message(self, *args):
        pass


def test_an_answer_that_cannot_be_decompressed_is_damaged(gcs, monkeypatch):
    with HTTPServer(("127.0.0.1", 0), Compressed) as server:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", f"http://127.0.0.1:{server.server_address[1]}")
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            with pytest.raises(IntegrityError) as caught:
                list(open_store(gcs).list())
        finally:
            server.shutdown()
            thread.join()
    assert reported(caught, gcs)


def test_a_name_that_comes_damaged_still_leads_to_its_job(gcs, proxy):
    assert runwide.map(work, ["a", "b"], workers=1, store=gcs, name="named") == ["a", "b"]
    proxy.add(Disturbance(Kind.FLIP, "GET", "names%2F", times=ALWAYS))
    with pytest.raises(IntegrityError) as caught:
        runwide.map(work, ["a", "b"], workers=1, store=gcs, name="named")
    assert "/names" in caught.value.uri
    proxy.clear()
    assert len(list(open_store(gcs).list("names/"))) == 1


def test_a_look_at_progress_outlives_damaged_listings(gcs, proxy):
    job = job_of(gcs)
    with progress.Progress(job) as looked:
        proxy.add(Disturbance(Kind.SHORT, "GET", times=ALWAYS))
        assert looked.look() == []
        proxy.clear()
        runwide.shard(job, 0, workers=1)
        looked.look()
        assert looked.done == 9


def size_of(file):
    with file.local() as path:
        return path.stat().st_size


def test_a_file_that_comes_damaged_once_is_fetched_again(gcs, proxy, tmp_path):
    path = tmp_path / "data.bin"
    path.write_bytes(LARGE)
    job = runwide.scatter(size_of, [runwide.File(path)], store=gcs, shards=1)
    proxy.add(Disturbance(Kind.FLIP, "GET", "files%2F"))
    assert runwide.gather(job, [runwide.shard(job, 0, workers=1)]) == [len(LARGE)]
    assert len(proxy.spoiled) == 1


def test_a_file_that_comes_damaged_each_time_fails_its_item(gcs, proxy, tmp_path):
    path = tmp_path / "data.bin"
    path.write_bytes(LARGE)
    job = runwide.scatter(size_of, [runwide.File(path)], store=gcs, shards=1)
    proxy.add(Disturbance(Kind.FLIP, "GET", "files%2F", times=ALWAYS))
    with pytest.raises(DigestMismatch) as caught:
        runwide.gather(job, [runwide.shard(job, 0, workers=1)])
    assert caught.value.uri.endswith("data.bin")


def test_a_composite_object_without_md5_is_distinguished_by_its_other_checksum(store, gcs, gcs_server):
    prefix = gcs.removeprefix("gs://bucket/")
    gcs_server.put(f"{prefix}/part", b"abc")
    path = (
        f"{gcs_server.url}/storage/v1/b/bucket/o/{requests.utils.quote(f'{prefix}/whole', safe='')}/compose"
    )
    body = {"sourceObjects": [{"name": f"{prefix}/part"}, {"name": f"{prefix}/part"}]}
    requests.post(path, json=body, timeout=10).raise_for_status()
    store.create("whole", b"abcabc")
    with pytest.raises(ObjectExists):
        store.create("whole", b"abcabd")
