"""The signing key: `keygen` makes it, `doctor` names it, only runwide's own code uses it, and no other process gets it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from secret_manager import KEY as SECRET
from secret_manager import NAME, secret_manager

import runwide
from runwide.cli import cli
from runwide.errors import InputError
from runwide.store import signing

__all__ = ["secret_manager"]

KEY = "a key of the users own that is long enough"


def seen(_item):
    """Return the places in which a task can find the key without reading the memory of another process."""
    import os
    import subprocess
    import sys
    from pathlib import Path

    child = [sys.executable, "-c", "import os; print(dict(os.environ))"]
    return (
        str(dict(os.environ)),
        Path("/proc/self/environ").read_bytes().decode(errors="replace"),
        subprocess.run(child, capture_output=True, text=True, check=True).stdout,
        Path("/proc/self/cmdline").read_bytes().decode(errors="replace"),
    )


def in_pool():
    with runwide.Pool(1) as pool:
        return pool.map(seen, [1])


def in_executor():
    with runwide.Executor(1) as executor:
        return [executor.submit(seen, 1).result()]


SURFACES = {
    "map": lambda: runwide.map(seen, [1], workers=1, fresh=True),
    "imap": lambda: list(runwide.imap(seen, [1], workers=1, fresh=True)),
    "Pool": in_pool,
    "Executor": in_executor,
    "flags": lambda: json.loads(
        subprocess.run(
            [sys.executable, "-X", "utf8", "-c",
             "import json, runwide; from tests_seen import seen; print(json.dumps(runwide.map(seen, [1], workers=1)))"],
            capture_output=True, text=True, check=True,
        ).stdout
    ),
}  # fmt: skip


@pytest.mark.parametrize("surface", SURFACES)
def test_no_worker_and_nothing_that_it_starts_has_the_key_in_its_environment(surface, monkeypatch, tmp_path):
    monkeypatch.setenv("RUNWIDE_SIGNING_KEY", KEY)
    Path(tmp_path, "tests_seen.py").write_text(
        Path(__file__).read_text().split("SURFACES")[0].split("\n\n\n")[1]
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    for found in SURFACES[surface]():
        assert [place for place in found if KEY in place] == []


def test_a_shard_hands_it_to_no_worker(monkeypatch, tmp_path):
    monkeypatch.setenv("RUNWIDE_SIGNING_KEY", KEY)
    for found in runwide.map(seen, [1], store=str(tmp_path), workers=1):
        assert [place for place in found if KEY in place] == []


def test_code_of_ours_in_a_worker_has_it(monkeypatch, tmp_path):
    monkeypatch.setenv("RUNWIDE_SIGNING_KEY", KEY)
    place = str(tmp_path / "exchange")

    def publish(x):
        runwide.Exchange(place).publish(f"value/{x}", {"a": ValueError(x)})  # not plain data
        return runwide.Exchange(place).get(f"value/{x}")["a"].args, signing.key()

    assert runwide.map(publish, [1], workers=1) == [((1,), KEY.encode())]
    assert runwide.Exchange(place).get("value/1")["a"].args == (1,)


def test_a_key_that_is_set_later_reaches_the_next_map(monkeypatch):
    def key(_):
        return signing.key()

    assert runwide.map(key, [1], workers=1) == [None]
    monkeypatch.setenv("RUNWIDE_SIGNING_KEY", KEY)
    assert runwide.map(key, [1], workers=1) == [KEY.encode()]
    monkeypatch.delenv("RUNWIDE_SIGNING_KEY")
    assert runwide.map(key, [1], workers=1) == [None]


def test_an_engine_that_a_task_starts_hands_it_to_steps_of_ours(monkeypatch):
    monkeypatch.setenv("RUNWIDE_SIGNING_KEY", KEY)

    def key(_):
        from runwide_components.engines import local_surroundings

        return local_surroundings.key()

    assert runwide.map(key, [1], workers=1) == [{"RUNWIDE_SIGNING_KEY": KEY}]


def test_keygen_makes_a_file_for_its_owner_alone(tmp_path, monkeypatch):
    path = tmp_path / "my key"
    before = os.umask(0)
    try:
        said = CliRunner().invoke(cli, ["keygen", str(path)], standalone_mode=False)
    finally:
        os.umask(before)
    assert said.exception is None
    assert path.stat().st_mode & 0o777 == 0o600
    assert said.output == f"export RUNWIDE_SIGNING_KEY_FILE='{path}'\n"
    assert path.read_text().strip() not in said.output
    monkeypatch.setenv("RUNWIDE_SIGNING_KEY_FILE", str(path))
    assert len(signing.key()) == 64
    again = CliRunner().invoke(cli, ["keygen", str(path)], standalone_mode=False)
    assert isinstance(again.exception, InputError)
    assert "the file exists" in str(again.exception)


def test_keygen_prints_one_for_another_program_or_the_commands_for_secret_manager(tmp_path):
    first, second = (CliRunner().invoke(cli, ["keygen"]).output for _ in range(2))
    assert re.fullmatch(r"[0-9a-f]{64}\n", first)
    assert first != second
    said = CliRunner().invoke(cli, ["keygen", "--secret", "k", "--project", "shop"]).output
    assert said.splitlines() == [
        "runwide keygen | gcloud secrets create k --project=shop --replication-policy=automatic --data-file=-",
        "export RUNWIDE_SIGNING_KEY_SECRET=projects/shop/secrets/k/versions/latest",
    ]
    for words in (["--secret", "a b"], ["--secret", "k", str(tmp_path / "file")]):
        error = CliRunner().invoke(cli, ["keygen", *words], standalone_mode=False).exception
        assert isinstance(error, InputError)


def test_doctor_says_which_objects_are_trusted(monkeypatch):
    def check():
        found = json.loads(CliRunner().invoke(cli, ["doctor", "--json"]).stdout)["checks"]
        return next(one for one in found if one["name"] == "signing key")

    without = check()
    assert "none is set" in without["says"]
    assert "runwide keygen" in without["hint"]
    monkeypatch.setenv("RUNWIDE_SIGNING_KEY", KEY)
    assert check()["says"].startswith("is set")
    monkeypatch.setenv("RUNWIDE_SIGNING_KEY", "short")
    assert check()["state"] == "failure"


@pytest.mark.usefixtures("secret_manager")
def test_a_shard_reads_secrets_that_no_pipeline_holds(tmp_path):
    def use(_):
        import os

        return len(os.environ["API_KEY"])

    job = runwide.scatter(use, [1], store=str(tmp_path), shards=1)
    words = ["-m", "runwide.cli", "shard", job, "0", "--workers", "1", "--secret", "API_KEY"]
    words.append(NAME.removesuffix("/versions/latest"))  # which is read where no version is named
    ran = subprocess.run([sys.executable, *words], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert runwide.gather(job) == [len(SECRET)]
    assert SECRET not in ran.stdout + ran.stderr


@pytest.mark.parametrize(
    ("variable", "secret"),
    [("API_KEY", "hunter2-hunter2"), ("a b", NAME), ("API_KEY", "projects/p/secrets/s/versions"), ("", NAME)],
)
def test_a_secret_is_named_and_never_given(variable, secret):
    from runwide_components.configuration import StepConfiguration

    with pytest.raises(InputError) as caught:
        StepConfiguration.of(secrets={variable: secret})
    assert "hunter2" not in str(caught.value)
