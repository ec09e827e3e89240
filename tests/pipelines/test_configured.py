"""The configuration of steps where they run: on this machine, and on the local servers of Vertex AI and Kubeflow.

No annotations as strings here: kfp takes those of a pipeline as objects.
"""

import json
from typing import NamedTuple

import pytest
from kfp import dsl

import runwide
from runwide.errors import EngineError
from runwide.job import status
from runwide_components import Components, Local, base_image, fan_out
from runwide_components.runs import last_record

pytestmark = pytest.mark.xdist_group("vertex")  # one process pays for the import of Google's client

ACCOUNT = "steps@shop.iam.gserviceaccount.com"


def functions():
    """Functions that travel by value: the image has no tests."""

    def environment(_item):
        """Return the variables of the function's process, and those that a library read when it was loaded."""
        import os
        import time

        names = ("DAY", "OMP_NUM_THREADS", "PYTHONPATH", "TZ", "API_KEY")
        return {name: os.environ.get(name) for name in names} | {"zone": time.tzname[0]}

    def read(uri):
        from pathlib import Path

        return Path(uri).read_text().split()[1]

    return environment, read


environment, read = functions()


def written(n: int, out: dsl.Output[dsl.Dataset]):
    from pathlib import Path

    Path(out.path).write_text(f'{{"n": {n}}}\n{{"n": {-n}}}\n')


def writer():
    """The step that writes a table, in the image that this test has."""
    return dsl.component(base_image=base_image(), install_kfp_package=False)(written)


def test_variables_are_set_in_every_step_and_lists_of_artifacts_are_items(local, tmp_path):
    """One run for all: the scatter step of `auto` runs items, and their results are kept."""
    env_path, write = str(tmp_path / "modules"), writer()

    @dsl.pipeline(name="summed")
    def summed(parts: dsl.Input[list[dsl.Dataset]], store: str) -> str:
        return fan_out(lambda row: row["n"], parts, components=2, store=store, items_format="jsonl").output

    @dsl.pipeline(name="configured")
    def configured(day: int, store: str) -> NamedTuple("Found", sized=str, shards=str, files=str, rows=str):
        env = {"DAY": f"d-{day}", "OMP_NUM_THREADS": 1, "PYTHONPATH": env_path, "TZ": "Asia/Tokyo"}
        sized = fan_out(environment, [1], components="auto", store=store, env=env)
        shards = fan_out(environment, [1, 2], components=2, store=store, env=env, on_error="return")
        with dsl.ParallelFor([1, 2]) as n:
            task = write(n=n)
        files = fan_out(read, dsl.Collected(task.outputs["out"]), components=2, store=store)
        rows = summed(parts=dsl.Collected(task.outputs["out"]), store=store)
        return NamedTuple("Found", sized=str, shards=str, files=str, rows=str)(
            sized.output, shards.output, files.output, rows.output
        )

    root = {"pipeline_root": tmp_path / "root"}
    found = local(**root).run(configured, day=3, store=str(tmp_path / "store"))
    sized, shards, files, rows = (runwide.load(found[name]) for name in ("sized", "shards", "files", "rows"))
    expected = {
        "DAY": "d-3",
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": env_path,
        "TZ": "Asia/Tokyo",
        "API_KEY": None,
        "zone": "JST",
    }
    assert sized == [expected]
    assert shards == [expected, expected]
    assert sorted(files) == ["1}", "2}"]
    assert sorted(rows) == [-2, -1, 1, 2]


@pytest.mark.gcs
def test_on_vertex_runs_and_custom_jobs_have_labels_account_and_variables(vertex, vertex_server, gcs):
    @dsl.pipeline(name="configured")
    def configured(day: int, store: str) -> str:
        with dsl.ParallelFor([1]) as n:
            task = writer()(n=n)
        return fan_out(
            environment, dsl.Collected(task.outputs["out"]), components=1, store=store,
            machine_type="n2-standard-8", env={"DAY": day, "TZ": 'a "b" {{c}}'},
            labels={"team": "shop"}, service_account=ACCOUNT,
        ).output  # fmt: skip

    engine = vertex(labels={"team": "engine", "stage": "test"}, service_account=ACCOUNT)
    run = engine.submit(configured, {"day": 3, "store": f"{gcs}/jobs"}, labels={"nightly": "yes"})
    (found,) = runwide.load(run.wait(120)["Output"])
    assert (found["DAY"], found["TZ"]) == ("3", 'a "b" {{c}}')
    (body,) = vertex_server.jobs.values()
    assert body["serviceAccount"] == ACCOUNT
    assert {name: body["labels"].get(name) for name in ("team", "stage", "nightly")} == {
        "team": "shop", "stage": "test", "nightly": "yes",
    }  # fmt: skip
    (job,) = vertex_server.custom_jobs
    assert (job["labels"], job["jobSpec"]["serviceAccount"]) == ({"team": "shop"}, ACCOUNT)


def test_on_kubeflow_pods_have_labels_and_places_and_steps_have_secrets(kubeflow, kubeflow_server, tmp_path):
    kubeflow_server.secrets["shop", "api-key"] = "hunter2"
    place = Components(
        2, store=str(tmp_path), engine=kubeflow(), labels={"Team": "shop"}, service_account="steps", env={"DAY": 3},
        secrets={"API_KEY": ("shop", "api-key")}, node_selector={"pool": "big"}, tolerations=[{"operator": "Exists"}],
    )  # fmt: skip
    found = runwide.map(environment, [1, 2], on=place)
    assert [(one["DAY"], one["API_KEY"]) for one in found] == [("3", "hunter2")] * 2

    @dsl.pipeline(name="labelled")
    def labelled(store: str):
        with dsl.ParallelFor([1, 2]) as n:
            task = writer()(n=n)
        fan_out(read, dsl.Collected(task.outputs["out"]), components=1, store=store, labels={"Team": "shop"})

    kubeflow(enable_caching=None).submit(labelled, {"store": str(tmp_path)}).wait(120)
    first, second = [call.body for call in kubeflow_server.called("POST", "/apis/v2beta1/runs$")]
    assert first["service_account"] == "steps"
    (pod,) = pods(first).values()
    assert pod["nodeSelector"] == {"labels": {"pool": "big"}}
    assert pod["tolerations"] == [{"operator": "Exists"}]
    assert pod["podMetadata"] == {"labels": {"Team": "shop"}}
    assert {name: pod["podMetadata"]["labels"] for name, pod in pods(second).items()} == {
        f"exec-{verb}": {"Team": "shop"} for verb in ("gather", "scatter", "shard")
    }
    assert "hunter2" not in json.dumps(first)


def pods(body):
    return body["pipeline_spec"]["platform_spec"]["platforms"]["kubernetes"]["deploymentSpec"]["executors"]


def lost(tmp_path, **options) -> str:
    """A job whose run was cancelled before its shards had finished, so that attaching runs them."""
    place = Components(1, store=str(tmp_path), engine=Local("subprocess"), **options)
    job, run = place.submit(environment, [1])
    run.leave()
    assert not status(job).shards[0].finished
    return job


def test_shards_that_run_again_have_the_same_configuration_if_the_record_is_signed(tmp_path, monkeypatch):
    monkeypatch.setenv("RUNWIDE_SIGNING_KEY", "k" * 32)
    job = lost(tmp_path, env={"DAY": "3"}, labels={"team": "shop"})
    found = last_record(job)
    assert found.options.configuration.env == (("DAY", "3"),)
    assert runwide.attach(job)[0]["DAY"] == "3"


def test_of_an_unsigned_record_no_configuration_is_trusted(tmp_path, monkeypatch):
    monkeypatch.setenv("RUNWIDE_COMPRESSION", "zstd")
    job = lost(tmp_path, env={"LD_PRELOAD": "/tmp/planted.so"}, service_account="root")
    with pytest.raises(
        EngineError, match=r"the record of their env=, service_account= is not signed, so it is not trusted"
    ):
        runwide.attach(job)
    needing = lost(tmp_path / "needing", requirements=["click>=8"])
    with pytest.raises(EngineError, match="the record of their requirements= is not signed"):
        runwide.attach(needing)
    assert runwide.attach(needing, requirements=["click>=8"])[0]["DAY"] is None
    assert last_record(job).options.configuration.env == ()
    plain = lost(tmp_path / "plain")  # what travels by itself is no option
    assert runwide.attach(plain)[0]["DAY"] is None
    assert last_record(plain).about["options"]["configuration"]["env"] == [["RUNWIDE_COMPRESSION", "zstd"]]
