"""``runwide submit``, ``status``, ``wait``, ``cancel`` and ``results``, as they are typed.

No annotations as strings here: kfp takes those of a component as objects.
"""

import json
import os
import re
import subprocess
import sys
import time

import pytest
from click.testing import CliRunner
from kfp import compiler, dsl

from runwide.cli import cli
from runwide.errors import InputError
from runwide_components import base_image
from runwide_components.cli import estimated_requests
from runwide_components.cli_options import engine_from

pytestmark = pytest.mark.xdist_group("vertex")  # one process pays for the import of Google's client


@pytest.fixture
def shop(tmp_path, monkeypatch):
    """A folder with a module of the user's own, items, a compiled pipeline and its parameters, and a store."""
    (tmp_path / "scores.py").write_text("def score(x):\n    return 100 // x\n")
    (tmp_path / "items.jsonl").write_text("1\n2\n3\n4\n")
    (tmp_path / "bad.jsonl").write_text("1\n0\n")
    (tmp_path / "sets.csv").write_text("country,days\nfr,7\nde,14\n")

    def forecast(country: str, days: int) -> str:
        return country * (days // 7)

    compiler.Compiler().compile(
        dsl.component(base_image=base_image(), install_kfp_package=False)(forecast),
        str(tmp_path / "forecast.yaml"),
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RUNWIDE_STORE", str(tmp_path / "store"))
    monkeypatch.setenv("RUNWIDE_LOG_LEVEL", "error")
    return tmp_path


def runwide(*words: str, code: int = 0) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "runwide.cli", *words],
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr if code else done.stdout


def test_a_function_runs_over_a_file_and_its_results_are_printed(shop):
    job, result = runwide(
        "submit", "scores:score", "items.jsonl", "--components", "2", "--engine", "subprocess"
    ).splitlines()
    assert runwide("results", result) == "100\n50\n33\n25\n"
    assert runwide("results", job) == "100\n50\n33\n25\n"
    assert runwide("wait", job).strip() == result
    assert "2 of 2 shards finished" in runwide("status", job)
    assert json.loads(runwide("status", "--json", job))["items"] == 4


def test_a_failed_item_is_printed_and_fails_the_command_that_prints_results(shop):
    *_, result = runwide(
        "submit", "scores:score", "bad.jsonl", "--components", "2", "--engine", "subprocess"
    ).splitlines()
    said = runwide("results", result, code=1)
    assert said.startswith("100\n")
    assert "item 1: ZeroDivisionError" in said


def test_a_component_that_fails_permanently_gives_failed_items_with_on_error_return(shop):
    (shop / "scores.py").write_text(
        "import os, signal, time\n"
        "def score(x):\n"
        "    if x == 3:\n"
        "        os.kill(os.getppid(), signal.SIGKILL)\n"
        "        time.sleep(60)\n"
        "    return x\n"
    )
    words = ["submit", "scores:score", "items.jsonl", "--components", "4", "--engine", "subprocess"]
    *_, result = runwide(*words, "--workers", "1", "--on-error", "return").splitlines()
    said = runwide("results", result, code=1)
    assert said.startswith("1\n2\n4\n")
    # which shard has the item is drawn from the job's id
    assert re.search(r"item 2: StepFailed: shard \d ended with signal 9, 2 times", said)
    assert re.search(r"shard \d failed with exit code -9", runwide(*words, "--workers", "1", code=1))


def test_a_dry_run_says_what_would_be_submitted_and_stores_nothing(shop):
    said = runwide(
        "submit", "scores:score", "items.jsonl", "--components", "40", "--parallelism", "3", "--cpu", "8", "--dry-run",
        "--engine", "vertex", "--project", "shop", "--location", "europe-west1", "--store", "gs://shop/runs",
        "--image", "europe-west1-docker.pkg.dev/shop/runwide/runwide:1",
    )  # fmt: skip
    assert "4, up to 1 in each component" in said
    assert re.search(r"components +4 of \S+, 3 at the same time", said)
    assert "Vertex('shop', 'europe-west1'), one pipeline run of 4 tasks" in said
    assert re.search(r"CPUs +8 in each", said)
    assert "about 44 of the store, 1 submission" in said
    assert not (shop / "store").exists()


def test_a_pipeline_runs_for_each_row_of_a_file_and_what_succeeded_is_not_run_again(shop):
    words = ["submit", "forecast.yaml", "sets.csv", "--engine", "subprocess", "--max-active", "2"]
    plan = runwide(*words, "--dry-run")
    assert "2 of 2 runs would be submitted, 2 at a time" in plan
    assert "engine       Local('subprocess')" in plan
    assert "about 7 of the store, 2 submissions" in plan
    uri, *table = runwide(*words).splitlines()
    assert "2 succeeded" in table[0]
    (shop / "sets.csv").write_text("country,days\nfr,7\nde,14\nit,7\n")
    assert "1 of 3 runs would be submitted" in runwide(*words, "--dry-run")
    assert "succeeded before" in runwide(*words)
    assert "3 succeeded" in runwide("status", uri)
    assert "3 succeeded" in runwide("wait", uri)
    rows = [json.loads(line) for line in runwide("results", uri).splitlines()]
    assert sorted((row["country"], row["Output"]) for row in rows) == [
        ("de", "dede"),
        ("fr", "fr"),
        ("it", "it"),
    ]
    assert runwide("results", "--csv", uri).splitlines()[0] == "country,days,Output,run,state,seconds,error"
    assert runwide("cancel", uri).strip() == "0 runs cancelled"


def test_a_grid_comes_from_a_json_file(shop):
    (shop / "grid.json").write_text('{"country": ["fr", "de"], "days": [7, 14]}')
    said = runwide("submit", "forecast.yaml", "grid.json", "--engine", "subprocess", "--dry-run")
    assert "4 of 4 runs would be submitted" in said


@pytest.mark.gcs
def test_a_job_on_vertex_is_submitted_left_cancelled_and_taken_up(
    shop, vertex_server, gcs, tmp_path, monkeypatch
):
    monkeypatch.setenv("CLOUDSDK_API_ENDPOINT_OVERRIDES_AIPLATFORM", vertex_server.url)
    (shop / "scores.py").write_text(
        "def score(x):\n"
        "    import time\n"
        "    from pathlib import Path\n"
        f"    folder = Path({str(tmp_path)!r})\n"
        "    (folder / f'busy-{x}').touch()\n"
        "    while not (folder / 'go').exists():\n"
        "        time.sleep(0.05)\n"
        "    return x\n"
    )
    engine = [
        "--engine", "vertex", "--project", "shop", "--location", "europe-west1", "--pipeline-root", f"{gcs}/root",
    ]  # fmt: skip
    (job,) = runwide(
        "submit", "scores:score", "items.jsonl", "--components", "2", "--store", f"{gcs}/jobs", *engine
    ).splitlines()
    deadline = time.monotonic() + 200
    while len(list(tmp_path.glob("busy-*"))) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert "0 of 2 shards finished" in runwide("status", job)
    assert runwide("cancel", job, *engine).strip() == "cancelled"
    while runwide("cancel", job, *engine).strip() != "it has ended already":
        assert time.monotonic() < deadline
    (tmp_path / "go").touch()
    (result,) = runwide("wait", job, *engine).splitlines()
    assert runwide("results", result) == "1\n2\n3\n4\n"
    assert len(vertex_server.jobs) == 2


@pytest.mark.gcs
def test_the_estimate_of_requests_is_what_a_run_makes(gcs, gcs_server):
    import runwide as rw

    before = len(gcs_server.requests())
    job = rw.scatter(abs, range(100), store=gcs, shards=6)
    rw.gather(job, [rw.shard(job, index, workers=1) for index in range(6)])
    made = len(gcs_server.requests()) - before
    assert made == pytest.approx(estimated_requests(6), rel=0.25)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["submit", "scores:score", "items.jsonl"], "the number of components is missing"),
        (["submit", "scores:score", "none.jsonl", "--components", "2"], "cannot be read"),
        (["submit", "none.yaml", "sets.csv", "--dry-run"], "cannot be read as a pipeline"),
        (["submit", "forecast.yaml", "none.json", "--dry-run"], "cannot be read"),
        (["submit", "forecast.yaml", "items.jsonl", "--dry-run"], "set of parameters 0 is not a mapping"),
        (
            ["submit", "forecast.yaml", "sets.csv", "--dry-run", "--items-types", '{"days": "int"}'],
            "are for tables of items; leave them out",
        ),
        (
            ["submit", "forecast.yaml", "sets.csv", "--project", "x"],
            "--project has no effect without --engine",
        ),
        (
            [
                "submit",
                "scores:score",
                "items.jsonl",
                "--components",
                "2",
                "--engine",
                "subprocess",
                "--no-wait",
            ],
            "ends with this command",
        ),
        (["submit", "forecast.yaml", "sets.csv", "--engine", "vertex", "--project", "shop"], "location"),
        (
            [
                "submit",
                "scores:score",
                "items.jsonl",
                "--components",
                "4",
                "--dry-run",
                "--engine",
                "kubeflow",
                "--host",
                "https://kfp.example.com",
            ],
            r"names no registry from which Kubeflow can pull it; a step on Kubeflow cannot reach this store",
        ),
        (
            [
                "submit",
                "forecast.yaml",
                "sets.csv",
                "--dry-run",
                "--engine",
                "vertex",
                "--project",
                "shop",
                "--location",
                "europe-west1",
            ],
            "a step on Vertex cannot reach this store",
        ),
    ],
)
def test_invalid_input_is_one_line_and_exit_code_2(shop, words, message):
    with pytest.raises(InputError, match=message):
        CliRunner().invoke(cli, words, catch_exceptions=False, standalone_mode=False)


def test_without_a_store_nothing_is_submitted(shop, monkeypatch):
    monkeypatch.delenv("RUNWIDE_STORE")
    with pytest.raises(InputError, match="give --store"):
        CliRunner().invoke(
            cli, ["submit", "a:b", "c", "--components", "1"], catch_exceptions=False, standalone_mode=False
        )


def test_the_runtime_lists_the_commands_and_loads_neither_kfp_nor_google_for_that():
    program = (
        "import sys\nfrom click.testing import CliRunner\nfrom runwide.cli import cli\n"
        "said = CliRunner().invoke(cli, ['--help']).output\n"
        "assert all(name in said for name in ('submit', 'wait', 'cancel', 'results', 'status')), said\n"
        "sys.exit('kfp' in sys.modules or 'google.cloud.aiplatform' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], check=False, env=dict(os.environ))
    assert done.returncode == 0


def test_an_engine_is_made_from_options():
    assert engine_from(None, project=None) is None
    assert repr(engine_from("docker", project=None)) == "Local('docker')"
    found = engine_from("kubeflow", host="https://kfp.example.com", experiment="nightly")
    assert found.about()["experiment"] == "nightly"
