"""The page and the numbers of a fan-out, as artifacts. No annotations as strings: kfp takes them as objects."""

import json
from pathlib import Path
from typing import NamedTuple

import pytest
from kfp import dsl

import runwide
from runwide_components import Local, base_image, fan_out
from runwide_components.engines.registry import engine_of


class Shown(NamedTuple):
    result: str
    report: dsl.HTML
    metrics: dsl.Metrics


def shown_in(image: str | None):
    @dsl.pipeline(name="shown")
    def shown(numbers: list, store: str) -> Shown:
        task = fan_out(lambda x: 12 // x, numbers, components=2, store=store, on_error="return", image=image)
        return Shown(task.output, task.report, task.metrics)

    return shown


shown = shown_in(
    "docker.io/shop/runwide:1"
)  # for engines that refuse one without a registry; nothing here runs in it


def test_the_page_and_the_numbers_reach_the_components_behind_it(local, tmp_path):
    def look(report: dsl.Input[dsl.HTML], metrics: dsl.Input[dsl.Metrics]) -> dict:
        from pathlib import Path

        return {"page": Path(report.path).read_text(), "metadata": metrics.metadata}

    look = dsl.component(base_image=base_image(), install_kfp_package=False)(look)

    @dsl.pipeline(name="looked-at")
    def looked_at(store: str) -> dict:
        task = fan_out(lambda x: 12 // x, [1, 2, 0], components=2, store=store, on_error="return")
        return look(report=task.report, metrics=task.metrics).output

    found = local().run(looked_at, store=str(tmp_path / "store"))["Output"]
    assert found["page"].startswith("<!doctype html>")
    assert "ZeroDivisionError" in found["page"]
    numbers = found["metadata"]
    assert (numbers["items"], numbers["results"], numbers["failed_items"]) == (3, 2, 1)
    assert numbers["cpu_seconds"] > 0


def test_the_numbers_are_those_of_the_report_of_the_job(tmp_path):
    outputs = Local("subprocess").run(shown, numbers=[3, 4, 6], store=str(tmp_path / "store"))
    assert runwide.load(outputs["result"]) == [4, 3, 2]
    (job,) = (tmp_path / "store").glob("*/job.json")
    again = runwide.report(reference(job)).metrics
    told = outputs["metrics"]["metadata"]
    # the gather itself reads from the store, which is no part of the job
    assert {name: told[name] for name in ("items", "results", "cpu_seconds", "longest_task_seconds")} == {
        name: pytest.approx(again[name])
        for name in ("items", "results", "cpu_seconds", "longest_task_seconds")
    }


def reference(job) -> str:
    from hashlib import sha256

    return f"{job.as_uri()}#sha256={sha256(job.read_bytes()).hexdigest()}"


@pytest.mark.gcs
@pytest.mark.xdist_group("vertex")
def test_vertex_has_both_among_the_outputs_of_the_task(vertex, vertex_server, gcs):
    run = vertex().submit(shown, {"numbers": [1, 2], "store": f"{gcs}/jobs"})
    outputs = run.wait(120)
    assert runwide.load(outputs["result"]) == [12, 6]
    assert outputs["metrics"]["metadata"]["items"] == 2
    assert outputs["report"]["uri"].endswith("/report")
    tasks = run.resource().job_detail.task_details
    (gather,) = [task for task in tasks if task.task_name == "gather"]
    titles = {name: listed.artifacts[0].schema_title for name, listed in gather.outputs.items()}
    assert titles == {"report": "system.HTML", "metrics": "system.Metrics"}


def test_kubeflow_has_both_among_the_outputs_of_the_task(kubeflow, kubeflow_server, tmp_path):
    run = kubeflow().submit(shown, {"numbers": [1, 2], "store": str(tmp_path / "store")})
    run.wait(120)
    tasks = kubeflow().client.get_run(run.id).run_details.task_details
    (gather,) = [task for task in tasks if task.display_name == "gather"]
    ids = {name: listed.artifact_ids[0] for name, listed in gather.outputs.items()}
    assert set(ids) == {"report", "metrics"}
    assert kubeflow_server.artifacts[ids["metrics"]]["metadata"]["items"] == 2


def test_a_fan_out_without_a_report_has_none(tmp_path):
    @dsl.pipeline(name="plain")
    def plain(store: str) -> str:
        task = fan_out(lambda x: -x, [1], components=1, store=store, report=False)
        assert set(task.outputs) == {"result"}
        return task.output

    assert runwide.load(Local("subprocess").run(plain, store=str(tmp_path / "store"))["Output"]) == [-1]


def test_a_folder_of_its_own_keeps_the_artifacts_of_a_run(local, tmp_path):
    engine = local(pipeline_root=tmp_path / "root")
    outputs = engine.run(shown_in(None), numbers=[1], store=str(tmp_path / "store"))
    page = Path(outputs["report"]["uri"])
    assert page.is_relative_to(tmp_path / "root")
    assert page.read_text().startswith("<!doctype html>")
    assert json.loads(Path(outputs["metrics"]["uri"]).read_text())["items"] == 1
    assert engine_of(engine.about()).about() == engine.about()
