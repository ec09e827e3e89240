"""The commands of components reject bad input before anything is stored, and ``status`` describes a job."""

from __future__ import annotations

import subprocess
import sys

import pytest
from click.testing import CliRunner

import runwide
from runwide.cli import cli
from runwide.cli.status import lines
from runwide.errors import InputError
from runwide.job.manifest import read_job
from runwide_components import Components, Kubeflow, Local, Pipelines, Vertex
from runwide_components.batch_records import cancel_all, status_of
from runwide_components.cli_options import engine_from

VARIABLES = ("GOOGLE_CLOUD_PROJECT", "GOOGLE_CLOUD_REGION", "GOOGLE_CLOUD_LOCATION")


@pytest.mark.parametrize(
    ("count", "message"),
    [
        ("4", r"components='4' is a str, not a whole number; give it without quotes"),
        (2.5, r"components=2.5 is a float, not a whole number"),
        (True, r"components=True is a bool, not a whole number"),
        (None, r"components=None is a NoneType, not a whole number"),
        (0, r"invalid components=0: expected 1 or more"),
    ],
    ids=repr,
)
def test_a_number_of_components_that_is_none_is_refused_when_it_is_given(count, message, tmp_path):
    with pytest.raises(InputError, match=message):
        Components(count, store=tmp_path)


@pytest.mark.parametrize("engine", ["local", Local, 3, ""], ids=repr)
def test_other_values_than_an_engine_are_refused_when_they_are_given(engine, tmp_path):
    for call in (
        lambda: Components(1, store=tmp_path, engine=engine),
        lambda: Pipelines("p.yaml", store=tmp_path, engine=engine),
        lambda: runwide.attach(runwide.scatter(abs, [1], store=tmp_path, shards=1), engine=engine),
        lambda: status_of(str(tmp_path), engine=engine),
        lambda: cancel_all(str(tmp_path), engine=engine),
    ):
        with pytest.raises(InputError, match=r"invalid engine=.*: expected an engine.* such as Local\(\)"):
            call()


def test_an_invalid_image_or_address_is_refused_when_it_is_given(tmp_path):
    for image in ("", 4, "a b"):
        with pytest.raises(InputError, match=r"invalid image=.*: expected the name of an image"):
            Components(1, store=tmp_path, image=image)
    with pytest.raises(InputError, match="invalid host=3: expected the URL of a server"):
        Kubeflow(host=3)
    with pytest.raises(InputError, match="invalid poll=3"):
        Kubeflow("https://x", poll=3)
    with pytest.raises(InputError, match="the pipeline root is not in Cloud Storage"):
        Vertex("shop-123", "europe-west1", pipeline_root=3)


@pytest.mark.parametrize("timeout", ["nan", "inf", "-1"])
def test_a_time_to_wait_is_a_number_of_seconds(timeout, tmp_path):
    job = runwide.scatter(abs, [1], store=tmp_path, shards=1)
    done = CliRunner().invoke(cli, ["wait", job, "--timeout", timeout])
    assert done.exit_code
    assert f"timeout={float(timeout)}" in f"{done.output}{done.exception}"
    with pytest.raises(InputError, match="timeout="):
        runwide.attach(job, timeout=float(timeout))


def test_a_whole_number_of_another_library_is_one(tmp_path):
    numpy = pytest.importorskip("numpy")
    assert Components(numpy.int64(4), store=tmp_path).components == 4


@pytest.mark.parametrize(
    ("engine", "options", "message"),
    [
        (
            "vertex",
            {},
            "--engine vertex has no --project and no --location; give --project, or set GOOGLE_CLOUD_PROJECT;",
        ),
        (
            "vertex",
            {"project": "shop-123"},
            "--engine vertex has no --location; give --location, or set GOOGLE_CLOUD_REGION",
        ),
        ("docker", {"host": "x"}, "--host is an option of --engine kubeflow, not of docker; leave it out"),
        (
            "subprocess",
            {"pipeline_root": "gs://b/r"},
            "--pipeline-root is an option of --engine vertex or kubeflow, not",
        ),
        (
            "kubeflow",
            {"network": "x"},
            "--network is an option of --engine vertex, not of kubeflow; leave it out; --engine ",
        ),
        ("kubeflow", {}, "--engine kubeflow has no --host; give --host https://…"),
        (None, {"project": "shop-123"}, "--project has no effect without --engine"),
    ],
    ids=["place", "region", "docker", "subprocess", "kubeflow", "host", "none"],
)
def test_options_of_an_engine_are_refused_in_our_words(engine, options, message, monkeypatch):
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(InputError) as caught:
        engine_from(engine, **options)
    assert str(caught.value).startswith(message)
    assert "__init__" not in str(caught.value)


def test_the_project_of_the_environment_is_enough(monkeypatch):
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "shop-123")
    monkeypatch.setenv("GOOGLE_CLOUD_REGION", "europe-west1")
    assert repr(engine_from("vertex")) == "Vertex('shop-123', 'europe-west1')"


def test_without_credentials_vertex_says_how_to_get_some(tmp_path, monkeypatch):
    program = (
        "from runwide_components import Vertex\n"
        "Vertex('shop-123', 'europe-west1', pipeline_root='gs://shop/root').attach('run-1')\n"
    )
    for name in ("GOOGLE_APPLICATION_CREDENTIALS", "CLOUDSDK_API_ENDPOINT_OVERRIDES_AIPLATFORM"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    last = ran.stderr.strip().splitlines()[-1]
    assert last.startswith("runwide.errors.EngineError: this process has no credentials for Vertex AI")
    assert "gcloud auth application-default login" in last


def failing(x):
    if x % 2:
        raise ValueError(f"odd: {x}")
    return x


def test_status_tells_the_first_failed_items_and_groups_what_has_not_run(tmp_path):
    job = runwide.scatter(failing, range(600), store=str(tmp_path), shards=30)
    for index in (0, 5):
        runwide.shard(job, index, workers=1)
    about = read_job(job)
    failed = sorted(item for index in (0, 5) for item in about.items_of(index) if item % 2)
    found = runwide.status(job)
    assert (found.failed, [one.item for one in found.failures]) == (len(failed), failed[:10])
    first = failed[0]
    assert (found.failures[0].error, found.failures[0].kind) == (f"ValueError: odd: {first}", "exception")
    said = list(lines(found))
    assert f"2 of 30 shards finished, {len(failed)} items failed, not gathered" in said[2]
    assert said[3:5] == [
        "  shards 1 to 4: 80 items, nothing stored",
        "  shards 6 to 29: 480 items, nothing stored",
    ]
    assert said[5] == f"  item {first}: ValueError: odd: {first}"
    assert f"  … and {len(failed) - 10} more failed items" in said
    assert f"runwide wait '{job}'" in said[-2]
    assert f"runwide replay '{job}' {first} --pdb" in said[-1]
    shown = CliRunner().invoke(cli, ["status", job], catch_exceptions=False)
    assert shown.stdout.splitlines()[3:] == said[3:]


def test_a_report_prints_commands_that_can_be_copied(tmp_path):
    job = runwide.scatter(failing, range(4), store=str(tmp_path), shards=1)
    runwide.shard(job, 0, workers=1)
    page = runwide.report(job).html().replace("&#x27;", "'").replace("&#39;", "'")
    assert f"runwide replay '{job}' 1" in page
    assert f"runwide rerun '{job}' --function" in page
    assert "an estimate: list prices of 2026-09-23" in page


def test_options_for_cores_are_printed_as_the_count_explains_itself():
    assert str(runwide.cores(workers=1)) == runwide.cores(workers=1).explain()


def test_a_local_engine_has_no_options_of_a_cloud():
    assert isinstance(engine_from("docker"), Local)


def test_each_command_takes_the_name_of_a_job(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    store = str(tmp_path / "store")
    job = runwide.map(abs, [-1, -2], store=store, name="scores", workers=1).job
    for words, said in (
        (["status", "scores"], "1 of 1 shards finished, 0 items failed, gathered"),
        (["report", "scores", "--out", "page.html"], "No item failed."),
        (["replay", "scores", "1"], "2"),
        (["rerun", "scores"], '["0:'),
        (["shard", "scores", "0", "--workers", "1"], "shards/0000/shard.json#sha256="),
        (["gather", "scores"], "result.json#sha256="),
        (["results", "scores"], "1\n2\n"),
        (["wait", "scores"], "result.json#sha256="),
        (["clean", "scores", "--yes"], "deleted "),
    ):
        done = CliRunner().invoke(cli, [*words, "--store", store], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        assert said in done.stdout, words
    for command in ("status", "wait", "cancel", "results"):
        refused = CliRunner().invoke(cli, [command, "scores", "--store", store])
        assert "the job with the name 'scores' was removed" in str(refused.exception), command
    job = runwide.scatter(abs, [-1], store=store, shards=1)
    refused = CliRunner().invoke(cli, ["cancel", job]).exception
    assert f"runwide shard '{job}' 0" in str(refused)


def test_a_dry_run_refuses_a_function_that_is_not_there(tmp_path):
    (tmp_path / "items.json").write_text("[1]")
    items = str(tmp_path / "items.json")
    words = ["submit", "builtins:nope", items, "--components", "1", "--engine", "subprocess", "--dry-run"]
    refused = CliRunner().invoke(cli, [*words, "--store", str(tmp_path)]).exception
    assert isinstance(refused, InputError)
    assert "builtins:nope cannot be imported" in str(refused)


def test_what_has_finished_where_it_was_called_has_nothing_to_cancel(tmp_path):
    runwide.map(abs, [-1], store=tmp_path, name="one", workers=1)
    said = CliRunner().invoke(cli, ["cancel", "one", "--store", str(tmp_path)], catch_exceptions=False)
    assert said.stdout == "it has ended already\n"


@pytest.mark.parametrize("words", [["ls", "{}"], ["results", "one", "--store", "{}"]], ids=["ls", "results"])
def test_a_full_disk_behind_standard_output_is_reported_in_one_line(words, tmp_path):
    runwide.map(abs, [-1], store=tmp_path, name="one", workers=1)
    words = [word.format(tmp_path) for word in words]
    with open("/dev/full", "w") as full:  # noqa: PTH123 - a device
        ran = subprocess.run(
            [sys.executable, "-m", "runwide.cli", *words],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert ran.returncode == 1
    assert ran.stderr.splitlines()[-1] == "Error: standard output cannot be written: No space left on device"
    assert "Traceback" not in ran.stderr
