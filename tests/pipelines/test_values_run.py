"""Values of every kind through whole runs: of the program, of the pipeline, and of texts that hold both.

No annotations as strings: kfp takes them as objects.
"""

# ruff: noqa: UP006, UP035, UP045 - as users of kfp spell types
import datetime as dt
import decimal
import enum
import hashlib
import math
import re
from dataclasses import dataclass
from typing import Any, Dict, List, NamedTuple, Optional

import any_value
import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from kfp import dsl

import runwide
from runwide.errors import InputError
from runwide.store import open_store
from runwide_components import Local, Pipelines, fan_out


class Colour(enum.Enum):
    RED = 1


class Point(NamedTuple):
    x: Any
    y: Any


@dataclass(frozen=True)
class Row:
    name: Any
    many: Any = ()


ITEMS = [
    (1, {2, 3}), Point(1, float("inf")), Row({1: "a", (1, 2): None}), decimal.Decimal("1.50"), dt.date(2026, 11, 24),
    np.arange(3), np.float32(0.5), b"\x00\xff", Colour.RED, [1, 1.0, True, None], "{{ x }}", 2**60, {"a": [()]}, 1j,
]  # fmt: skip


IMAGE = "docker.io/shop/runwide:1"  # for engines that refuse one without a registry; nothing here runs in it
CHEAP = {"components": 1, "workers": 1, "report": False, "image": IMAGE}  # one process less in each step
LOOP = [{"x": 1, "y": "a", "z": [1.0]}, {"x": "b", "y": 2.5, "z": [2.0, 0.5]}]


def take(item, **constants):
    return item, constants


def described(value):
    """A value with the types of all that is in it."""
    return repr(value), type(value).__name__


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def make(whole: int) -> NamedTuple(
    "Made", [("floats", List[float]), ("table", Dict[str, List[int]]), ("number", int)]
):
    return [float(whole), 2.5], {"a": [whole]}, whole


@dsl.pipeline(name="values")
def values(  # noqa: PLR0917 - how kfp takes them
    base: str, n: int, share: float, flag: bool, many: list, floats: List[float], table: Dict[str, List[int]],
    left_out: Optional[int] = None, given: Optional[float] = 2.0,
):  # fmt: skip
    of_program = {"fixed": Row((1,), {2}), "nan": float("nan")}
    of_pipeline = {
        "n": n, "share": share, "flag": flag, "many": many, "floats": floats, "table": table, "left_out": left_out,
        "given": given,
    }  # fmt: skip
    mixed = {"text": f"{n}-{share}-{flag}", "deep": [(n, Row(f"{n}", [share]))], "row": Point(flag, "x")}
    job = f"{dsl.PIPELINE_JOB_ID_PLACEHOLDER}"
    out = make(whole=n)
    made = {
        "floats_out": out.outputs["floats"],
        "table_out": out.outputs["table"],
        "number_out": out.outputs["number"],
    }
    fan_out(
        take, [*ITEMS, Row(f"n={n}", (n, out.outputs["floats"]))], store=f"{base}/runs-{n}",
        constants={**of_program, **of_pipeline, **mixed, **made, "job": f"job {job}", "made": f"{out.outputs['number']}!"},
        **CHEAP,
    )  # fmt: skip
    with dsl.ParallelFor(LOOP) as one:
        constants = {"x": one.x, "y": one.y, "t": f"{one.x}{n}"}
        fan_out(take, one.z, store=f"{base}/loop", constants=constants, **CHEAP)


ARGUMENTS: dict[str, Any] = {
    "n": 3, "share": 3.0, "flag": True, "many": ["3", 3, 2.5, [1]], "floats": [1.0, 2.5], "table": {"a": [1, 2]},
}  # fmt: skip


def results_in(folder):
    """The results of all jobs in a folder of a store; an engine need not tell them."""
    with open_store(folder) as store:
        names = [info.name for info in store.list("") if re.fullmatch(r"[^/]+/result[^/]*\.json", info.name)]
        found = [(name, hashlib.sha256(bytes(store.read(name))).hexdigest()) for name in names]
    return [runwide.load(f"{folder}/{name}#sha256={digest}") for name, digest in found]


def check(base):
    """Hold the results against what went in."""
    (results,) = results_in(f"{base}/runs-3")
    items, constants = [item for item, _ in results], results[0][1]
    assert list(map(described, items)) == list(map(described, [*ITEMS, Row("n=3", (3, [3.0, 2.5]))]))
    job = constants.pop("job")
    assert job.startswith("job ")
    assert "{{" not in job
    assert math.isnan(constants.pop("nan"))
    expected = {
        "fixed": Row((1,), {2}), **ARGUMENTS, "given": 2.0, "text": "3-3.0-True", "deep": [(3, Row("3", [3.0]))],
        "row": Point(True, "x"),
        "floats_out": [3.0, 2.5], "table_out": {"a": [3]}, "number_out": 3, "made": "3!",
    }  # fmt: skip
    assert {name: described(value) for name, value in constants.items()} == {
        name: described(value) for name, value in expected.items()
    }
    looped = sorted(results_in(f"{base}/loop"), key=len)
    assert repr(looped) == repr(
        [[(z, {"x": one["x"], "y": one["y"], "t": f"{one['x']}3"}) for z in one["z"]] for one in LOOP]
    )


def test_they_arrive_on_this_machine(tmp_path):
    Local("subprocess").run(values, base=str(tmp_path), **ARGUMENTS)
    check(str(tmp_path))


@pytest.mark.gcs
@pytest.mark.xdist_group("vertex")
def test_they_arrive_on_vertex(vertex, gcs):
    vertex().submit(values, {"base": f"{gcs}/jobs", **ARGUMENTS}).wait(300)
    check(f"{gcs}/jobs")


def test_they_arrive_on_kubeflow(kubeflow, tmp_path):
    kubeflow().submit(values, {"base": str(tmp_path), **ARGUMENTS}).wait(300)
    check(str(tmp_path))


@settings(max_examples=2, deadline=None, phases=[Phase.generate])  # the first is the simplest one
@given(
    st.lists(any_value.values, min_size=20, max_size=40),
    st.dictionaries(st.text("abc", min_size=1), any_value.values),
)
def test_whatever_is_drawn_arrives_on_this_machine(tmp_path_factory, items, constants):
    @dsl.pipeline(name="drawn")
    def drawn(store: str):
        fan_out(take, items, store=store, constants=constants, **CHEAP)

    store = str(tmp_path_factory.mktemp("store"))
    Local("subprocess").run(drawn, store=store)
    (found,) = results_in(store)
    assert any_value.same(list(found), [(item, constants) for item in items])


@dsl.pipeline(name="cached")
def cached(store: str):
    make(whole=3)
    fan_out(take, [1, 2], store=store, **CHEAP)


def runs_although_all_is_cached(engine, server, store):
    """A second run with the same arguments, after the store was cleaned, finds no job that is gone."""
    for _ in range(2):
        engine.submit(cached, {"store": store}).wait(300)
        (found,) = results_in(store)
        assert found == [(1, {}), (2, {})]
        with open_store(store) as opened:
            for info in list(opened.list("")):
                opened.delete(info.name)
    assert server.hits == ["exec-make"]


@pytest.mark.gcs
@pytest.mark.xdist_group("vertex")
def test_a_scatter_is_not_cached_on_vertex_though_all_else_is(vertex, vertex_server, gcs):
    runs_although_all_is_cached(vertex(enable_caching=True), vertex_server, f"{gcs}/jobs")
    tasks = [
        task
        for call in vertex_server.called("POST", "/pipelineJobs")
        for part in call.body["pipelineSpec"]["components"].values()
        for task in part.get("dag", {}).get("tasks", {}).values()
    ]
    assert tasks
    assert all(task["cachingOptions"]["enableCache"] for task in tasks)


def test_a_scatter_is_not_cached_on_kubeflow_though_all_else_is(kubeflow, kubeflow_server, tmp_path):
    runs_although_all_is_cached(kubeflow(enable_caching=True), kubeflow_server, str(tmp_path))


def many(size):
    return ["x" * 1000] * (size // 1000)


@dsl.pipeline(name="long")
def long(items: list, store: str):
    fan_out(take, items, components=1, store=store)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (
            {"items": many(140_000)},
            "items takes 140.* bytes: an argument of a step has at most 131071; write the value to a table",
        ),
        (
            {"items": [1, {"a": 2**53}]},
            r"items\[1\]\['a'\] is 9007199254740992, and engines keep whole numbers exactly",
        ),
    ],
)
def test_what_does_not_survive_is_refused_before_it_is_submitted(arguments, says, tmp_path):
    for submit in (
        lambda given: Local("subprocess").submit(long, given),
        lambda given: Pipelines(long, engine=Local("subprocess"), store=str(tmp_path), progress=False).map(
            [given]
        ),
    ):
        with pytest.raises(InputError, match=says):
            submit({"store": str(tmp_path), **arguments})
    assert not list(tmp_path.glob("batches/*/*/*"))


def test_so_is_a_default_of_the_pipeline():
    @dsl.pipeline(name="large")
    def large(n: int = 2**53 + 1, share: float = 2.0**60):
        fan_out(take, [1], components=1, store="gs://bucket/runs", constants={"n": n, "share": share})

    with pytest.raises(InputError, match=r"n is 9007199254740992, and engines keep whole numbers exactly"):
        Local("subprocess").submit(large)


def test_kubeflow_refuses_it_too(kubeflow, kubeflow_server, tmp_path):
    with pytest.raises(InputError, match="an argument of a step has at most"):
        kubeflow().submit(long, {"items": many(140_000), "store": str(tmp_path)})
    assert not kubeflow_server.runs


@pytest.mark.gcs
@pytest.mark.xdist_group("vertex")
def test_vertex_refuses_it_too(vertex, vertex_server, gcs):
    with pytest.raises(InputError, match="an argument of a step has at most"):
        vertex().submit(long, {"items": many(140_000), "store": f"{gcs}/jobs"})
    assert not vertex_server.jobs
