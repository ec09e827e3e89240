"""`Pipelines`: many runs of one pipeline, and the same call again."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from kfp import dsl

from runwide.cli.output import print_table
from runwide.errors import InputError, RunsFailed
from runwide_components import Batch, Local, PipelineRun, Pipelines, RunState, base_image


def pipeline_of(function):
    """A pipeline of one lightweight component, whose inputs and output it has."""
    return dsl.component(base_image=base_image(), install_kfp_package=False)(function)


def double(x: int) -> int:
    return 2 * x


def count_and_fail_until(x: int, folder: str, good: int) -> int:
    from pathlib import Path

    mine = Path(folder) / str(x)
    tries = int(mine.read_text()) + 1 if mine.exists() else 1
    mine.write_text(str(tries))
    if tries < good:
        raise RuntimeError(f"try {tries} of {x}")
    return tries


def wait_in(folder: str, x: int) -> int:
    import time
    from pathlib import Path

    (Path(folder) / f"busy-{x}").touch()
    deadline = time.monotonic() + 60
    while not (Path(folder) / "go").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    return x


@pytest.fixture
def pipelines(tmp_path):
    """Make batches on the local engine."""

    def make(pipeline, **options) -> Pipelines:
        given = {
            "engine": Local("subprocess"),
            "store": str(tmp_path / "store"),
            "progress": False,
            **options,
        }
        return Pipelines(pipeline, **given)

    return make


def test_each_set_of_parameters_is_a_run_and_its_outputs_a_row(pipelines):
    batch = pipelines(pipeline_of(double)).map({"x": [1, 2, 3]})
    assert [run.outputs for run in batch] == [{"Output": 2}, {"Output": 4}, {"Output": 6}]
    rows = batch.table()
    assert [(row["x"], row["Output"], row["state"]) for row in rows] == [
        (1, 2, "succeeded"),
        (2, 4, "succeeded"),
        (3, 6, "succeeded"),
    ]
    assert batch.summary() == "3 succeeded"
    assert not batch.failed
    assert rows[0]["run"].startswith("double-1-")


def test_a_run_that_succeeded_with_the_same_parameters_is_not_run_again(pipelines, tmp_path):
    pipeline, grid = pipeline_of(count_and_fail_until), {"folder": str(tmp_path), "good": 1}
    first = pipelines(pipeline).map({"x": [1, 2], **grid})
    second = pipelines(pipeline).map({"x": [1, 2, 3], **grid})
    assert [run.reused for run in first] == [False, False]
    assert [run.reused for run in second] == [True, True, False]
    assert [run.outputs["Output"] for run in second] == [1, 1, 1]
    changed = pipelines(pipeline_of(double), name=pipelines(pipeline).name).map({"x": [1]})
    assert not changed[0].reused


def test_a_failed_run_is_tried_again_as_often_as_asked(pipelines, tmp_path):
    grid = {"x": [1], "folder": str(tmp_path), "good": 3}
    batch = pipelines(pipeline_of(count_and_fail_until), retries=2).map(grid)
    assert batch[0].outputs == {"Output": 3}
    assert batch[0].attempts == 3
    assert batch[0].name.endswith("-3")


def test_only_the_failed_runs_run_when_called_again(pipelines, tmp_path):
    sets = [{"x": x, "folder": str(tmp_path), "good": 1 + x} for x in (0, 1)]
    with pytest.raises(
        RunsFailed, match=r"1 of 2 runs did not succeed: .*RuntimeError: try 1 of 1"
    ) as caught:
        pipelines(pipeline_of(count_and_fail_until)).map(sets)
    assert [run.state for run in caught.value.runs] == [RunState.SUCCEEDED, RunState.FAILED]
    batch = pipelines(pipeline_of(count_and_fail_until)).map(sets, on_error="return")
    assert [(run.outputs["Output"], run.reused, run.attempts) for run in batch] == [
        (1, True, 1),
        (2, False, 2),
    ]


def test_no_more_runs_are_active_than_allowed(pipelines, tmp_path):
    folder = tmp_path / "busy"
    folder.mkdir()

    def crowd(x: int, folder: str) -> int:
        import time
        from pathlib import Path

        mine = Path(folder) / str(x)
        mine.touch()
        time.sleep(0.3)
        present = len(list(Path(folder).iterdir()))
        mine.unlink()
        return present

    batch = pipelines(pipeline_of(crowd), max_active=1).map({"x": [1, 2], "folder": str(folder)})
    assert [run.outputs["Output"] for run in batch] == [1, 1]


def test_a_plan_says_what_would_run_and_runs_nothing(pipelines, tmp_path):
    made = pipelines(pipeline_of(double))
    made.map({"x": [1]})
    plan = made.plan({"x": [1, 2]})
    assert [(run.state, run.reused) for run in plan] == [
        (RunState.SUCCEEDED, True),
        (RunState.PENDING, False),
    ]
    assert len(made.status()) == 1


def test_the_runs_of_a_batch_share_an_exchange(pipelines):
    def meet(country: str, others: list, exchange: str) -> float:
        import runwide

        shared = runwide.Exchange(exchange)
        shared.publish(f"{country}/stats", {"mean": len(country)})
        return sum(shared.get(f"{other}/stats", wait=60)["mean"] for other in others)

    sets = [{"country": "fr", "others": ["ita"]}, {"country": "ita", "others": ["fr"]}]
    batch = pipelines(pipeline_of(meet)).map(sets)
    assert [run.outputs["Output"] for run in batch] == [3.0, 2.0]


def test_an_interrupted_batch_cancels_its_runs_and_can_be_taken_up(pipelines, tmp_path, interrupted_once):
    made = pipelines(pipeline_of(wait_in))
    grid = {"folder": str(tmp_path), "x": [1, 2]}

    both_run = lambda: len(list(tmp_path.glob("busy-*"))) == 2
    with pytest.raises(KeyboardInterrupt), interrupted_once(both_run):
        made.map(grid)
    assert made.status().summary() == "2 cancelled"
    (tmp_path / "go").touch()
    assert [run.outputs["Output"] for run in made.map(grid)] == [1, 2]


@pytest.mark.gcs
@pytest.mark.xdist_group("vertex")
def test_a_batch_whose_client_is_killed_is_attached_to_on_vertex(
    vertex, vertex_server, gcs, tmp_path, monkeypatch
):
    program = f"""
import sys
from runwide_components import Pipelines, Vertex
engine = Vertex("shop", "europe-west1", api_endpoint={vertex_server.url!r},
                pipeline_root="{gcs}/root", poll=(0.1, 0.5))
Pipelines(sys.argv[1], engine=engine, store="{gcs}/jobs", name="nightly").map(
    {{"folder": {str(tmp_path)!r}, "x": [1, 2]}})
"""
    from kfp import compiler

    path = tmp_path / "wait.yaml"
    compiler.Compiler().compile(pipeline_of(wait_in), str(path))
    client = subprocess.Popen(
        [sys.executable, "-c", program, str(path)],
        stderr=subprocess.DEVNULL,
        env={**os.environ, "TMPDIR": str(tmp_path)},  # what the kill leaves goes with the test
    )
    try:
        deadline = time.monotonic() + 90
        while len(list(tmp_path.glob("busy-*"))) < 2:
            assert time.monotonic() < deadline, client.poll()
            time.sleep(0.05)
    finally:
        os.kill(client.pid, signal.SIGKILL)
        client.wait()
    made = Pipelines(str(path), engine=vertex(), store=f"{gcs}/jobs", name="nightly", progress=False)
    assert made.status().summary() == "2 running"
    (tmp_path / "go").touch()
    batch = made.map({"folder": str(tmp_path), "x": [1, 2]})
    assert [run.outputs["Output"] for run in batch] == [1, 2]
    assert len(vertex_server.jobs) == 2
    labels = [job["labels"] for job in vertex_server.jobs.values()]
    assert sorted((one["x"], one["runwide-batch"]) for one in labels) == [("1", "nightly"), ("2", "nightly")]


@pytest.mark.gcs
@pytest.mark.xdist_group("vertex")
def test_all_runs_of_a_batch_can_be_cancelled_from_elsewhere(vertex, vertex_server, gcs, tmp_path, until):
    made = Pipelines(pipeline_of(wait_in), engine=vertex(), store=f"{gcs}/jobs", progress=False)
    found = {}

    def run():
        found["batch"] = made.map({"folder": str(tmp_path), "x": [1, 2]}, on_error="return")

    thread = threading.Thread(target=run)
    thread.start()
    until(lambda: len(list(tmp_path.glob("busy-*"))) == 2)
    assert made.cancel() == 2
    thread.join()
    assert found["batch"].summary() == "2 cancelled"


def test_the_name_of_the_pipeline_is_in_the_records_of_its_runs(pipelines):
    """A batch has another name than its pipeline; any client that reads it knows both."""
    batch = pipelines(pipeline_of(double), name="weekly")
    runs = batch.map([{"x": 1}])
    (name,) = {run.pipeline for run in [*runs, *batch.status(), *batch.plan([{"x": 1}])]}
    assert name
    assert name != "weekly"
    assert f"pipeline {name} ·" in batch.status().page()


def test_the_table_is_shown_on_a_terminal_and_as_a_page(pipelines, tmp_path, capsys):
    def echo(text: str) -> str:
        return text

    batch = pipelines(pipeline_of(echo), progress=True).map([{"text": "<script>[red]"}])
    assert "1 succeeded" in capsys.readouterr().err
    page = batch.save(tmp_path / "page.html").read_text()
    assert "&lt;script&gt;[red]" in page
    assert page.count("<script>") == 1  # the page's own
    json.dumps(batch.table())


def test_a_pipe_gets_the_runs_of_a_batch_whole_and_a_line_each(capsys):
    name, link = "n" * 200, f"https://logs/{'x' * 300}"
    failed = PipelineRun(name, {}, RunState.FAILED, error="ValueError: " + "y" * 500, attempts=1)
    print_table(Batch([failed, PipelineRun("b", {}, RunState.SUCCEEDED, logs=link)]))
    head, columns, first, second = capsys.readouterr().out.splitlines()
    assert head == "1 succeeded, 1 failed"
    assert columns.split() == ["run", "state", "attempts", "seconds"]
    assert first.split()[:3] == [name, "failed", "1"]
    assert len(first.partition("ValueError: ")[2]) == 160 - len("ValueError: ")  # as documented
    assert second.split() == ["b", "succeeded", link]
    assert [line.rstrip() for line in (columns, first, second)] == [columns, first, second]


def test_an_invalid_option_is_rejected(pipelines, monkeypatch):
    monkeypatch.delenv("RUNWIDE_STORE", raising=False)
    with pytest.raises(InputError, match="there is no store"):
        Pipelines(pipeline_of(double))
    with pytest.raises(InputError, match="max_active=0"):
        pipelines(pipeline_of(double), max_active=0)
    with pytest.raises(InputError, match="on_error='skip'"):
        pipelines(pipeline_of(double)).map([{"x": 1}], on_error="skip")
    assert Batch([]).summary() == "no runs"
    assert Path(pipelines(pipeline_of(double)).uri).name == "double"
