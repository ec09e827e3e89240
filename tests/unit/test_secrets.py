"""A task that gives its secrets away in every way it can: none of them is in a log, in an event or on a page."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import runwide

SECRETS = (
    "s1gned",
    "p3mline",
    "b3arer",
    "hmacS3cret",
    "hunt3r2",
    "GOOG1EQQQQQQQQQQQQQQQQQQQQ",
    "correct-horse-battery",
)
PROGRAM = r"""
import json, logging, os, sys

URL = "https://storage.googleapis.com/b/o?X-Goog-Algorithm=GOOG4-RSA-SHA256&X-Goog-Signature=s1gned00ff"
WORD = "hunt3r2"
PEM = "-----BEGIN PRIVATE KEY-----\np3mlineAAAA\np3mlineBBBB\n-----END PRIVATE KEY-----\n"
ACCOUNT = {"type": "service_account", "private_key": PEM, "client_email": "robot@shop"}

def leak(item):
    print("reading", URL)
    print(URL, file=sys.stderr)
    print(PEM)                                         # over several lines
    print(json.dumps(ACCOUNT))                         # a line of JSON, which a collector takes as it is
    print(json.dumps({"message": URL, "headers": [{"Authorization": "Bearer b3arer.token"}]}))
    print(json.dumps(ACCOUNT, indent=2))
    print({"Authorization": "Bearer b3arer.token"}, file=sys.stderr)
    print("hmac_secret =", "hmacS3cret", "of", "GOOG1EQQQQQQQQQQQQQQQQQQQQ")
    os.write(2, b"native code: password=hunt3r2\n")
    print("my key is", "correct-horse-" + "battery")   # it is in no worker's environment
    logging.getLogger("mine").warning("%s with %s", URL, ACCOUNT)
    logging.getLogger("mine").error("header", extra={"token": "b3arer"})
    try:
        raise OSError(URL)
    except OSError:
        logging.exception("failed at %s", URL)
    if item == 1:
        raise PermissionError(f"403 GET {URL}: Authorization: Bearer b3arer.token\n{PEM}")
    if item == 2:
        raise ValueError(URL + " " + "x" * 3990)        # where a page cuts, the name may be gone and the value not
    if item == 3:
        print(PEM.rpartition("-----END")[0] * 3, file=sys.stderr, flush=True)
        os._exit(3)                                    # these are its last words
    if item == 4:
        nested({"password": WORD}, WORD)
    return item

def nested(about, word):
    raise RuntimeError(f"connect(postgres://me:{word}@db/base) {about} --password {word}")
"""


@pytest.fixture(scope="module")
def leaked(tmp_path_factory):
    """The output of such a job's commands, its events, and its pages."""
    folder = tmp_path_factory.mktemp("leak")
    (folder / "leaking.py").write_text(PROGRAM)
    env = {
        **os.environ,
        "RUNWIDE_LOG": "",
        "CLOUD_ML_JOB_ID": "1",
        "RUNWIDE_SIGNING_KEY": "correct-horse-battery",
    }

    def run(*words):
        command = [str(Path(sys.executable).with_name("runwide")), *words]
        return subprocess.run(
            command, cwd=folder, env=env, capture_output=True, text=True, check=False, timeout=60
        )

    store = folder / "store"
    given = "--function", "leaking:leak", "--items-json", "[0, 1, 2, 3, 4]"
    scattered = run("scatter", *given, "--store", str(store), "--shards", "1")
    job = scattered.stdout.strip()
    written = [scattered]
    written.append(run("shard", job, "0", "--workers", "1", "--retries", "1"))
    written.append(run("gather", job, "--report-out", "page.html", "--metrics-out", "metrics.json"))
    written.append(run("report", job, "--out", "other.html"))
    assert [one.returncode for one in written] == [0, 0, 1, 0], written[-1].stderr
    texts = {f"{one.args[1]} {name}": getattr(one, name) for one in written for name in ("stdout", "stderr")}
    for path in [*store.glob("*/shards/*/events*.jsonl"), *folder.glob("*.html"), *folder.glob("*.json")]:
        texts["events" if path.suffix == ".jsonl" else path.name] = path.read_text()
    return texts, job


@pytest.mark.parametrize("secret", SECRETS)
def test_no_secret_is_in_a_log_in_an_event_or_on_a_page(leaked, secret):
    texts, _ = leaked
    assert {
        "events",
        "page.html",
        "other.html",
        "metrics.json",
        "shard stdout",
        "gather stderr",
    } <= texts.keys()
    found = {
        name: text[max(0, text.find(secret) - 150) : text.find(secret) + 40]
        for name, text in texts.items()
        if secret in text
    }
    assert found == {}


def test_text_without_a_secret_is_complete(leaked):
    texts, _ = leaked
    lines = [
        json.loads(line)
        for line in (texts["shard stdout"] + texts["shard stderr"]).splitlines()
        if line.startswith("{")
    ]
    said = "\n".join(str(line.get("message", line)) for line in lines)
    for word in ("reading https://storage.googleapis.com/b/o?X-Goog-Algorithm=GOOG4-RSA-SHA256", "robot@shop", "native code",
                 "my key is [redacted]", "failed at https://storage.googleapis.com"):  # fmt: skip
        assert word in said, word
    page = texts["page.html"]
    for word in ("PermissionError: 403 GET https://storage.googleapis.com/b/o", "RuntimeError: connect(postgres://me:[redacted]@db/base)",
                 "leaking.py", "in nested"):  # fmt: skip
        assert word in page, word


def test_in_a_notebook_the_results_report_has_none_either(monkeypatch, tmp_path):
    namespace: dict[str, object] = {}
    exec(PROGRAM.replace("os._exit(3)", "1 / 0"), namespace)
    monkeypatch.setenv("RUNWIDE_SIGNING_KEY", "correct-horse-battery")
    results = runwide.map(namespace["leak"], range(5), workers=1, on_error="return")
    shown = results.report()._repr_html_() + repr(results.report())
    assert "PermissionError" in shown
    assert [secret for secret in SECRETS if secret in shown] == []


def test_the_page_of_a_batch_hides_parameters_and_outputs_by_name_and_by_content():
    from runwide_components import PipelineRun, RunState
    from runwide_components.batch_page import page

    secrets = {
        "api_key": "hunt3r2",
        "passwords": ["hunt3r2"],
        "auth": {"token": "hunt3r2"},
        "access_token": 0.25,
    }
    shown = page(
        [
            PipelineRun(
                name,
                {**secrets, "client_secret": f"{name}-hunt3r2", "days": 7, "max_tokens": 512, "market": name},
                RunState.SUCCEEDED,
                {"token": "hunt3r2", "url": f"{'x ' * 92}postgres://me:hunt3r2hunt3r2@db", "rmse": 0.125},
            )
            for name in ("de", "fr")
        ]
    )
    assert "hunt" not in shown
    assert "0.25" not in shown
    for word in (
        "api_key = [redacted]",
        "days = 7",
        "max_tokens = 512",
        "client_secret",
        "0.125",
        "postgres://",
    ):
        assert word in shown, word


URL = "postgres://me:hunt3r2hunt3r2hunt3r2@db/base"


@pytest.mark.parametrize("place", range(0, 48, 3))
def test_wherever_a_cause_is_cut_no_part_of_a_secret_is_left(tmp_path, place):
    from runwide.cli.status import Causes
    from runwide.events import emit
    from runwide.job import manifest
    from runwide.records import Failure, FailureKind
    from runwide.redaction import redacted

    for most in (80, 200, 300, 500, 1000, 2000):
        text = "y" * (most - place - 13) + " " + URL + " and more" * 1000
        failure = Failure(0, FailureKind.EXCEPTION, "ValueError", text, text[::-1].replace(URL[::-1], URL))
        said = Causes()
        said.add([failure])
        assert "hun" not in "".join(said.counts)
        _, detail, _ = emit.of_failure(failure, again=False)
        assert "hun" not in redacted(detail)
    for after in range(7950, 8050, 3):
        trace = "File x, line 1 " * 1000 + URL + " " + "z" * (after - 1)
        stored = manifest.failure_to_json(Failure(0, FailureKind.EXCEPTION, "E", "", trace))["traceback"]
        assert len(stored) <= 8000
        assert "hunt3r2" not in redacted(stored)
        assert "r2@db" not in redacted(stored)
