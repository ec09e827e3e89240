"""Faults of the network in requests to a bucket: the bytes are right in the end, or a named error has the URI."""

from __future__ import annotations

import faulthandler
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests

import runwide
from runwide.errors import FrameCorrupt, ObjectExists, StoreError, StoreNotWritable, StoreUnavailable
from runwide.job import finish, manifest
from runwide.job.reference import parse
from runwide.store import google, remote
from runwide.store.base import open_store
from runwide.testing.proxy import Disturbance, Kind, Proxy

pytestmark = [pytest.mark.faults, pytest.mark.gcs]

DATA = bytes(range(256)) * 4096  # 1 MiB
LARGE = DATA * 12
KINDS = [
    Disturbance(Kind.STATUS, status=429),
    Disturbance(Kind.STATUS, status=500),
    Disturbance(Kind.STATUS, status=503),
    Disturbance(Kind.STATUS, status=408),
    Disturbance(Kind.RESET_BEFORE),
    Disturbance(Kind.RESET_UPLOAD),
    Disturbance(Kind.RESET_DOWNLOAD),
    Disturbance(Kind.LOST_ANSWER),
    Disturbance(Kind.SHORT),
    Disturbance(Kind.CUT),
    Disturbance(Kind.FLIP),
    Disturbance(Kind.STALL),
]
RESETS = (Kind.RESET_BEFORE, Kind.RESET_UPLOAD, Kind.RESET_DOWNLOAD, Kind.LOST_ANSWER, Kind.CUT)


def name_of(fault):
    return f"{fault.kind.name}-{fault.status}" if fault.kind is Kind.STATUS else fault.kind.name


def copy_of(fault, **changes):
    names = ("kind", "method", "contains", "skip", "times", "status", "seconds")
    return Disturbance(**{name: getattr(fault, name) for name in names} | changes)


@pytest.fixture
def proxy(gcs, gcs_server, monkeypatch):
    with Proxy(gcs_server.url) as proxy:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", proxy.url)
        monkeypatch.setenv("RUNWIDE_STORE_TIMEOUT", "1")
        yield proxy


@pytest.fixture
def store(gcs, proxy):
    return open_store(gcs)


@pytest.fixture
def raw(gcs, gcs_server):
    """Reads the object behind the store's back."""
    return lambda: gcs_server.get(f"{gcs.removeprefix('gs://bucket/')}/object")


@pytest.mark.parametrize("fault", KINDS, ids=name_of)
@pytest.mark.parametrize("data", [b"small", LARGE], ids=["small", "large"])
def test_a_create_that_meets_a_fault_is_done_once_and_right(store, proxy, raw, fault, data):
    proxy.add(copy_of(fault, method="POST"))
    store.create("object", data)
    assert len(proxy.spoiled) == 1
    assert raw() == data
    with pytest.raises(ObjectExists):
        store.create("object", b"other")


@pytest.mark.parametrize("fault", KINDS, ids=name_of)
@pytest.mark.parametrize("ranged", [False, True], ids=["whole", "range"])
def test_a_read_that_meets_a_fault_gives_the_right_bytes(store, proxy, fault, ranged):
    store.create("object", LARGE)
    proxy.add(copy_of(fault, method="GET"))
    if ranged and fault.kind is Kind.FLIP:
        # A byte range comes without a checksum: what reads ranges holds them against a digest (see below).
        damaged = store.read("object", start=10, length=1000)
        assert len(damaged) == 1000
        assert damaged != LARGE[10:1010]
        return
    start, length = (10, len(LARGE) - 20) if ranged else (0, None)
    assert (
        store.read("object", start=start, length=length) == LARGE[start : start + length if length else None]
    )
    assert len(proxy.spoiled) == 1


@pytest.mark.parametrize(
    "fault", [fault for fault in KINDS if fault.kind not in (Kind.FLIP, Kind.SHORT)], ids=name_of
)
def test_a_list_or_delete_that_meets_a_fault_is_right(store, proxy, fault):
    store.create("object", b"data")
    proxy.add(copy_of(fault, method="GET"))
    assert [info.name for info in store.list()] == ["object"]
    proxy.add(copy_of(fault, method="DELETE"))
    store.delete("object")
    assert list(store.list()) == []


@pytest.mark.parametrize(
    ("status", "kind"), [(503, StoreUnavailable), (429, StoreUnavailable), (400, StoreError)]
)
def test_a_fault_that_stays_ends_in_a_named_error_with_the_uri(store, proxy, monkeypatch, status, kind):
    monkeypatch.setenv("RUNWIDE_STORE_DEADLINE", "2")
    proxy.add(Disturbance(Kind.STATUS, status=status, times=1000))
    for call in (
        lambda: store.create("object", b"x"),
        lambda: store.read("object"),
        lambda: store.delete("object"),
    ):
        with pytest.raises(kind) as caught:
            call()
        assert caught.value.uri == store.child_uri("object")
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", RESETS, ids=lambda kind: kind.name)
def test_a_connection_that_always_breaks_ends_in_a_named_error(store, proxy, monkeypatch, kind):
    monkeypatch.setenv("RUNWIDE_STORE_DEADLINE", "2")
    proxy.add(Disturbance(kind, times=1000))
    with pytest.raises(StoreUnavailable) as caught:
        store.read("object")
    assert caught.value.uri == store.child_uri("object")


def test_a_refused_connection_ends_in_a_named_error(gcs, monkeypatch):
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", "http://127.0.0.1:9")
    monkeypatch.setenv("RUNWIDE_STORE_DEADLINE", "2")
    with pytest.raises(StoreUnavailable, match="no good answer within the retry deadline"):
        open_store(gcs).create("object", b"x")


def test_a_lost_answer_is_not_confused_with_an_object_of_another_writer(store, proxy, gcs, gcs_server):
    # Ours never arrived; theirs did, between our two attempts.
    proxy.add(Disturbance(Kind.RESET_BEFORE, method="POST"))
    gcs_server.put(f"{gcs.removeprefix('gs://bucket/')}/object", b"their")
    with pytest.raises(ObjectExists):
        store.create("object", b"mine!")


def test_a_server_that_refuses_an_upload_unread_and_resets_is_asked_what_it_has(
    store, proxy, gcs, gcs_server
):
    # The 412 may be lost with the connection, each time: without a look at the object this would end in an outage.
    gcs_server.put(f"{gcs.removeprefix('gs://bucket/')}/object", LARGE)
    proxy.add(Disturbance(Kind.REFUSED_EARLY, "POST", status=412, times=1000))
    store.create("object", LARGE)
    with pytest.raises(ObjectExists):
        store.create("object", LARGE[::-1])
    assert len(proxy.spoiled) == 2


def test_what_was_stored_is_not_sent_again_when_its_acknowledgement_was_lost(store, proxy, gcs_server):
    before = len(gcs_server.requests())
    proxy.add(Disturbance(Kind.LOST_ANSWER, "POST"))
    store.create("object", LARGE)
    made = gcs_server.requests()[before:]
    assert [request.method for request in made] == ["POST", "GET"]


def survive_an_outage(gcs, proxy, tmp_path, *, seconds, patience):
    """The store goes away while a shard works, and comes back; nothing is lost, and nothing is run twice."""

    def noted(x):
        time.sleep(0.05)
        with (tmp_path / "calls").open("a") as file:
            file.write(f"{x} ")
        return x

    job = runwide.scatter(noted, range(40), store=gcs, shards=1)
    with ThreadPoolExecutor(1) as thread:
        shard = thread.submit(runwide.shard, job, 0, workers=1)
        while not shard.done() and not (tmp_path / "calls").exists():
            time.sleep(0.01)
        with proxy.away():
            time.sleep(seconds)
            assert not shard.done(), shard.exception()
        ended = [shard.result(timeout=patience)]
    assert runwide.gather(job, ended) == list(range(40))
    assert sorted(map(int, (tmp_path / "calls").read_text().split())) == list(range(40))


def test_an_outage_of_ten_minutes_is_waited_out_and_no_result_is_lost(
    gcs, proxy, hundredfold, monkeypatch, tmp_path
):
    monkeypatch.setattr("runwide.job.plan._FLUSH_SECONDS", (0.2, 0.2))
    survive_an_outage(gcs, proxy, tmp_path, seconds=6, patience=30)  # ten minutes of that clock


@pytest.mark.slow
def test_an_outage_of_ten_real_minutes_is_waited_out_and_no_result_is_lost(gcs, proxy, monkeypatch, tmp_path):
    faulthandler.dump_traceback_later(800, exit=True, file=sys.__stderr__)  # instead of pytest's limit
    monkeypatch.delenv("RUNWIDE_STORE_DEADLINE")  # the default of 900 s
    monkeypatch.setattr("runwide.job.plan._FLUSH_SECONDS", (0.2, 0.2))
    survive_an_outage(gcs, proxy, tmp_path, seconds=610, patience=60)


def test_an_outage_longer_than_the_deadline_ends_in_a_named_error(store, proxy, hundredfold):
    store.create("object", DATA)
    with proxy.away():
        began = time.monotonic()
        with pytest.raises(StoreUnavailable) as caught:
            store.read("object")
        assert 7 < time.monotonic() - began < 15  # 900 s of that clock, less the last pause
    assert caught.value.uri == store.child_uri("object")
    assert store.read("object") == DATA


def test_a_store_that_was_given_up_is_not_waited_for_as_long_again(store, proxy, monkeypatch):
    # A shard that loses its store has more to write when it ends, and should not wait the whole time for each.
    monkeypatch.setenv("RUNWIDE_STORE_DEADLINE", "3")
    monkeypatch.setattr(remote, "FIRST_DEADLINE", 0.5)
    store.create("object", DATA)

    def patience():
        with pytest.raises(StoreUnavailable) as caught:
            store.read("object")
        return str(caught.value.__cause__).partition(" exceeded")[0]

    with proxy.away():
        assert [patience() for _ in range(3)] == ["Timeout of 3.0s", "Timeout of 0.5s", "Timeout of 0.5s"]
    assert store.read("object") == DATA
    with proxy.away():
        assert patience() == "Timeout of 3.0s"


def test_an_outage_is_waited_out(store, proxy):
    store.create("object", DATA)
    found = []
    with proxy.away():
        reader = threading.Thread(target=lambda: found.append(store.read("object")))
        reader.start()
        time.sleep(2.5)
        assert not found
    reader.join(timeout=20)
    assert found == [DATA]


def run(job):
    return [runwide.shard(job, index, workers=1) for index in range(manifest.read_job(job).shards)]


def test_a_job_whose_every_third_request_fails_gives_the_right_results(gcs, proxy):
    proxy.add(
        *(
            copy_of(fault, skip=3 * number)
            for number, fault in enumerate(KINDS)
            if fault.kind is not Kind.FLIP
        )
    )
    job = runwide.scatter(lambda x: (x, "x" * 5000), range(60), store=gcs, shards=3)
    assert runwide.gather(job, run(job)) == [(x, "x" * 5000) for x in range(60)]
    assert len(proxy.spoiled) >= 8


@pytest.mark.parametrize("kind", [Kind.FLIP, Kind.SHORT], ids=lambda kind: kind.name)
def test_damage_on_the_way_never_reaches_an_item_or_a_result(gcs, proxy, monkeypatch, kind):
    monkeypatch.setattr("runwide.job.reading._RANGE", 20_000)  # so that items are read by range
    job = runwide.scatter(lambda x: x + x, [str(n) * 5000 for n in range(9)], store=gcs, shards=1)
    for contains in ("job.json", "function.pkl", ".pack", "shard.json"):
        proxy.add(Disturbance(kind, "GET", contains))
    proxy.add(Disturbance(kind, "GET", "items", skip=2))
    assert runwide.gather(job, run(job)) == [str(n) * 10_000 for n in range(9)]
    assert len(proxy.spoiled) >= 4


def test_a_store_that_goes_away_ends_the_shard_and_what_was_stored_is_kept(gcs, proxy, monkeypatch, tmp_path):
    monkeypatch.setattr("runwide.job.plan._FLUSH_SECONDS", (0.2, 0.2))
    monkeypatch.setenv("RUNWIDE_STORE_DEADLINE", "2")

    def noted(x):
        time.sleep(0.15)
        with (tmp_path / "calls").open("a") as file:
            file.write(f"{x} ")
        return x

    job = runwide.scatter(noted, range(20), store=gcs, shards=1)
    proxy.add(Disturbance(Kind.STATUS, "POST", skip=2, times=1000))
    with pytest.raises(StoreUnavailable):
        runwide.shard(job, 0, workers=1)
    proxy.clear()
    stored = list(open_store(parse(job).folder).list("shards/0000/chunks/"))
    assert len(stored) == 2
    before = len((tmp_path / "calls").read_text().split())
    assert runwide.gather(job, run(job)) == list(range(20))
    again = len((tmp_path / "calls").read_text().split()) - before
    assert again < 20


def test_a_truncated_object_is_not_confused_with_a_truncated_answer(store, gcs, gcs_server):
    gcs_server.put(f"{gcs.removeprefix('gs://bucket/')}/object", DATA[:1000])
    with pytest.raises(FrameCorrupt, match="object ends after 1000 bytes"):
        store.read("object", start=500, length=501)


def test_who_may_only_read_gathers_the_results_and_gets_no_reference_to_them(gcs, proxy):
    job = runwide.scatter(abs, [-1, -2], store=gcs, shards=2)
    shards = run(job)
    proxy.add(Disturbance(Kind.STATUS, "POST", status=403, times=1000))
    assert runwide.gather(job, shards) == [1, 2]
    with pytest.raises(StoreNotWritable):
        finish(job, shards)
    proxy.clear()
    assert runwide.load(finish(job, shards)) == [1, 2]


def test_a_429_slows_the_process_down(store, proxy):
    store.create("object", b"x")
    writes = google.connection().traffic.writes
    before = writes._pace.rate(time.monotonic())
    proxy.add(Disturbance(Kind.STATUS, method="POST", status=429))
    store.create("other", b"x")
    assert writes._pace.rate(time.monotonic()) < before * 0.6
    assert requests.get(proxy.url, timeout=5).status_code == 404
