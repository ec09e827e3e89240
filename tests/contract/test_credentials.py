"""Tokens through Google's real clients: a short outage of the token service is waited out, a refusal is not."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
import types
from concurrent.futures import ThreadPoolExecutor

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from google_services import Fault, Services

from runwide.errors import StoreNotReadable, StoreNotWritable, StoreUnavailable
from runwide.store import google, google_auth
from runwide.store.base import open_store

pytestmark = pytest.mark.gcs

VARIABLES = (
    "AIP_MODEL_DIR", "CLOUD_ML_JOB_ID", "CLOUD_ML_PROJECT_ID", "CLOUD_RUN_JOB", "GAE_SERVICE", "K_SERVICE",
    "GOOGLE_APPLICATION_CREDENTIALS", "GOOGLE_CLOUD_PROJECT", "KUBERNETES_SERVICE_HOST", "NO_GCE_CHECK",
    "STORAGE_EMULATOR_HOST",
)  # fmt: skip
METADATA = "/computeMetadata/"


@pytest.fixture
def services(gcs_server):
    with Services(gcs_server.url) as services:
        yield services


@pytest.fixture
def machine(services, gcs, monkeypatch, tmp_path):
    """A machine whose only credentials are from this metadata server; clients pause for a hundredth of the usual time."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path))
    monkeypatch.setenv("API_ENDPOINT_OVERRIDE", services.url)
    monkeypatch.setenv("RUNWIDE_STORE_DEADLINE", "900")  # the default
    monkeypatch.setenv("GCE_METADATA_IP", services.host)
    monkeypatch.setattr(
        google_auth.module("google.auth.compute_engine._metadata"), "_GCE_METADATA_HOST", services.host
    )
    # Two addresses that Google's client takes from no file.
    monkeypatch.setattr(
        google_auth.module("google.auth.iam"),
        "_IAM_ENDPOINT",
        f"{services.url}/v1/projects/-/serviceAccounts/{{}}:generateAccessToken",
    )
    monkeypatch.setattr(
        google_auth.module("google.oauth2.credentials"),
        "_GOOGLE_OAUTH2_TOKEN_ENDPOINT",
        f"{services.url}/token",
    )
    monkeypatch.setattr(google_auth, "_FIRMWARE", tmp_path / "product_name")
    clock = types.SimpleNamespace(sleep=lambda seconds: time.sleep(seconds / 100), monotonic=time.monotonic)
    for name in ("google.api_core.retry.retry_base", "google.api_core.retry.retry_unary"):
        monkeypatch.setattr(google_auth.module(name), "time", clock)
    monkeypatch.setattr(google_auth.module("google.auth._exponential_backoff"), "time", clock)
    google.connections.clear()
    yield services
    google.connections.clear()


@pytest.fixture
def cloud(machine, monkeypatch):
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    return machine


def file_of(path, monkeypatch, **about):
    path.write_text(json.dumps(about))
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(path))


def authorized_user(services, path, monkeypatch):
    file_of(
        path, monkeypatch, type="authorized_user", client_id="an-id", client_secret="no-secret",
        refresh_token="a-refresh-token", token_uri=f"{services.url}/token",
    )  # fmt: skip


def service_account(services, path, monkeypatch):
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    form = serialization.PrivateFormat.PKCS8
    pem = key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())
    file_of(
        path, monkeypatch, type="service_account", client_email="tester@example.com", private_key=pem.decode(),
        private_key_id="1", project_id="a-project", token_uri=f"{services.url}/token",
    )  # fmt: skip


def federated(services, path, monkeypatch, **more):
    pool = "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/pool/providers/provider"
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "a-project")
    file_of(
        path, monkeypatch, type="external_account", audience=pool,
        subject_token_type="urn:ietf:params:oauth:token-type:jwt", token_url=f"{services.url}/sts",
        credential_source={
            "url": f"{services.url}/subject", "format": {"type": "json", "subject_token_field_name": "id_token"}
        }, **more,
    )  # fmt: skip


def impersonated(services, path, monkeypatch):
    source = {
        "type": "authorized_user", "client_id": "an-id", "client_secret": "no-secret",
        "refresh_token": "a-refresh-token", "token_uri": f"{services.url}/token",
    }  # fmt: skip
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "a-project")
    file_of(
        path, monkeypatch, type="impersonated_service_account", source_credentials=source,
        service_account_impersonation_url=f"{services.url}/v1/projects/-/serviceAccounts/a@example.com:generateAccessToken",
    )  # fmt: skip


def federated_and_impersonated(services, path, monkeypatch):
    url = f"{services.url}/v1/projects/-/serviceAccounts/a@example.com:generateAccessToken"
    federated(services, path, monkeypatch, service_account_impersonation_url=url)


KINDS = {
    "authorized_user": (authorized_user, "/token"),
    "service_account": (service_account, "/token"),
    "federated, subject": (federated, "/subject"),
    "federated, exchange": (federated, "/sts"),
    "impersonated, source": (impersonated, "/token"),
    "impersonated": (impersonated, ":generateAccessToken"),
    "federated, impersonated": (federated_and_impersonated, ":generateAccessToken"),
}


def use(store, name):
    store.create(name, b"data")
    assert store.read(name) == b"data"


@pytest.mark.parametrize("status", [503, 404, 500, 429, None])
def test_a_renewal_that_a_metadata_server_does_not_answer_is_tried_again(cloud, gcs, status):
    cloud.lifetime = 10  # so that each request renews it
    store = open_store(gcs)
    use(store, "before")
    # A client of Google's gives up after five.
    cloud.faults.append(Fault(METADATA, status, "not now", times=12))
    use(store, "after")
    assert cloud.faults[0].times == 0


def test_a_metadata_server_that_is_away_while_a_token_is_renewed_is_waited_for(cloud, gcs, monkeypatch):
    store = open_store(gcs)
    use(store, "before")
    metadata = Services(cloud.emulator)
    monkeypatch.setattr(
        google_auth.module("google.auth.compute_engine._metadata"), "_GCE_METADATA_HOST", metadata.host
    )
    metadata.close()
    google.connection().session.credentials.expiry = None
    google.connection().session.credentials.token = None
    with ThreadPoolExecutor(1) as thread:
        reading = thread.submit(store.read, "before")
        time.sleep(0.5)
        assert not reading.done()
        metadata.open()
        assert reading.result(timeout=30) == b"data"
    metadata.close()


def test_a_metadata_server_that_answers_half_is_asked_again(cloud, gcs):
    cloud.faults.append(Fault(f"{METADATA}.*/default/$", 200, {"scopes": []}, times=3))
    use(open_store(gcs), "object")
    assert cloud.faults[0].times == 0


def test_a_metadata_server_that_stays_away_ends_in_an_error_that_names_it(cloud, gcs, monkeypatch):
    monkeypatch.setenv("RUNWIDE_STORE_DEADLINE", "3")
    cloud.lifetime = 10
    store = open_store(gcs)
    use(store, "before")
    cloud.faults.append(Fault(METADATA, 404, "not now", times=10_000))
    for call in (lambda: store.create("object", b"x"), lambda: store.read("object")):
        with pytest.raises(StoreUnavailable, match="token") as caught:
            call()
        assert caught.value.uri == store.child_uri("object")
        assert "service account" in caught.value.hint
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("variable", "firmware"),
    [
        ("KUBERNETES_SERVICE_HOST", None),
        ("CLOUD_ML_PROJECT_ID", None),
        ("CLOUD_ML_JOB_ID", None),
        ("AIP_MODEL_DIR", None),
        ("K_SERVICE", None),
        ("CLOUD_RUN_JOB", None),
        (None, "Google Compute Engine"),
    ],
)
def test_the_first_credentials_of_a_machine_in_a_cloud_may_be_late(
    machine, gcs, monkeypatch, variable, firmware
):
    if variable:
        monkeypatch.setenv(variable, "x")
    if firmware:
        google_auth._FIRMWARE.write_text(f"{firmware}\n")
    machine.faults.append(Fault("^/$|" + METADATA, 503, "not yet", times=12))
    use(open_store(gcs), "object")
    assert machine.faults[0].times == 0


def test_a_pod_waits_for_a_metadata_server_that_does_not_listen_yet(cloud, gcs, monkeypatch):
    metadata = Services(cloud.emulator)
    monkeypatch.setenv("GCE_METADATA_IP", metadata.host)
    monkeypatch.setattr(
        google_auth.module("google.auth.compute_engine._metadata"), "_GCE_METADATA_HOST", metadata.host
    )
    metadata.close()
    with ThreadPoolExecutor(8) as threads:
        using = [threads.submit(use, open_store(gcs), f"object-{n}") for n in range(8)]
        time.sleep(0.5)
        assert not any(one.done() for one in using)
        metadata.open()
        for one in using:
            one.result(timeout=30)
    metadata.close()


def test_threads_that_wait_for_the_same_credentials_wait_together(cloud, gcs, monkeypatch):
    monkeypatch.setenv("RUNWIDE_STORE_DEADLINE", "3")
    cloud.faults.append(Fault("^/$|" + METADATA, 503, "not yet", times=10_000))
    tried, together = [], threading.Barrier(8)
    original = google._connect

    def counted(emulator):
        tried.append(threading.get_ident())
        return original(emulator)

    monkeypatch.setattr(google, "_connect", counted)

    def read(_):
        together.wait(10)
        with pytest.raises((StoreNotReadable, StoreUnavailable)):
            open_store(gcs).read("object")

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(read, range(8)))
    assert len(set(tried)) == 1


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("status", [503, None])
def test_credentials_of_a_file_survive_a_short_outage_of_the_token_service(
    machine, gcs, monkeypatch, kind, status
):
    make, path = KINDS[kind]
    make(machine, google_auth._FIRMWARE.with_name("credentials.json"), monkeypatch)
    machine.faults.append(Fault(path, status, {"error": "temporarily_unavailable"}, times=5))
    use(open_store(gcs), "object")
    assert machine.faults[0].times == 0


REFUSALS = {
    "revoked": (authorized_user, "/token", 400, {
        "error": "invalid_grant", "error_description": "Token has been expired or revoked."}),
    "reauthentication": (authorized_user, "/token", 400, {
        "error": "invalid_grant", "error_description": "reauth related error (invalid_rapt)",
        "error_subtype": "invalid_rapt"}),
    "key": (service_account, "/token", 400, {
        "error": "invalid_grant", "error_description": "Invalid JWT Signature."}),
    "federated": (federated, "/sts", 400, {
        "error": "invalid_target", "error_description": "The target service indicated by audience is invalid."}),
    "subject": (federated, "/subject", 403, {"error": "no"}),
    "impersonated": (impersonated, ":generateAccessToken", 403, {"error": {
        "code": 403, "status": "PERMISSION_DENIED",
        "message": "Permission 'iam.serviceAccounts.getAccessToken' denied on resource (or it may not exist)."}}),
}  # fmt: skip
REMEDIES = {
    "revoked": "gcloud auth application-default login",
    "reauthentication": "gcloud auth application-default login",
    "key": "key",
    "federated": "federation",
    "subject": "federation",
    "impersonated": "roles/iam.serviceAccountTokenCreator",
}


@pytest.mark.parametrize("kind", REFUSALS)
def test_a_refusal_of_a_token_is_reported_at_once_with_its_remedy(machine, gcs, monkeypatch, tmp_path, kind):
    make, path, status, body = REFUSALS[kind]
    make(machine, tmp_path / "credentials.json", monkeypatch)
    machine.faults.append(Fault(path, status, body, times=10_000))
    with pytest.raises(StoreNotWritable) as caught:
        open_store(gcs).create("object", b"x")
    assert REMEDIES[kind] in caught.value.hint
    assert caught.value.uri == f"{gcs}/object"
    assert "\n" not in str(caught.value)
    assert len(machine.paths(path)) <= 2


def test_a_metadata_server_that_refuses_the_token_is_not_waited_for(cloud, gcs):
    said = "Unable to generate access token; IAM returned 403 Forbidden: iam.serviceAccounts.getAccessToken denied"
    cloud.faults.append(Fault("/token$", 403, said, times=10_000))
    with pytest.raises(StoreNotReadable) as caught:
        open_store(gcs).read("object")
    assert "roles/iam.workloadIdentityUser" in caught.value.hint
    assert len(cloud.paths("/token$")) == 1


def test_a_missing_file_of_credentials_is_an_error_at_once(cloud, gcs, monkeypatch, tmp_path):
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "nowhere.json"))
    with pytest.raises(StoreNotReadable, match=r"credentials cannot be used.*nowhere\.json") as caught:
        open_store(gcs).read("object")
    assert "GOOGLE_APPLICATION_CREDENTIALS" in caught.value.hint
    assert cloud.calls == []


PROGRAM = """
import sys, time
from pathlib import Path
from runwide.errors import StoreNotReadable
from runwide.store import google, google_auth
from runwide.store.base import open_store
google_auth._FIRMWARE = Path("/nowhere")
google.module("google.cloud.storage")  # its import must not count
began = time.monotonic()
try:
    print(bytes(open_store(sys.argv[1]).read("object")))
except StoreNotReadable as error:
    print("gcloud auth application-default login" in error.hint, time.monotonic() - began, error)
"""


def run(machine, gcs, tmp_path, **more):
    environment = {
        "HOME": str(tmp_path), "PATH": os.environ["PATH"], "API_ENDPOINT_OVERRIDE": machine.url,
        "GCE_METADATA_IP": machine.host, "GCE_METADATA_HOST": machine.host, **more,
    }  # fmt: skip
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, gcs], stdout=subprocess.PIPE, text=True, env=environment
    )


def test_a_laptop_gets_an_error_at_once_if_it_has_no_credentials(machine, gcs, tmp_path):
    machine.close()
    with run(machine, gcs, tmp_path) as program:
        told, seconds, said = program.communicate(timeout=60)[0].split(maxsplit=2)
    assert told == "True"
    assert float(seconds) < 10  # in a cloud it is a minute
    assert "default credentials were not found" in said
    machine.open()


def test_a_new_pod_whose_metadata_server_comes_late_reads_its_object(machine, gcs, gcs_server, tmp_path):
    gcs_server.put(f"{gcs.removeprefix('gs://bucket/')}/object", b"data")
    metadata = Services(machine.emulator)
    metadata.close()
    late = {
        "KUBERNETES_SERVICE_HOST": "10.0.0.1",
        "GCE_METADATA_IP": metadata.host,
        "GCE_METADATA_HOST": metadata.host,
    }
    with run(machine, gcs, tmp_path, **late) as program:
        time.sleep(4)
        metadata.open()
        assert program.communicate(timeout=60)[0].strip() == "b'data'"
    metadata.close()
