"""The gate accepts packages without known vulnerabilities; the tests give pip-audit a service of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import audit
import cloudbuild
import pytest

ROOT = Path(__file__).parents[2]
BILL = {
    "components": [
        {"purl": "pkg:pypi/six@1.17.0"},
        {"purl": "pkg:pypi/tqdm@4.0.0"},
        {"purl": "pkg:pypi/runwide@0.0.1"},
        {"purl": "pkg:deb/debian/tini@0.19"},
    ]
}


def advisory(name: str, version: str) -> dict:
    """An advisory in the form of OSV, with the fields that pip-audit reads."""
    return {
        "id": "TEST-2026-0001",
        "summary": "made for a test",
        "modified": "2026-01-01T00:00:00Z",
        "affected": [
            {
                "package": {"ecosystem": "PyPI", "name": name},
                "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "99"}]}],
                "versions": [version],
            }
        ],
    }


@pytest.fixture
def judge(tmp_path):
    """Run the gate as the build does, and return its exit code and its output."""

    def run(bill: dict, *, url: str, **environment: str) -> tuple[int, str]:
        path = tmp_path / "sbom.cdx.json"
        path.write_text(json.dumps(bill))
        ran = subprocess.run(
            [sys.executable, ROOT / "docker" / "audit.py", path],
            env={**os.environ, "RUNWIDE_OSV_URL": url, **environment},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        return ran.returncode, ran.stdout

    return run


@pytest.fixture
def service(tmp_path):
    """Start a service with some advisories, and return its address."""
    with_file = []

    def start(*known: dict) -> str:
        path = tmp_path / "advisories.json"
        path.write_text(json.dumps(known))
        context = cloudbuild.advisories(path)
        with_file.append(context)
        return context.__enter__()

    yield start
    for context in with_file:
        context.__exit__(None, None, None)


def test_packages_without_known_vulnerabilities_pass(judge, service):
    code, said = judge(BILL, url=service(advisory("six", "1.16.0")))
    assert (code, said) == (0, "audit: nothing known against 2 packages\n")


def test_a_known_vulnerability_is_a_failure_that_names_the_package_and_the_fixed_version(judge, service):
    code, said = judge(BILL, url=service(advisory("six", "1.17.0")))
    assert code == 1
    assert said.splitlines()[0] == "TEST-2026-0001: six 1.17.0; repaired in 99"


def test_a_service_that_cannot_be_reached_is_a_failure(judge):
    code, said = judge(BILL, url="http://127.0.0.1:9/v1/query")
    assert code == 3
    assert said.startswith("audit: service not reached (http://127.0.0.1:9/v1/query): ")


def test_only_an_explicit_variable_accepts_an_unjudged_image_and_the_output_says_so(judge):
    url = "http://127.0.0.1:9/v1/query"
    code, said = judge(BILL, url=url, RUNWIDE_ACCEPT_UNREACHED="yes")
    assert code == 0
    assert said.startswith("audit: NOT JUDGED: service not reached")
    assert judge(BILL, url=url, RUNWIDE_ACCEPT_UNREACHED="no")[0] == 3


def test_the_variable_accepts_no_known_vulnerability(judge, service):
    url = service(advisory("six", "1.17.0"))
    assert judge(BILL, url=url, RUNWIDE_ACCEPT_UNREACHED="yes")[0] == 1


def test_an_index_that_cannot_be_reached_is_a_failure(judge):
    nowhere = "http://127.0.0.1:9"
    code, said = judge(BILL, url="", RUNWIDE_ADVISORIES="pypi", https_proxy=nowhere, HTTPS_PROXY=nowhere)
    assert code == 3
    assert said.startswith("audit: service ")
    assert "(pypi): " in said


@pytest.mark.parametrize("service", ["esms", "none"])
def test_an_unknown_service_is_refused(judge, service):
    code, said = judge(BILL, url="", RUNWIDE_ADVISORIES=service)
    assert (code, said) == (4, f"audit: RUNWIDE_ADVISORIES={service} is none of osv, pypi\n")


def test_a_bill_without_packages_is_a_failure(judge, service):
    assert judge({"components": []}, url=service())[0] == 4


def test_an_accepted_vulnerability_needs_a_day_and_a_reason():
    with pytest.raises(audit.UnreadableError, match="reason"):
        audit.accepted("GHSA-1 2027-01-31", audit.dt.date(2026, 1, 1))


def test_the_list_of_accepted_vulnerabilities_can_be_read():
    audit.accepted(audit.ACCEPTED.read_text(), audit.dt.date(2026, 1, 1))
