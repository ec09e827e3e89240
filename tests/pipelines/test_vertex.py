"""Vertex, by Google's own client against a local server that speaks its API (tests/servers/vertex_server.py)."""

import re

import pytest
from kfp import compiler, dsl

import runwide
from runwide.errors import EngineError, InputError, StepFailed
from runwide.store import open_store
from runwide_components import Components, Local, Pipelines, RunState, Vertex, base_image, fan_out
from runwide_components.engines import vertex as vertex_module
from runwide_components.engines import vertex_run
from runwide_components.engines.registry import engine_of

pytestmark = [pytest.mark.gcs, pytest.mark.xdist_group("vertex")]  # one process pays for the import
JOBS = "/pipelineJobs"


def pipeline_of(function):
    """A pipeline of one lightweight component, whose inputs and output it has."""
    return dsl.component(base_image=base_image(), install_kfp_package=False)(function)


def double(x: int) -> int:
    return 2 * x


def fail() -> int:
    raise RuntimeError("on purpose")


def be_busy():
    import time

    time.sleep(120)


@pytest.fixture(autouse=True)
def no_pause(monkeypatch):
    """Refusals that pass are tried again at once."""
    monkeypatch.setattr("runwide_components.engines.calls._FIRST_PAUSE", 0.01)


def test_a_run_is_submitted_followed_and_its_outputs_read(vertex, vertex_server):
    vertex_server.pending_looks = 2
    with vertex().submit(pipeline_of(double), {"x": 21}) as run:
        assert run.state() is RunState.PENDING
        assert run.wait(60) == {"Output": 42}
        assert run.state() is RunState.SUCCEEDED
    assert "pipelines/runs/double-" in run.logs
    assert not vertex_server.called("POST", ":cancel")


def test_the_options_of_the_engine_are_in_the_request(vertex, vertex_server):
    engine = vertex(
        service_account="steps@shop.iam.gserviceaccount.com",
        network="projects/12345/global/networks/main",
        labels={"team": "prices"},
        failure_policy="fast",
    )
    engine.submit(pipeline_of(double), {"x": 1}, name="double-1", labels={"country": "fr"}).wait(60)
    (call,) = vertex_server.called("POST", JOBS)
    assert call.path == "/v1/projects/shop/locations/europe-west1/pipelineJobs"
    assert call.query["pipelineJobId"] == "double-1"
    body = call.body
    assert body["displayName"] == "double-1"
    assert body["serviceAccount"] == "steps@shop.iam.gserviceaccount.com"
    assert body["network"] == "projects/12345/global/networks/main"
    assert {"team": "prices", "country": "fr"}.items() <= body["labels"].items()
    assert body["runtimeConfig"]["failurePolicy"] in ("PIPELINE_FAILURE_POLICY_FAIL_FAST", 2)
    assert body["runtimeConfig"]["parameterValues"] == {"x": 1}
    tasks = [task for part in (body["pipelineSpec"]["root"], *body["pipelineSpec"]["components"].values())
             for task in part.get("dag", {}).get("tasks", {}).values()]  # fmt: skip
    assert tasks
    assert not any(task["cachingOptions"].get("enableCache", False) for task in tasks)


def test_caching_is_the_pipelines_own_when_so_wanted(vertex, vertex_server):
    vertex(enable_caching=None).submit(pipeline_of(double), {"x": 1}).wait(60)
    (call,) = vertex_server.called("POST", JOBS)
    assert call.body["pipelineSpec"]["root"]["dag"]["tasks"]["double"]["cachingOptions"] == {
        "enableCache": True
    }


def test_a_fan_out_gives_its_results(vertex, gcs):
    @dsl.pipeline(name="squares")
    def squares(numbers: list, store: str) -> str:
        return fan_out(lambda x: x * x, numbers, components=3, store=store).output

    run = vertex().submit(squares, {"numbers": [1, 2, 3, 4], "store": f"{gcs}/jobs"})
    assert runwide.load(run.wait(120)["Output"]) == [1, 4, 9, 16]


def test_a_map_runs_there_with_the_digests_of_its_shards_through_the_pipeline(vertex, gcs, vertex_server):
    place = Components(3, store=f"{gcs}/jobs", engine=vertex())
    assert runwide.map(lambda x: x + 1, range(6), on=place) == [1, 2, 3, 4, 5, 6]
    (name,) = vertex_server.jobs
    outputs = vertex().attach(name).wait(10)["Output"]
    assert sorted(one.partition(":")[0] for one in outputs) == ["0", "1", "2"]


def test_a_pipeline_is_read_from_where_it_was_published(vertex, vertex_server, gcs, tmp_path):
    compiler.Compiler().compile(pipeline_of(double), str(tmp_path / "double.yaml"))
    with open_store(gcs) as store:
        store.create("published/double.yaml", (tmp_path / "double.yaml").read_bytes())
    where = f"{gcs}/published/double.yaml"
    assert vertex().submit(where, {"x": 4}).wait(60) == {"Output": 8}
    batch = Pipelines(where, engine=vertex(), store=f"{gcs}/runs", progress=False).map({"x": [1, 2]})
    assert [run.outputs["Output"] for run in batch] == [2, 4]
    with pytest.raises(InputError, match="only Vertex reads a pipeline from a registry"):
        Local("subprocess").submit(where, {"x": 4})


@pytest.mark.parametrize("status", [429, 500, 503, None])
def test_refusals_that_pass_are_tried_again(vertex, vertex_server, status):
    vertex_server.fail("POST", f"{JOBS}$", status, status)
    vertex_server.fail("GET", JOBS, status)
    run = vertex().submit(pipeline_of(double), {"x": 3}, name="double-3")
    assert run.wait(60) == {"Output": 6}
    assert len(vertex_server.jobs) == 1
    assert len(vertex_server.called("POST", f"{JOBS}$")) == 3


@pytest.mark.parametrize("status", [503, None])
def test_a_submission_whose_answer_is_lost_runs_once(vertex, vertex_server, status):
    vertex_server.fail("POST", f"{JOBS}$", status, after=True)
    assert vertex().submit(pipeline_of(double), {"x": 3}, name="double-3").wait(60) == {"Output": 6}
    assert len(vertex_server.called("POST", f"{JOBS}$")) == 2
    assert len(vertex_server.executions) == 1


def test_a_run_of_the_same_name_is_attached_to_only_if_it_is_the_same(vertex, vertex_server):
    first = vertex().submit(pipeline_of(double), {"x": 3}, name="nightly")
    again = vertex().submit(pipeline_of(double), {"x": 3}, name="nightly")
    assert first.id == again.id
    assert again.wait(60) == {"Output": 6}
    with pytest.raises(
        EngineError, match="a run of this name exists, with another pipeline or other arguments"
    ):
        vertex().submit(pipeline_of(double), {"x": 4}, name="nightly")


def test_the_key_of_a_run_does_not_tell_it_from_the_same_run(vertex, vertex_server):
    @dsl.component(base_image="python:3.11", install_kfp_package=False)
    def length(run_key: str) -> int:
        return len(run_key)

    first = vertex().submit(length, {"run_key": "one"}, name="keyed")
    assert vertex().submit(length, {"run_key": "another"}, name="keyed").id == first.id
    assert len(vertex_server.jobs) == 1
    first.cancel()


def test_a_permanent_error_says_what_to_do(vertex, vertex_server):
    vertex_server.fail("POST", f"{JOBS}$", 403)
    with pytest.raises(
        EngineError, match=r"Vertex refused: .*injected.*; give this account the role Vertex AI User"
    ):
        vertex().submit(pipeline_of(double), {"x": 3})
    assert len(vertex_server.called("POST", f"{JOBS}$")) == 1


def test_a_service_that_stays_away_is_given_up(vertex, vertex_server, monkeypatch):
    monkeypatch.setattr(vertex_run, "PATIENCE", 0.05)
    vertex_server.fail("POST", f"{JOBS}$", *[503] * 100)
    with pytest.raises(EngineError, match="Vertex refused"):
        vertex().submit(pipeline_of(double), {"x": 3})


def test_a_failed_run_names_its_step(vertex):
    run = vertex().submit(pipeline_of(fail))
    with pytest.raises(StepFailed, match=r"fail failed: .*RuntimeError: on purpose") as caught:
        run.wait(60)
    assert caught.value.step == "fail"
    assert "console.cloud.google.com" in caught.value.hint
    assert run.state() is RunState.FAILED


def test_leaving_a_run_cancels_it(vertex, vertex_server):
    with vertex().submit(pipeline_of(be_busy)) as run:
        with pytest.raises(TimeoutError, match="has not ended"):
            run.wait(0.2)
        assert run.state() is RunState.RUNNING
    with pytest.raises(EngineError, match="cancelled"):
        run.wait(30)
    assert run.state() is RunState.CANCELLED
    assert len(vertex_server.called("POST", ":cancel")) == 1
    run.cancel()  # too late, and no error


def test_a_run_can_be_picked_up_by_its_id(vertex):
    submitted = vertex().submit(pipeline_of(double), {"x": 5}, name="double-5")
    engine = vertex()
    assert engine.attach("double-5").wait(60) == {"Output": 10}
    assert engine.attach(submitted.id).id == submitted.id
    with pytest.raises(EngineError, match="check the project, the region"):
        engine.attach("double-6")


def test_the_same_engine_is_made_from_its_description(vertex):
    engine = vertex(labels={"a": "b"}, failure_policy="slow")
    assert engine_of(engine.about()).about() == engine.about()


def test_no_more_runs_are_submitted_than_the_quota_allows(vertex, monkeypatch):
    taken = []
    monkeypatch.setattr(vertex_module.Quota, "take", lambda _: taken.append(1))
    vertex().submit(pipeline_of(double), {"x": 1}).wait(60)
    assert len(taken) == 1
    (quota,) = [one for place, one in vertex_module._quotas.items() if place == ("shop", "europe-west1")]
    assert quota._taken.maxlen == 60


def test_a_store_that_only_this_machine_sees_is_refused(vertex, tmp_path):
    place = Components(2, store=str(tmp_path), engine=vertex())
    with pytest.raises(InputError, match="a step on Vertex cannot reach this store"):
        runwide.map(abs, [1, 2], on=place)


def test_an_invalid_option_is_rejected(vertex, tmp_path):
    compiler.Compiler().compile(pipeline_of(double), str(tmp_path / "double.yaml"))
    with pytest.raises(InputError, match="rejects the pipeline or its arguments"):
        vertex().submit(tmp_path / "double.yaml", {"no_such": 1})
    with pytest.raises(InputError, match=r"invalid name .* of a run on Vertex"):
        vertex().submit(tmp_path / "double.yaml", {"x": 1}, name="Not A Name")
    with pytest.raises(InputError, match="cannot be read as a pipeline"):
        vertex().submit(tmp_path / "none.yaml")
    for options in ({"failure_policy": "no"}, {"poll": (0, 1)}, {"pipeline_root": "/tmp"}):
        with pytest.raises(InputError, match=re.compile("invalid|Cloud Storage")):
            Vertex("shop", "europe-west1", **options)
