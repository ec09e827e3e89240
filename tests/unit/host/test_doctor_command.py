"""The command `runwide doctor`."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from click.testing import CliRunner

from runwide import settings
from runwide.cli import cli
from runwide.errors import StoreNotWritable
from runwide.testing.stores import mount


@pytest.fixture(autouse=True)
def _nothing_set(monkeypatch):
    for name in ("RUNWIDE_WORKERS", "RUNWIDE_STORE", "RUNWIDE_SCRATCH", "RUNWIDE_IMAGE"):
        monkeypatch.delenv(name, raising=False)


def doctor(*arguments: str):
    return CliRunner().invoke(cli, ["doctor", *arguments], catch_exceptions=False)


def checks(result) -> dict[str, dict]:
    return {check["name"]: check for check in json.loads(result.stdout)["checks"]}


def test_a_sound_machine_passes_with_everything_shown():
    result = doctor()
    assert result.exit_code == 0, result.output
    lines = result.output.splitlines()
    assert [line.rstrip() for line in lines] == lines
    shown = {line.split("  ")[0] for line in lines}
    assert len(shown) == len(lines)  # no check is wrapped
    assert {
        "python",
        "packages",
        "image",
        "cores",
        "memory",
        "OOM kills",
        "shared memory",
        "scratch",
        "GPUs",
    } <= shown


def test_the_json_form_keeps_its_schema():
    plain = json.loads(doctor("--json").stdout)
    assert set(plain) == {"format", "ok", "checks", "cores", "memory"}
    assert plain["ok"] is True
    assert {frozenset(check) for check in plain["checks"]} == {frozenset({"name", "state", "says", "hint"})}
    assert plain["memory"]["size"] > 0


def test_a_store_is_written_read_and_left_as_it_was(tmp_path):
    result = doctor("--json", "--store", f"file://{tmp_path}")
    assert checks(result)["store"]["says"].endswith("written, read back and deleted")
    assert result.exit_code == 0
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_store_that_cannot_be_used_is_a_failure_with_the_reason():
    result = doctor("--store", "file:///proc/no/such/store")
    assert result.exit_code == 1
    assert "a job would fail here: store: file:///proc/no/such/store cannot be" in result.stderr


def test_a_store_that_keeps_its_objects_is_a_warning(tmp_path):
    def refuse(method, name, _before):
        if method == "delete":
            raise StoreNotWritable("a retention policy forbids to delete", uri=name, hint="wait")

    result = doctor("--json", "--store", mount("kept", str(tmp_path), refuse))
    assert checks(result)["store"]["state"] == "warning"
    assert "cannot be deleted from" in checks(result)["store"]["says"]
    assert result.exit_code == 0


def test_a_uri_that_is_not_a_store_is_a_failure():
    found = doctor("--json", "--store", "ftp://somewhere")
    assert found.exit_code == 1
    assert checks(found)["store"]["state"] == "failure"


def test_the_default_store_is_tried_unasked(tmp_path, monkeypatch):
    monkeypatch.setenv("RUNWIDE_STORE", str(tmp_path))
    assert checks(doctor("--json"))["store"]["state"] == "ok"


def test_an_invalid_setting_is_a_failure_and_the_rest_is_still_shown(monkeypatch):
    monkeypatch.setenv("RUNWIDE_WORKERS", "-2")
    result = doctor("--json")
    assert result.exit_code == 1
    found = checks(result)
    assert found["settings"]["state"] == "failure"
    assert found["memory"]["state"] != "failure"


def test_a_scratch_directory_that_is_not_there_is_a_failure(monkeypatch, tmp_path):
    monkeypatch.setenv("RUNWIDE_SCRATCH", str(tmp_path / "none"))
    result = doctor("--json")
    assert result.exit_code == 1
    assert checks(result)["scratch"]["hint"] == "set RUNWIDE_SCRATCH"


def test_the_exit_code_reaches_the_shell(tmp_path):
    ran = subprocess.run(
        [sys.executable, "-c", "from runwide.cli import main; main(['doctor'])"],
        env=settings.with_variables({"RUNWIDE_SCRATCH": str(tmp_path / "none")}),
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 1
    assert ran.stderr.strip().splitlines()[-1].startswith("runwide: a job would fail here: scratch: ")


def test_the_image_is_named_with_the_versions_it_was_built_with(tmp_path, monkeypatch):
    identity = tmp_path / "image.json"
    monkeypatch.setattr("runwide.cli.doctor._IMAGE", identity)
    assert checks(doctor("--json"))["image"]["says"] == "not the runwide image"
    identity.write_text('{"version": "0.1.0", "revision": "4f1c9d0"}')
    assert checks(doctor("--json"))["image"]["says"] == "revision 4f1c9d0, version 0.1.0"
    identity.write_text("{")
    assert checks(doctor("--json"))["image"]["state"] == "warning"


@pytest.mark.parametrize("text", ["[1]", '"text"', "null"])
def test_an_image_that_is_named_otherwise_is_a_warning(text, tmp_path, monkeypatch):
    identity = tmp_path / "image.json"
    identity.write_text(text)
    monkeypatch.setattr("runwide.cli.doctor._IMAGE", identity)
    assert checks(doctor("--json"))["image"]["state"] == "warning"
