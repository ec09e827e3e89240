"""Machines by name and Spot capacity: real on Vertex AI, refused where an engine has neither.

No annotations as strings here: kfp takes those of a pipeline as objects.
"""

import pytest
from kfp import dsl

import runwide
from runwide.errors import InputError
from runwide_components import Components, Local, fan_out
from runwide_components.resources import Resources

pytestmark = pytest.mark.xdist_group("vertex")  # one process pays for the import of Google's client


def squares(store: str) -> str:
    return fan_out(
        lambda x: x * x, [1, 2, 3], components=2, store=store,
        machine_type="n2-highmem-16", spot=True, accelerator=("NVIDIA_L4", 1), shard_retries=2,
    ).output  # fmt: skip


@pytest.mark.gcs
def test_on_vertex_each_shard_is_a_custom_job_on_the_machine_that_was_asked_for(vertex, vertex_server, gcs):
    run = vertex().submit(dsl.pipeline(name="squares")(squares), {"store": f"{gcs}/jobs"})
    assert runwide.load(run.wait(120)["Output"]) == [1, 4, 9]
    (job,) = vertex_server.custom_jobs
    (pool,) = job["jobSpec"]["workerPoolSpecs"]
    assert pool["machineSpec"] == {
        "machineType": "n2-highmem-16", "acceleratorType": "NVIDIA_L4", "acceleratorCount": 1,
    }  # fmt: skip
    assert job["jobSpec"]["scheduling"]["strategy"] == "SPOT"
    assert job["jobSpec"]["serviceAccount"] == "{{$.pipeline_service_account}}"
    assert pool["containerSpec"]["command"] == ["runwide", "shard"]


@pytest.mark.gcs
def test_a_map_from_a_notebook_has_them_too(vertex, vertex_server, gcs):
    place = Components(2, store=f"{gcs}/jobs", engine=vertex(), machine_type="t2d-standard-8", progress=False)
    assert runwide.map(abs, [-1, -2], on=place) == [1, 2]
    (job,) = vertex_server.custom_jobs
    assert job["jobSpec"]["scheduling"]["strategy"] == "STANDARD"


def test_an_engine_without_such_machines_says_so(kubeflow, tmp_path):
    pipeline = dsl.pipeline(name="squares")(squares)
    for engine in (Local("subprocess"), kubeflow()):
        with pytest.raises(
            InputError, match=r"CustomJobs of Vertex AI, which (Local|Kubeflow)\(.*\) cannot start"
        ):
            engine.submit(pipeline, {"store": str(tmp_path)})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"spot": True}, "spot=True needs a machine"),
        ({"machine_type": "n2-standard-8", "cpu": "8"}, "the machine has its own CPUs and memory"),
        ({"machine_type": "N2 big"}, "invalid machine_type='N2 big'"),
    ],
)
def test_invalid_machines_are_rejected(options, message):
    with pytest.raises(InputError, match=message):
        Resources(**options)
