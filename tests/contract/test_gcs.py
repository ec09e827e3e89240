"""Google Cloud Storage: its errors, its clients, its requests."""

from __future__ import annotations

import gzip
import inspect
import os
import socket
import subprocess
import sys
import threading
from urllib.parse import quote

import pytest
import requests
import urllib3

from runwide.errors import (
    FrameCorrupt,
    ObjectExists,
    ObjectNotFound,
    RunwideError,
    StoreError,
    StoreNotFound,
    StoreNotReadable,
    StoreNotWritable,
    StoreUnavailable,
)
from runwide.store import gcs as store_module
from runwide.store import google as door
from runwide.store import google_auth, google_errors
from runwide.store.base import open_store

# Through our own module: Google's libraries warn of Python versions that are about to end.
google = google_auth.module("google.api_core.exceptions")
auth = google_auth.module("google.auth.exceptions")


def test_every_exception_of_the_client_library_has_a_meaning():
    theirs = [
        value
        for _, value in inspect.getmembers(google, inspect.isclass)
        if issubclass(value, google.GoogleAPIError) and value is not google.RetryError
    ]
    unknown = [kind for kind in theirs if google_errors.GOOGLE.meaning(kind("it failed")) is None]
    assert unknown == [], "google.api_core has gained exceptions: say what they mean"


@pytest.mark.parametrize(
    ("raised", "writing", "ours"),
    [
        (google.NotFound("No such object: b/o"), False, ObjectNotFound),
        (google.NotFound("The specified bucket does not exist."), False, StoreNotFound),
        (google.NotFound("Not Found"), True, StoreNotFound),
        (google.Forbidden("no storage.objects.get access"), False, StoreNotReadable),
        (google.Forbidden("no storage.objects.create access"), True, StoreNotWritable),
        (google.Unauthorized("Anonymous caller"), True, StoreNotWritable),
        (google.PreconditionFailed("conditionNotMet"), True, ObjectExists),
        (google.TooManyRequests("slow down"), True, StoreUnavailable),
        (
            google.RetryError("Timeout of 60.0s exceeded", cause=google.ServiceUnavailable("503")),
            True,
            StoreUnavailable,
        ),
        (google.BadRequest("Invalid bucket name"), True, StoreError),
        (auth.DefaultCredentialsError("no credentials"), False, StoreNotReadable),
        (auth.RefreshError("expired"), True, StoreNotWritable),
        (auth.TransportError("metadata server"), True, StoreUnavailable),
        (requests.ConnectionError("refused"), False, StoreUnavailable),
        (requests.exceptions.InvalidURL("what"), False, StoreError),
        (urllib3.exceptions.ProtocolError("reset"), False, StoreUnavailable),
    ],
)
def test_errors_of_the_client_come_out_as_ours_with_the_uri(raised, writing, ours):
    with pytest.raises(ours) as caught, google_errors.GOOGLE.mapped("gs://b/o", writing=writing):
        raise raised
    assert type(caught.value) is ours
    assert caught.value.uri == "gs://b/o"
    assert caught.value.__cause__ is raised
    assert "\n" not in str(caught.value)


def test_errors_of_others_pass_unchanged():
    with pytest.raises(ZeroDivisionError), google_errors.GOOGLE.mapped("gs://b/o", writing=True):
        raise ZeroDivisionError


@pytest.mark.gcs
def test_a_bucket_that_does_not_exist_is_named(gcs):
    with pytest.raises(StoreNotFound, match="no such bucket") as caught:
        open_store("gs://nowhere/x").create("object", b"abc")
    assert caught.value.uri == "gs://nowhere/x/object"
    assert caught.value.hint.endswith("buckets create gs://nowhere")


@pytest.mark.gcs
def test_each_operation_is_one_request(gcs, gcs_server):
    store = open_store(gcs)
    before = len(gcs_server.requests())
    store.create("small", b"abc")
    store.create("large", [b"x" * (9 << 20)])
    store.read("large")
    store.read("small", start=1)
    list(store.list())
    store.delete("small")
    made = gcs_server.requests()[before:]
    assert [request.method for request in made] == ["POST", "POST", "GET", "GET", "GET", "DELETE"]


@pytest.mark.gcs
def test_a_written_object_has_the_checksum_that_was_sent(gcs, gcs_server):
    # The emulator computes it anew, so this holds our CRC32C against an independent one.
    open_store(gcs).create("object", [b"abc" * 1000, b"d"])
    name = requests.utils.quote(f"{gcs.removeprefix('gs://bucket/')}/object", safe="")
    about = requests.get(f"{gcs_server.url}/storage/v1/b/bucket/o/{name}", timeout=10).json()
    assert about["crc32c"] == store_module._crc32c([memoryview(b"abc" * 1000), memoryview(b"d")])


@pytest.mark.gcs
def test_one_client_serves_all_threads_of_a_process(gcs):
    store = open_store(gcs)
    store.create("object", b"abc")
    found = []
    threads = [threading.Thread(target=lambda: found.append(bytes(store.read("object")))) for _ in range(32)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [b"abc"] * 32
    assert (
        sum(
            pid == os.getpid() and host == os.environ["STORAGE_EMULATOR_HOST"]
            for pid, host in door.connections
        )
        == 1
    )


@pytest.mark.gcs
def test_a_forked_child_makes_its_own_client(gcs):
    # The child of a process with a client reads what it asked for, over a connection of its own.
    program = """
import os, sys
from runwide.store import google
from runwide.store.base import open_store
store = open_store(sys.argv[1])
for name in "ab":
    store.create(name, name.encode() * 100_000)
pid = os.fork()
if not pid:
    right = all(store.read(name) == name.encode() * 100_000 for name in "abab" * 20)
    os._exit(0 if right and list(google.connections)[0][0] == os.getpid() else 1)
assert all(store.read(name) == name.encode() * 100_000 for name in "baba" * 20)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""
    subprocess.run([sys.executable, "-c", program, gcs], check=True, timeout=60)


@pytest.mark.gcs
def test_a_proxy_that_the_environment_names_carries_the_requests(gcs, gcs_server, monkeypatch):
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", "http://storage.invalid")
    for name in ("http_proxy", "HTTP_PROXY"):
        monkeypatch.setenv(name, gcs_server.url)
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    store = open_store(gcs)
    store.create("object", b"abc")
    assert store.read("object") == b"abc"


@pytest.mark.gcs
def test_a_login_in_netrc_is_not_sent_instead_of_the_credentials(gcs, gcs_server, monkeypatch, tmp_path):
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login user password something\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    sent = []
    connection = door._connect(gcs_server.url)
    connection.session.hooks["response"] = lambda answer, **_: sent.append(answer.request.headers)
    connection.session.get(f"{gcs_server.url}/storage/v1/b/bucket/o", timeout=10)
    assert len(sent) == 1
    assert "authorization" not in sent[0]


def test_a_store_loads_no_client_before_it_is_used():
    program = """
import sys
before = set(sys.modules)  # some distributions make empty google packages when the interpreter starts
import runwide, runwide.job, runwide.store.gcs
from runwide.store.base import open_store
open_store("gs://bucket/prefix").sub("a").child_uri("b")
print([name for name in sys.modules.keys() - before if name.startswith("google.") or name == "requests"])
"""
    done = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True, timeout=60
    )
    assert done.stdout.strip() == "[]"


def test_without_credentials_the_error_says_how_to_get_some(tmp_path):
    program = """
from runwide.errors import StoreNotReadable
from runwide.store.base import open_store
try:
    open_store("gs://bucket").read("object")
except StoreNotReadable as error:
    print(error)
"""
    # A machine without a metadata server, a home without a login.
    environment = {"HOME": str(tmp_path), "PATH": os.environ["PATH"], "NO_GCE_CHECK": "true"}
    done = subprocess.run(
        [sys.executable, "-c", program],
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
        env=environment,
    )
    assert "gcloud auth application-default login" in done.stdout


@pytest.mark.parametrize("first", ["", "import google.cloud.storage"], ids=["ours", "theirs"])
def test_a_metadata_server_that_never_answers_is_not_waited_for_long(tmp_path, first):
    program = f"""
import time
import warnings
warnings.simplefilter("ignore")  # of a Python version that nears its end
{first}
from pathlib import Path
from runwide.errors import StoreNotReadable
from runwide.store import google_auth
from runwide.store.base import open_store
google_auth._FIRMWARE = Path("/nowhere")
began = time.monotonic()
try:
    open_store("gs://bucket").read("object")
except StoreNotReadable as error:
    print("gcloud auth application-default login" in error.hint, time.monotonic() - began)
"""
    with socket.create_server(("127.0.0.1", 0)) as hole:
        host = f"127.0.0.1:{hole.getsockname()[1]}"
        environment = {
            "HOME": str(tmp_path),
            "PATH": os.environ["PATH"],
            "GCE_METADATA_IP": host,
            "GCE_METADATA_HOST": host,
        }
        done = subprocess.run(
            [sys.executable, "-c", program],
            check=True,
            capture_output=True,
            text=True,
            timeout=60,
            env=environment,
        )
    said, seconds = done.stdout.split()
    assert said == "True"
    assert float(seconds) < 8  # 12 by default


@pytest.mark.parametrize(
    ("firmware", "variable", "googles"),
    [
        ("Google Compute Engine", None, True),
        ("VirtualBox", None, False),
        (None, None, False),
        (None, "K_SERVICE", True),
        (None, "KUBERNETES_SERVICE_HOST", True),
        ("VirtualBox", "CLOUD_ML_JOB_ID", True),
    ],
)
def test_a_machine_of_googles_is_known_by_its_firmware_or_by_what_started_the_container(
    monkeypatch, tmp_path, firmware, variable, googles
):
    for name in (
        "K_SERVICE",
        "CLOUD_RUN_JOB",
        "KUBERNETES_SERVICE_HOST",
        "CLOUD_ML_JOB_ID",
        "CLOUD_ML_PROJECT_ID",
    ):
        monkeypatch.delenv(name, raising=False)
    if variable:
        monkeypatch.setenv(variable, "x")
    if firmware:
        (tmp_path / "product_name").write_text(f"{firmware}\n")
    monkeypatch.setattr(google_auth, "_FIRMWARE", tmp_path / "product_name")
    assert google_auth.in_googles_cloud() is googles


@pytest.mark.gcs
def test_an_emulator_may_be_named_without_a_scheme(gcs, gcs_server, monkeypatch):
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", gcs_server.url.removeprefix("http://"))
    open_store(gcs).create("object", b"abc")
    assert open_store(gcs).read("object") == b"abc"


@pytest.mark.gcs
def test_errors_cross_processes(gcs):
    import pickle

    with pytest.raises(ObjectNotFound) as caught:
        open_store(gcs).read("missing")
    again = pickle.loads(pickle.dumps(caught.value))
    assert isinstance(again, RunwideError)
    assert (str(again), again.uri) == (str(caught.value), f"{gcs}/missing")


@pytest.mark.gcs
@pytest.mark.parametrize("options", [{}, {"start": 2}, {"start": 1, "length": 4}])
def test_an_object_that_is_stored_compressed_is_not_ours(gcs, gcs_server, options):
    """Any program may put one there; it must not count as damage in transit."""
    name = f"{gcs.partition('bucket/')[2]}/object"
    path = f"/upload/storage/v1/b/{gcs_server.bucket}/o?uploadType=media&name={quote(name, safe='')}&contentEncoding=gzip"
    requests.post(gcs_server.url + path, data=gzip.compress(b"theirs" * 1000), timeout=60).raise_for_status()
    with pytest.raises(FrameCorrupt, match="stored with the content encoding 'gzip'") as caught:
        open_store(gcs).read("object", **options)
    assert caught.value.uri == f"{gcs}/object"
