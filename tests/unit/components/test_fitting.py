"""Vertex and Kubeflow reject runs before anything is written or submitted: these tests have no server.

No annotations as strings here: kfp takes those of a pipeline as objects.
"""

import pytest
from kfp import compiler, dsl

import runwide
from runwide.errors import InputError
from runwide_components import Components, Kubeflow, Pipelines, Vertex, fan_out
from runwide_components.engines.fitting import has_registry

GOOD = "europe-west1-docker.pkg.dev/shop/runwide/runwide:1"
ENGINES = {
    "Vertex": lambda: Vertex("shop", "europe-west1", api_endpoint="http://127.0.0.1:9"),
    "Kubeflow": lambda: Kubeflow("http://127.0.0.1:9", token="x", namespace="team"),
}


@pytest.fixture(params=ENGINES)
def engine(request):
    return ENGINES[request.param]()


@pytest.fixture(autouse=True)
def of_no_environment(monkeypatch):
    for name in (
        "RUNWIDE_IMAGE",
        "RUNWIDE_STORE",
        "GOOGLE_CLOUD_PROJECT",
        "GOOGLE_CLOUD_REGION",
        "GOOGLE_CLOUD_LOCATION",
    ):
        monkeypatch.delenv(name, raising=False)


def pipeline_of(way, place, image=GOOD):
    """A pipeline whose fan-out has a store, in one of the ways in which it may have it."""

    @dsl.pipeline(name="p")
    def p(base: str = place, places: list = [place]):  # noqa: B006 - as kfp has it
        if way == "loop":
            with dsl.ParallelFor(places) as one:
                fan_out(abs, [1], components=1, store=one, image=image)
        else:
            stores = {"constant": place, "default": base, "argument": base, "text": f"{base}/runs"}
            fan_out(abs, [1], components=1, store=stores[way], image=image)

    return p


@pytest.mark.parametrize(
    "place",
    ["/tmp/runs", "file:///tmp/runs", "memory://x", "gs://"],
    ids=["path", "uri", "memory", "no-bucket"],
)
@pytest.mark.parametrize("way", ["constant", "default", "argument", "text", "loop"])
def test_a_store_that_no_machine_there_sees_is_refused_wherever_it_is_written(engine, way, place):
    arguments = {"base": place} if way == "argument" else {}
    with pytest.raises(
        InputError, match=r"a step (on (Vertex|Kubeflow) )?cannot reach this store.*gs://bucket/prefix"
    ):
        engine.submit(pipeline_of(way, "gs://b" if way == "argument" else place), arguments)


@pytest.mark.parametrize("image", ["runwide:0.1.0", "user/runwide", "runwide"])
def test_our_steps_image_without_a_registry_is_refused_together_with_the_store(engine, image):
    with pytest.raises(
        InputError,
        match=r"names no registry .*; a step on .* cannot reach this store .*image= or RUNWIDE_IMAGE",
    ) as caught:
        engine.submit(pipeline_of("constant", "/tmp/runs", image))
    assert caught.value.uri == f"{image}, file:///tmp/runs"


def test_the_authors_own_steps_may_come_from_docker_hub_and_take_any_value_for_a_store(engine):
    @dsl.component(base_image="python:3.11")
    def own(store: str) -> str:
        return store

    @dsl.pipeline(name="p")
    def p(store: str = "Lyon"):
        own(store=store)

    engine.examine(p.pipeline_spec, {})
    assert has_registry("localhost:5000/x")
    mine = dsl.component(base_image="runwide:dev")(own.python_func)
    with pytest.raises(InputError, match="names no registry"):
        engine.examine(dsl.pipeline(name="q")(lambda: mine(store="x") and None).pipeline_spec, {})


def test_components_refuse_before_they_write(engine, tmp_path):
    with pytest.raises(InputError, match=r"names no registry .* cannot reach this store"):
        runwide.map(abs, [1], on=Components(1, store=str(tmp_path / "runs"), engine=engine))
    with pytest.raises(InputError, match="cannot reach this store"):
        Components(1, store="memory://x", engine=engine, image=GOOD).submit(abs, [1])
    assert not list(tmp_path.iterdir())


def test_a_batch_refuses_before_it_submits_and_when_it_is_planned(engine, tmp_path):
    compiler.Compiler().compile(pipeline_of("default", "gs://b/runs"), str(tmp_path / "p.yaml"))
    batch = Pipelines(tmp_path / "p.yaml", engine=engine, store="gs://b/runs", progress=False)
    for call in (batch.plan, batch.map):
        with pytest.raises(InputError, match=r"cannot reach this store \[/tmp/x/?\]"):
            call([{"base": "gs://b/runs"}, {"base": "/tmp/x"}])


def test_a_cluster_may_have_a_shared_folder():
    engine = Kubeflow("http://127.0.0.1:9", mounts=["/mnt/all/"])
    engine.examine(pipeline_of("constant", "/mnt/all/runs").pipeline_spec, {})
    with pytest.raises(InputError, match="cannot reach this store"):
        engine.examine(pipeline_of("constant", "/mnt/allow").pipeline_spec, {})
    with pytest.raises(InputError, match="mounts='data'"):
        Kubeflow("http://127.0.0.1:9", mounts=["data"])


def test_vertex_takes_project_and_region_from_the_environment(monkeypatch):
    with pytest.raises(
        InputError, match=r"needs a project, .* GOOGLE_CLOUD_PROJECT .*; Vertex needs a location"
    ):
        Vertex()
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "shop")
    monkeypatch.setenv("GOOGLE_CLOUD_LOCATION", "us-central1")
    assert repr(Vertex()) == "Vertex('shop', 'us-central1')"
    monkeypatch.setenv("GOOGLE_CLOUD_REGION", "europe-west1")
    assert repr(Vertex()) == "Vertex('shop', 'europe-west1')"
    assert repr(Vertex("other", "us-east5")) == "Vertex('other', 'us-east5')"


@pytest.mark.parametrize(
    ("project", "location", "said"),
    [
        ("My Shop", "europe-west1", "project='My Shop' is not a project id"),
        ("shop", "europe-west1-b", "location='europe-west1-b' is not a region"),
        ("a_b", "Europe", "project='a_b' is not a project id; location='Europe' is not a region"),
        ("projects/shop", "us-central1", "project='projects/shop'"),
    ],
    ids=["words", "zone", "both", "name"],
)
def test_a_malformed_project_or_region_is_refused(project, location, said):
    with pytest.raises(InputError, match=said):
        Vertex(project, location)
    assert repr(Vertex("example.com:shop", "us-central1"))


def test_a_store_of_components_may_be_a_path(tmp_path):
    assert Components(1, store=tmp_path / "runs").store == str(tmp_path / "runs")
