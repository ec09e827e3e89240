"""Engines read compiled pipelines, keep a quota of calls, and repeat calls."""

# No annotations as strings here: kfp takes those of a pipeline as objects.
import pytest
from google.api_core.retry import retry_base
from google.cloud import aiplatform_v1
from kfp import dsl

from runwide.cli.encoding import written
from runwide.errors import InputError
from runwide.pickling import reproducible
from runwide_components import base_image, fan_out
from runwide_components._fan_out import shards_pipeline
from runwide_components.engines import spec, vertex
from runwide_components.engines.calls import Quota, retried
from runwide_components.engines.fitting import stores_of
from runwide_components.engines.spec import Source


@dsl.component(base_image=base_image(), install_kfp_package=False)
def one() -> int:
    return 1


def test_the_maker_of_an_output_is_found_through_boxes_and_loops():
    @dsl.pipeline(name="p")
    def squares(numbers: list) -> str:
        return fan_out(lambda x: x, numbers, components=2, store="gs://b/runs").output

    assert spec.sources(squares.pipeline_spec) == {
        "Output": Source(("fan-out-lambda", "shards", "gather"), "result", many=False)
    }
    assert spec.sources(shards_pipeline("image:1").pipeline_spec) == {
        "Output": Source(("for-loop-1", "shard"), "manifest", many=True)
    }


def test_an_output_of_two_alternatives_has_no_single_maker():
    @dsl.pipeline(name="p")
    def either(go: bool) -> int:
        with dsl.If(go == True):  # noqa: E712 - how kfp writes conditions
            first = one()
        with dsl.Else():
            second = one()
        return dsl.OneOf(first.output, second.output)

    assert spec.sources(either.pipeline_spec) == {}


def test_the_stores_of_a_pipeline_are_found():
    @dsl.pipeline(name="p")
    def two(store: str = "gs://b/default"):
        fan_out(abs, [1], components=1, store=store)
        fan_out(abs, [1], components=1, store="gs://b/fixed")

    found = set(stores_of(two.pipeline_spec, {"store": "gs://b/given"}))
    assert {"gs://b/given", "gs://b/fixed"} <= found


def test_a_file_that_is_not_a_pipeline_is_rejected(tmp_path):
    (tmp_path / "not.yaml").write_text("a: 1")
    with pytest.raises(InputError, match="cannot be read as a pipeline"):
        spec.loaded(tmp_path / "not.yaml")


class Clock:
    """A clock that a sleep moves on."""

    def __init__(self):
        self.now = 0.0
        self.sleeps = []

    def __call__(self):
        return self.now

    def sleep(self, seconds):
        self.sleeps.append(seconds)
        self.now += seconds


def test_a_quota_holds_in_every_window():
    clock, taken = Clock(), []
    quota = Quota(3, seconds=60, clock=clock, sleep=clock.sleep)
    for pause in (0, 10, 10, 0, 0, 50, 0):
        clock.now += pause
        quota.take()
        taken.append(clock.now)
    for start in taken:
        assert sum(start <= moment < start + 60 for moment in taken) <= 3


def test_a_call_is_repeated_after_errors_that_pass_until_patience_ends(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(retry_base.time, "monotonic", clock)
    monkeypatch.setattr(retry_base.time, "sleep", clock.sleep)

    def fail():
        raise ConnectionError("away")

    with pytest.raises(ConnectionError):
        retried(fail, transient=lambda _: True, patience=300)
    assert 100 < clock.now <= 300
    assert len(clock.sleeps) >= 6
    assert max(clock.sleeps) <= 60

    answers = iter([ConnectionError(), ConnectionError(), 3])

    def answer():
        one = next(answers)
        if isinstance(one, Exception):
            raise one
        return one

    assert retried(answer, transient=lambda _: True, patience=300) == 3


def test_an_error_that_does_not_pass_is_raised_at_once():
    calls = []

    def fail():
        calls.append(1)
        raise KeyError("x")

    with pytest.raises(KeyError):
        retried(fail, transient=lambda error: isinstance(error, OSError), patience=100)
    assert calls == [1]


def test_a_run_on_vertex_is_the_same_whatever_lines_its_function_is_on():
    def fingerprint(source):
        text = written(reproducible.function(eval(source)))
        inputs = {"parameters": {"function": {"runtimeValue": {"constant": text}}}}
        spec = {"root": {"dag": {"tasks": {"scatter": {"inputs": inputs}}}}}
        return vertex._fingerprint(aiplatform_v1.PipelineJob(pipeline_spec=spec))

    assert fingerprint("lambda x: x") == fingerprint("\n\nlambda x: x")
    assert fingerprint("lambda x: x") != fingerprint("lambda x: -x")
