"""The refusals of a bucket are named with their remedy, and its conditions are sent with every request."""

from __future__ import annotations

import re

import pytest
from google_services import Fault, Services

import runwide
from runwide.errors import (
    InputError,
    IntegrityError,
    ObjectExists,
    StoreError,
    StoreNotFound,
    StoreNotReadable,
    StoreNotWritable,
)
from runwide.job import clean, status
from runwide.job.reference import parse, short_reference
from runwide.store import google, google_auth
from runwide.store.base import open_store

pytestmark = pytest.mark.gcs


@pytest.fixture
def bucket(gcs_server, gcs, monkeypatch, tmp_path):
    """The emulator's bucket, seen from a machine in a cloud with a token."""
    monkeypatch.delenv("STORAGE_EMULATOR_HOST")
    for name in (
        "GOOGLE_APPLICATION_CREDENTIALS",
        "GOOGLE_CLOUD_PROJECT",
        "NO_GCE_CHECK",
        "NO_PROXY",
        "no_proxy",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path))
    with Services(gcs_server.url) as services:
        monkeypatch.setenv("GCE_METADATA_IP", services.host)
        metadata = google_auth.module("google.auth.compute_engine._metadata")
        monkeypatch.setattr(metadata, "_GCE_METADATA_HOST", services.host)
        monkeypatch.setenv("CLOUDSDK_API_ENDPOINT_OVERRIDES_STORAGE", f"{services.url}/storage/v1/")
        google.connections.clear()
        yield services
    google.connections.clear()


def body(code, message, why, **details):
    rows = [{"message": message, "domain": "global", "reason": why}]
    found = {"code": code, "message": message, "errors": rows}
    if details:
        found["details"] = [{"@type": "type.googleapis.com/google.rpc.ErrorInfo", **details}]
    return code, {"error": found}


VPC = "Request is prohibited by organization's policy. vpcServiceControlsUniqueIdentifier: 03ImDwzXYZ"
LATER = "until 2027-01-01T00:00:00-08:00"
REFUSALS = {
    "perimeter": (body(403, VPC, "forbidden", reason="SECURITY_POLICY_VIOLATED"), "VPC Service Controls", "perimeter"),
    "perimeter, by its reason": (body(403, "Access denied.", "vpcServiceControls"), "VPC Service Controls", "perimeter"),
    "billing, absent": (
        body(403, "The billing account for the owning project is disabled in state absent", "accountDisabled"),
        "billing", "gcloud billing projects link",
    ),
    "billing, to be billed": (
        body(403, "The project to be billed is associated with a closed billing account.", "accountDisabled"),
        "billing", "gcloud billing projects link",
    ),
    "billing, of the API": (
        body(403, "This API method requires billing to be enabled.", "forbidden", reason="BILLING_DISABLED"),
        "billing", "gcloud billing projects link",
    ),
    "retention": (
        body(403, "Object 'b/o' is subject to bucket's retention policy or object retention and cannot be deleted or "
             f"overwritten {LATER}", "retentionPolicyNotMet"), "retention policy", "release the hold",
    ),
    "retention, older": (
        body(403, "Object 'b/o' is subject to bucket's retention policy and cannot be deleted, overwritten or archived "
             f"{LATER}", "forbidden"), "retention policy", "release the hold",
    ),
    "event-based hold": (
        body(403, "Object 'b/o' is under active Event-Based hold and cannot be deleted, overwritten or archived until hold "
             "is removed.", "objectUnderActiveHold"), "hold", "release the hold",
    ),
    "temporary hold": (
        body(403, "Object 'b/o' is under active Temporary hold and cannot be deleted, overwritten or archived until hold is "
             "removed.", "forbidden"), "hold", "release the hold",
    ),
    "requester pays": (
        body(400, "Bucket is a requester pays bucket but no user project provided.", "required"),
        "to pay", "RUNWIDE_USER_PROJECT",
    ),
    "requester pays, by its reason": (body(400, "Bad Request", "userProjectMissing"), "to pay", "RUNWIDE_USER_PROJECT"),
    "quota project": (
        body(403, "Caller does not have required permission to use project other. Grant the caller the "
             "roles/serviceusage.serviceUsageConsumer role.", "forbidden", reason="USER_PROJECT_DENIED"),
        "billed", "roles/serviceusage.serviceUsageConsumer",
    ),
    "user project": (
        body(403, "a@example.com does not have serviceusage.services.use access to the Google Cloud project. Permission "
             "'serviceusage.services.use' denied on resource (or it may not exist).", "forbidden"),
        "billed", "roles/serviceusage.serviceUsageConsumer",
    ),
    "key, denied": (
        body(403, "Permission denied on Cloud KMS key. Please ensure that your Cloud Storage service account has been "
             "authorized to use this key.", "forbidden"), "Cloud KMS", "roles/cloudkms.cryptoKeyEncrypterDecrypter",
    ),
    "key, disabled": (
        body(400, "The Cloud KMS key is disabled.", "cloudKmsDisabledKey"), "Cloud KMS", "enabled",
    ),
    "API disabled": (
        body(403, "Cloud Storage JSON API has not been used in project 1 before or it is disabled.", "accessNotConfigured",
             reason="SERVICE_DISABLED"), "API is disabled", "gcloud services enable storage.googleapis.com",
    ),
    "constraint": (
        body(412, "Constraint constraints/gcp.restrictNonCmekServices violated for projects/p.",
             "orgPolicyConstraintFailed"),
        "policy of the organization", "constraint",
    ),
}  # fmt: skip
ALWAYS = 10_000


@pytest.mark.parametrize("kind", REFUSALS)
def test_an_error_of_a_refusal_has_its_name_its_remedy_and_the_uri(bucket, gcs, kind):
    (code, answer), name, remedy = REFUSALS[kind]
    store = open_store(gcs)
    store.create("object", b"data")
    bucket.faults.append(Fault("/storage/v1/", code, answer, times=ALWAYS))
    before = len(bucket.paths("/storage/v1/"))
    calls = {
        StoreNotWritable: [lambda: store.delete("object")],
        StoreNotReadable: [lambda: store.read("object"), lambda: list(store.list())],
    }
    if "release the hold" not in remedy:  # no retention policy forbids a new object
        calls[StoreNotWritable].append(lambda: store.create("new", b"data"))
    for error, operations in calls.items():
        for call in operations:
            with pytest.raises(error) as caught:
                call()
            assert name in caught.value.message
            assert answer["error"]["message"][:40] in caught.value.message
            assert remedy in caught.value.hint
            assert caught.value.uri.startswith(gcs)
            assert "\n" not in str(caught.value)
    assert len(bucket.paths("/storage/v1/")) - before == 3 + ("release the hold" not in remedy)


def test_a_missing_role_a_missing_bucket_and_a_wrong_request_keep_their_words(bucket, gcs):
    denied = (
        "a@example.com does not have storage.objects.create access to the Google Cloud Storage object. "
        "Permission 'storage.objects.create' denied on resource (or it may not exist)."
    )
    store = open_store(gcs)
    bucket.faults.append(Fault("/upload/", *body(403, denied, "forbidden")))
    with pytest.raises(StoreNotWritable, match="this process may not write there") as caught:
        store.create("object", b"data")
    assert "roles/storage.objectUser" in caught.value.hint
    with pytest.raises(StoreNotFound, match="no such bucket"):
        open_store("gs://nowhere-at-all").create("object", b"data")
    bucket.faults.append(Fault("/upload/", *body(400, "Invalid argument.", "invalid")))
    with pytest.raises(StoreError, match="Invalid argument") as caught:
        store.create("object", b"data")
    assert type(caught.value) is StoreError


def test_names_chosen_by_users_do_not_change_the_kind_of_a_refusal(bucket, gcs):
    denied = "a@example.com does not have storage.objects.get access to the Google Cloud Storage object."
    bucket.faults.append(Fault("/download/", *body(403, denied, "forbidden")))
    with pytest.raises(StoreNotReadable, match="this process may not read there"):
        open_store(gcs).read("requester pays/billing account/vpcServiceControls/cloudKms")


def test_a_403_that_asks_to_go_slower_is_tried_again(bucket, gcs):
    store = open_store(gcs)
    bucket.faults.append(Fault("/upload/", *body(403, "Rate Limit Exceeded", "rateLimitExceeded"), times=2))
    store.create("object", b"data")
    assert bucket.faults[0].times == 0


def kept(call):
    """Refuse requests like a bucket with a retention policy: no object is deleted or replaced."""
    _, answer = REFUSALS["retention"][0]
    if call.method == "DELETE":
        return 403, answer
    if call.method == "POST" and call.query.get("ifGenerationMatch", [""])[0] != "0":
        return 403, answer
    return None


def inverse(x):
    return 1 / x


def mended(x):
    return 1 / x if x else 0


def test_a_failed_item_is_run_again_in_a_bucket_that_forbids_to_delete(bucket, gcs):
    bucket.demands = kept
    job = runwide.scatter(inverse, [1, 0, 2], store=gcs, shards=1)
    first = runwide.shard(job, 0, workers=1)
    assert [str(one) for one in runwide.gather(job, [first], on_error="return")][1].startswith(
        "item 1: ZeroDivision"
    )
    again = runwide.rerun(job, function=mended, workers=1)
    assert runwide.gather(job, again) == [1, 0, 0.5]
    assert runwide.gather(job, [short_reference(0, again[0])]) == [1, 0, 0.5]
    assert runwide.gather(job) == [1, 0, 0.5]
    assert status(job).failed == 0
    # The earlier reference belongs to the earlier end.
    assert runwide.gather(job, [first], on_error="return")[1].type == "ZeroDivisionError"
    assert runwide.rerun(job, workers=1) == again
    assert {call.method for call in bucket.calls} <= {"GET", "POST"}


def test_a_named_map_goes_on_in_a_bucket_that_forbids_to_delete(bucket, gcs, tmp_path):
    bucket.demands = kept
    flag = tmp_path / "mended"

    def fragile(x):
        if x == 1 and not flag.exists():
            raise ValueError("not yet")
        return x

    for _ in range(2):
        with pytest.raises(ValueError, match="not yet"):
            runwide.map(fragile, range(3), workers=1, store=gcs, name="kept")
    flag.touch()
    for _ in range(2):
        assert runwide.map(fragile, range(3), workers=1, store=gcs, name="kept") == [0, 1, 2]
    assert {call.method for call in bucket.calls} <= {"GET", "POST"}


def test_a_name_whose_job_is_gone_or_unsigned_is_reused_without_deletion(bucket, gcs, monkeypatch):
    assert runwide.map(abs, [-1, -2], workers=1, store=gcs, name="gone") == [1, 2]
    (job,) = {info.name.partition("/")[0] for info in open_store(gcs).list()} - {"names"}
    clean(f"{gcs}/{job}")
    bucket.demands = kept
    assert runwide.map(abs, [-1, -2], workers=1, store=gcs, name="gone") == [1, 2]
    monkeypatch.setenv("RUNWIDE_SIGNING_KEY", "a key that is long enough")
    for _ in range(2):
        assert runwide.map(abs, [-1, -2], workers=1, store=gcs, name="gone") == [1, 2]
    names = [info.name for info in open_store(gcs).list("names/")]
    assert len(names) == 3
    assert (
        len({info.name.partition("/")[0] for info in open_store(gcs).list()}) == 3
    )  # two jobs and the names


def test_a_damaged_chunk_is_computed_again_in_a_bucket_that_forbids_to_delete(bucket, gcs, gcs_server):
    job = runwide.scatter(abs, [-1, -2], store=gcs, shards=1)
    first = runwide.shard(job, 0, workers=1)
    folder = open_store(parse(job).folder)
    (chunk,) = [info.name for info in folder.list("shards/0000/chunks/")]
    gcs_server.put(f"{folder.uri.removeprefix('gs://bucket/')}/{chunk}", b"garbage")
    bucket.demands = kept
    assert runwide.gather(job, [runwide.shard(job, 0, workers=1)]) == [1, 2]
    assert runwide.gather(job) == [1, 2]
    with pytest.raises(IntegrityError):
        runwide.gather(job, [first])


def test_a_bucket_that_answers_retention_instead_of_a_failed_condition_is_understood(bucket, gcs):
    store = open_store(gcs)
    store.create("object", b"data")
    bucket.demands = lambda call: REFUSALS["event-based hold"][0] if call.method == "POST" else None
    store.create("object", b"data")
    with pytest.raises(ObjectExists):
        store.create("object", b"other")


def test_the_error_of_a_job_that_cannot_be_deleted_has_the_reason(bucket, gcs):
    job = runwide.scatter(abs, [-1], store=gcs, shards=1)
    bucket.demands = kept
    with pytest.raises(StoreNotWritable, match="retention policy") as caught:
        clean(job)
    assert "release the hold" in caught.value.hint


def paid(call):
    """Refuse requests that do not name the project that pays."""
    return None if call.query.get("userProject") == ["payer"] else REFUSALS["requester pays"][0]


def test_the_project_that_pays_is_sent_with_every_request(bucket, gcs, monkeypatch):
    bucket.demands = paid
    with pytest.raises(StoreNotWritable) as caught:
        open_store(gcs).create("object", b"data")
    assert "RUNWIDE_USER_PROJECT" in caught.value.hint
    monkeypatch.setenv("RUNWIDE_USER_PROJECT", "payer")
    job = runwide.scatter(inverse, [1, 0, 2], store=gcs, shards=2)
    runwide.gather(job, [runwide.shard(job, index, workers=1) for index in range(2)], on_error="return")
    assert runwide.gather(job, runwide.rerun(job, function=mended, workers=1)) == [1, 0, 0.5]
    assert status(job).finished == 2
    store = open_store(gcs)
    store.create("object", b"data")
    store.create("object", b"data")
    assert store.read("object", start=1, length=2) == b"at"
    clean(job)
    store.delete("object")


def test_the_project_of_the_credentials_is_sent_with_every_request(bucket, gcs, monkeypatch):
    monkeypatch.setenv("GOOGLE_CLOUD_QUOTA_PROJECT", "quota")

    def demanded(call):
        return None if call.headers.get("x-goog-user-project") == "quota" else REFUSALS["quota project"][0]

    bucket.demands = demanded
    store = open_store(gcs)
    store.create("object", b"data")
    assert store.read("object") == b"data"
    assert [info.name for info in store.list()] == ["object"]
    store.delete("object")


def test_the_project_that_pays_is_also_the_project_of_the_quota(bucket, gcs, monkeypatch):
    monkeypatch.setenv("GOOGLE_CLOUD_QUOTA_PROJECT", "quota")
    monkeypatch.setenv("RUNWIDE_USER_PROJECT", "payer")

    def same(call):
        if call.headers.get("x-goog-user-project", "payer") != "payer":
            return body(
                400, "User project specified in the request is inconsistent.", "userProjectInconsistent"
            )
        return paid(call)

    bucket.demands = same
    open_store(gcs).create("object", b"data")


def test_a_bucket_with_a_key_of_the_customers_is_written_and_read(bucket, gcs):
    key = "projects/p/locations/l/keyRings/r/cryptoKeys/k/cryptoKeyVersions/1"

    def encrypted(call):
        # The bucket's own key is used where a request names none and brings none.
        named = call.query.get("kmsKeyName") or [name for name in call.headers if "encryption" in name]
        return body(400, f"only {key} may be used", "cloudKmsCannotChangeKeyName") if named else None

    bucket.demands = encrypted
    store = open_store(gcs)
    store.create("object", b"data")
    assert store.read("object") == b"data"


@pytest.mark.parametrize("form", ["{url}", "{url}/", "{url}/storage/v1", "{url}/storage/v1/"])
def test_a_private_endpoint_gets_the_requests_with_their_token(bucket, gcs, monkeypatch, form):
    monkeypatch.setenv("CLOUDSDK_API_ENDPOINT_OVERRIDES_STORAGE", form.format(url=bucket.url))
    open_store(gcs).create("object", b"data")
    assert open_store(gcs).read("object") == b"data"
    (written,) = [call for call in bucket.calls if call.path.startswith("/upload/")]
    assert written.path == "/upload/storage/v1/b/bucket/o"
    assert written.headers["authorization"].startswith("Bearer ")


def test_the_endpoint_that_googles_client_knows_is_used_too(bucket, gcs, monkeypatch):
    monkeypatch.delenv("CLOUDSDK_API_ENDPOINT_OVERRIDES_STORAGE")
    monkeypatch.setenv("API_ENDPOINT_OVERRIDE", bucket.url)
    open_store(gcs).create("object", b"data")
    assert len(bucket.paths("/upload/")) == 1


def universe_of(bucket, name):
    """Let the metadata server report that this machine is in a universe of that name."""
    bucket.faults.append(Fault("universe-domain", 200, name, times=ALWAYS))


@pytest.mark.parametrize("said", [True, False], ids=["by the variable", "by the credentials"])
def test_another_universe_is_where_the_requests_go(bucket, gcs, monkeypatch, said):
    monkeypatch.delenv("CLOUDSDK_API_ENDPOINT_OVERRIDES_STORAGE")
    universe_of(bucket, "example.test")
    if said:
        monkeypatch.setenv("GOOGLE_CLOUD_UNIVERSE_DOMAIN", "example.test")
    assert google.connection().endpoint == "https://storage.example.test"
    google.connections.clear()
    # And to a private endpoint in it.
    monkeypatch.setenv("CLOUDSDK_API_ENDPOINT_OVERRIDES_STORAGE", bucket.url)
    open_store(gcs).create("object", b"data")
    assert open_store(gcs).read("object") == b"data"


def test_credentials_of_another_universe_than_was_asked_for_are_refused(bucket, gcs, monkeypatch):
    monkeypatch.setenv("GOOGLE_CLOUD_UNIVERSE_DOMAIN", "example.test")
    with pytest.raises(InputError, match=re.escape("GOOGLE_CLOUD_UNIVERSE_DOMAIN is example.test")):
        open_store(gcs).create("object", b"data")
