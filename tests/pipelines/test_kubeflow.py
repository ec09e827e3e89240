"""Kubeflow, by the real ``kfp.Client`` against a local server that speaks its API (tests/servers/kubeflow_server.py)."""

import pytest
from kfp import dsl

import runwide
from runwide.errors import EngineError, InputError, StepFailed
from runwide_components import Components, Kubeflow, RunState, base_image, fan_out
from runwide_components.engines import kubeflow as kubeflow_module
from runwide_components.engines.registry import engine_of

RUNS = "/apis/v2beta1/runs"


def pipeline_of(function):
    """A pipeline of one lightweight component, whose inputs and output it has."""
    return dsl.component(base_image=base_image(), install_kfp_package=False)(function)


def double(x: int) -> int:
    return 2 * x


def fail():
    raise RuntimeError("on purpose")


def be_busy():
    import time

    time.sleep(120)


@pytest.fixture(autouse=True)
def no_pause(monkeypatch):
    """Refusals that pass are tried again at once."""
    monkeypatch.setattr("runwide_components.engines.calls._FIRST_PAUSE", 0.01)


def test_a_run_is_submitted_and_followed_to_its_end(kubeflow, kubeflow_server, capsys):
    kubeflow_server.pending_looks = 2
    engine = kubeflow(experiment="nightly", pipeline_root="gs://bucket/root", service_account="steps")
    with engine.submit(pipeline_of(double), {"x": 21}, name="double-1") as run:
        assert run.wait(120) == {}
        assert run.state() is RunState.SUCCEEDED
    (call,) = kubeflow_server.called("POST", f"{RUNS}$")
    assert call.headers["authorization"] == "Bearer secret"
    assert call.body["display_name"] == "double-1"
    assert call.body["service_account"] == "steps"
    assert call.body["runtime_config"] == {"parameters": {"x": 21}, "pipeline_root": "gs://bucket/root"}
    (experiment,) = kubeflow_server.experiments.values()
    assert experiment["display_name"] == "nightly"
    assert run.logs == f"{kubeflow_server.url}/#/runs/details/{run.id}"
    assert not capsys.readouterr().out


def test_no_step_is_cached_however_deep(kubeflow, kubeflow_server, tmp_path):
    @dsl.pipeline(name="squares")
    def squares(numbers: list, store: str) -> str:
        return fan_out(lambda x: x * x, numbers, components=2, store=store).output

    for caching in (False, None):
        kubeflow(enable_caching=caching).submit(squares, {"numbers": [3], "store": str(tmp_path)}).wait(120)
    off, own = [call.body["pipeline_spec"] for call in kubeflow_server.called("POST", f"{RUNS}$")]

    def cached(spec):
        dags = [part["dag"] for part in (spec["root"], *spec["components"].values()) if "dag" in part]
        return [
            task.get("cachingOptions", {}).get("enableCache", False)
            for dag in dags
            for task in dag["tasks"].values()
        ]

    assert not any(cached(off))
    assert any(cached(own))


def test_a_map_runs_there(kubeflow, tmp_path):
    place = Components(3, store=str(tmp_path), engine=kubeflow())
    assert runwide.map(lambda x: x + 1, range(6), on=place) == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("status", [429, 503, None])
def test_refusals_that_pass_are_tried_again(kubeflow, kubeflow_server, status):
    kubeflow_server.fail("POST", f"{RUNS}$", status, status)
    kubeflow_server.fail("GET", f"{RUNS}/", status)
    kubeflow().submit(pipeline_of(double), {"x": 3}).wait(120)
    assert len(kubeflow_server.runs) == 1


@pytest.mark.parametrize("status", [503, None])
def test_a_submission_whose_answer_is_lost_runs_once(kubeflow, kubeflow_server, status):
    kubeflow_server.fail("POST", f"{RUNS}$", status, after=True)
    kubeflow().submit(pipeline_of(double), {"x": 3}).wait(120)
    assert len(kubeflow_server.runs) == 1


def test_a_run_of_the_same_name_is_attached_to_unless_it_failed(kubeflow, kubeflow_server):
    first = kubeflow().submit(pipeline_of(double), {"x": 3}, name="nightly")
    assert kubeflow().submit(pipeline_of(double), {"x": 3}, name="nightly").id == first.id
    failed = kubeflow().submit(pipeline_of(fail), name="failing")
    with pytest.raises(StepFailed):
        failed.wait(120)
    assert kubeflow().submit(pipeline_of(double), {"x": 3}, name="failing").id != failed.id


def test_a_failed_run_names_its_step(kubeflow):
    run = kubeflow().submit(pipeline_of(fail))
    with pytest.raises(StepFailed, match=r"fail failed: .*RuntimeError: on purpose") as caught:
        run.wait(120)
    assert caught.value.step == "fail"


def test_leaving_a_run_cancels_it(kubeflow):
    with kubeflow().submit(pipeline_of(be_busy)) as run:
        assert run.state() is RunState.RUNNING
    with pytest.raises(EngineError, match="cancelled"):
        run.wait(30)


def test_a_run_can_be_picked_up_by_its_id(kubeflow):
    submitted = kubeflow().submit(pipeline_of(double), {"x": 5})
    found = engine_of(kubeflow().about()).attach(submitted.id)
    found.wait(120)
    assert found.state() is RunState.SUCCEEDED
    with pytest.raises(EngineError, match="check the host and the id"):
        kubeflow().attach("no-such-run")


def test_a_server_that_refuses_or_is_not_there_is_named(kubeflow, monkeypatch):
    engine = kubeflow(
        token="expired", namespace="team"
    )  # with one, the client does not ask for its health first
    with pytest.raises(EngineError, match=r"refused: 401 .*give a valid token"):
        engine.submit(pipeline_of(double), {"x": 1})
    monkeypatch.setattr(kubeflow_module, "_PATIENCE", 0.01)
    with pytest.raises(EngineError, match="does not answer"):
        Kubeflow("http://127.0.0.1:9", token="x", namespace="team").submit(pipeline_of(double), {"x": 1})


def test_an_invalid_option_is_rejected():
    with pytest.raises(InputError, match="expected the URL of a server"):
        Kubeflow("pipelines.example.com")
    with pytest.raises(InputError, match="poll="):
        Kubeflow("https://pipelines.example.com", poll=(0, 1))
    with pytest.raises(InputError, match="unknown engine 'cluster'"):
        engine_of({"engine": "cluster"})
    with pytest.raises(InputError, match="no_such"):
        engine_of({"engine": "local", "no_such": 1})
