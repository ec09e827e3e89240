"""Another implementation of Cloud Storage reads the same objects, and finds that their checksums are right."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import requests

import runwide
from runwide.job import manifest
from runwide.store import pack
from runwide.store.base import open_store
from runwide.store.buffers import sha256

pytestmark = pytest.mark.gcs

# In a process of its own: Arrow's threads outlive a test. It checks each download against the server's CRC32C and MD5.
READER = """
import hashlib, json, sys
from datetime import timedelta
from pyarrow.fs import FileSelector, GcsFileSystem
server, folder = sys.argv[1:]
system = GcsFileSystem(
    anonymous=True, scheme="http", endpoint_override=server, retry_time_limit=timedelta(seconds=10)
)
files = [info for info in system.get_file_info(FileSelector(folder, recursive=True, allow_not_found=True)) if info.is_file]
found = {}
for info in files:
    with system.open_input_stream(info.path) as stream:
        data = stream.readall()
    assert len(data) == info.size
    found[info.path.removeprefix(folder + "/")] = hashlib.sha256(data).hexdigest()
print(json.dumps(found))
"""


def read_by_arrow(server, uri):
    command = [sys.executable, "-c", READER, server.url.removeprefix("http://"), uri.removeprefix("gs://")]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=100)
    return json.loads(done.stdout)


def test_arrow_sees_the_bytes_of_a_job_and_the_digests_of_its_manifests(gcs, gcs_server):
    job = runwide.scatter(lambda x: x * 2, ["a" * 100_000, b"b" * 3, *range(50)], store=gcs, shards=2)
    shards = [runwide.shard(job, index, workers=1) for index in range(2)]
    about = manifest.read_job(job)
    store = open_store(about.uri)
    found = read_by_arrow(gcs_server, about.uri)
    assert sorted(found) == [info.name for info in store.list()]
    assert found == {name: sha256(store.read(name)) for name in found}
    assert found["job.json"] == about.digest
    assert found["function.pkl"] == about.function
    for index, reference in enumerate(shards):
        assert reference.endswith(found[manifest.shard_name(index)])


def test_arrow_reads_what_arrives_in_many_parts_and_sees_nothing_when_it_is_deleted(gcs, gcs_server):
    store = open_store(gcs)
    parts = [b"x" * (9 << 20), bytearray(b"y"), memoryview(b"z" * 300_000)]
    store.create("folder/large ä", parts)
    assert read_by_arrow(gcs_server, gcs) == {"folder/large ä": sha256(*parts)}
    store.delete("folder/large ä")
    assert read_by_arrow(gcs_server, gcs) == {}


def test_every_object_has_the_checksums_that_the_server_computes_itself(gcs, gcs_server):
    import base64

    from runwide.store.google_auth import module

    job = runwide.scatter(abs, range(-50, 0), store=gcs, shards=1)
    runwide.shard(job, 0, workers=1)
    prefix = manifest.read_job(job).uri.removeprefix("gs://bucket/")
    listed = requests.get(
        f"{gcs_server.url}/storage/v1/b/bucket/o", params={"prefix": prefix}, timeout=10
    ).json()
    assert len(listed["items"]) >= 5
    for item in listed["items"]:
        checksum = module("google_crc32c").Checksum(gcs_server.get(item["name"]))
        assert base64.b64decode(item["crc32c"]) == checksum.digest()


def test_a_pack_can_be_read_with_nothing_but_its_description(gcs, gcs_server):
    """The layout that the module's text gives, followed by hand."""
    import hashlib
    import pickle
    import struct

    job = runwide.scatter(abs, [7, "seven"], store=gcs, shards=1)
    about = manifest.read_job(job)
    data = gcs_server.get(f"{about.uri.removeprefix('gs://bucket/')}/{about.packs[0].name}")
    assert data[:8] == pack.MAGIC
    meta, count = struct.unpack_from("<II", data, 12)
    table = 24 + 64 + meta
    end = table + 64 * count
    end += -end % 64
    values = []
    for entry in range(count):
        item, offset, length, _, digest = struct.unpack_from("<QQQQ32s", data, table + 64 * entry)
        frame = data[end + offset : end + offset + length]
        assert hashlib.sha256(frame).digest() == digest
        context, buffers, _, size = struct.unpack_from("<IIIQ", frame, 12)
        start = 32 + 8 * buffers + context
        start += -start % 64
        values.append((item, pickle.loads(frame[start : start + size])))
    assert values == [(0, 7), (1, "seven")]
