"""The cost of a spill: memory in addition to the value, and requests."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

import runwide
from runwide.job import manifest

MIB = 1 << 20

PROGRAM = """
import json, re, sys
import numpy as np
from runwide.job import manifest
from runwide.store.codec import decode, encode
from runwide.store.base import open_store

def status(name):
    return int(re.search(name + r":\\s+(\\d+)", open("/proc/self/status").read())[1]) * 1024

def peak_above(call):
    open("/proc/self/clear_refs", "w").write("5")  # VmHWM starts anew
    before = status("VmRSS")
    result = call()
    return result, (status("VmHWM") - before) / (1 << 20)

uri, mib = sys.argv[1], int(sys.argv[2])
store = open_store(uri)
store.create("warm", [b"x" * (2 << 20)])  # modules, connections and buffers are there before anything is measured
store.read("warm")
array = np.random.default_rng(1).random(mib * (1 << 20) // 8)

def up():
    frame = encode(array, context="c")
    store.create("array", frame.parts)
    return frame.digest

digest, peak_up = peak_above(up)
checksum = float(array.sum())
del array

def down():
    data = store.read("array")
    return decode(data, digest=digest, context="c")

found, peak_down = peak_above(down)
assert float(found.sum()) == checksum
found += 1  # writable
print(json.dumps({"up": peak_up, "down": peak_down}))
"""


def peaks(uri, mib):
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, uri, str(mib)],
        check=True,
        capture_output=True,
        text=True,
        timeout=120,
    )
    return json.loads(done.stdout)


@pytest.fixture(params=["local", pytest.param("gcs", marks=pytest.mark.gcs)])
def uri(request, tmp_path, gcs_server):
    return str(tmp_path) if request.param == "local" else request.getfixturevalue("gcs")


def test_64_mib_of_floats_need_little_more_than_themselves(uri):
    found = peaks(uri, 64)
    assert found["up"] <= 32
    assert found["down"] <= 64 + 16


@pytest.mark.slow
def test_256_mib_of_floats_peak_at_32_mib_more_up_and_272_down(uri):
    found = peaks(uri, 256)
    assert found["up"] <= 32
    assert found["down"] <= 272


@pytest.mark.gcs
def test_10000_items_of_1_kib_over_10_shards_cost_under_150_requests(gcs, gcs_server):
    items = [bytes([n % 256]) * 1024 for n in range(10_000)]
    before = len(gcs_server.requests())
    job = runwide.scatter(lambda item: item[::-1], items, store=gcs, shards=10)
    scattered = len(gcs_server.requests()) - before
    shards = [runwide.shard(job, index, workers=2) for index in range(10)]
    assert runwide.gather(job, shards) == [item[::-1] for item in items]
    made = gcs_server.requests()[before:]
    assert len(made) < 150, [request.path for request in made]
    assert scattered == 13  # ten packs, the function, its code, the manifest
    listed = [request for request in made if request.method == "GET" and "/o?prefix=" in request.path]
    assert len(listed) == 10  # one per shard, to find the finished ones
    assert not [request for request in made if request.path.startswith("/storage/v1/b/bucket?")]


@pytest.mark.gcs
def test_a_job_manifest_stays_small_whatever_the_number_of_items(gcs):
    job = runwide.scatter(abs, range(20_000), store=gcs, shards=5)
    assert len(manifest.job_bytes(manifest.read_job(job))) < 4000
