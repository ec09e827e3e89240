"""The gather step describes its artifacts as kfp's own executor does, and kfp reads the description."""

from __future__ import annotations

import json
from math import inf, nan

import pytest
from google.protobuf import json_format
from kfp import dsl
from kfp.dsl import executor as kfp_executor
from kfp.local import executor_output_utils
from kfp.pipeline_spec import pipeline_spec_pb2

from runwide.cli import executor
from runwide.errors import InputError


def artifact(kind, name: str, folder) -> dict:
    about = {"schemaTitle": kind.schema_title, "schemaVersion": kind.schema_version}
    return {"artifacts": [{"name": name, "uri": str(folder / name), "type": about, "metadata": {"kept": 1}}]}


def described(folder) -> dict:
    kinds = {"report": dsl.HTML, "metrics": dsl.Metrics}
    artifacts = {name: artifact(kind, name, folder) for name, kind in kinds.items()}
    return {
        "inputs": {},
        "outputs": {"artifacts": artifacts, "outputFile": str(folder / "executor_output.json")},
    }


def test_the_file_is_the_same_as_that_of_the_executor_of_kfp(tmp_path):
    def gather(report: dsl.Output[dsl.HTML], metrics: dsl.Output[dsl.Metrics]):
        metrics.log_metric("items", 3)
        metrics.log_metric("wall_seconds", 0.5)

    gather.__annotations__ = {"report": dsl.Output[dsl.HTML], "metrics": dsl.Output[dsl.Metrics]}
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    executor.write_output(json.dumps(described(ours)), {"items": 3, "wall_seconds": 0.5})
    kfp_executor.Executor(described(theirs), gather).execute()
    written = (ours / "executor_output.json").read_text()
    assert json.loads(written.replace(str(ours), str(theirs))) == json.loads(
        (theirs / "executor_output.json").read_text()
    )


def test_kfp_reads_the_numbers_as_metadata_of_the_metrics(tmp_path):
    about = described(tmp_path)
    executor.write_output(json.dumps(about), {"items": 3, "endless": inf, "unknown": nan})
    output = executor_output_utils.load_executor_output(about["outputs"]["outputFile"])
    read = executor_output_utils.add_type_to_executor_output(
        json_format.ParseDict(about, pipeline_spec_pb2.ExecutorInput()), output
    )
    (metrics,) = read.artifacts["metrics"].artifacts
    found = executor_output_utils.runtime_artifact_to_dsl_artifact(metrics)
    assert isinstance(found, dsl.Metrics)
    assert found.metadata == {"kept": 1, "items": 3}
    (report,) = read.artifacts["report"].artifacts
    assert executor_output_utils.runtime_artifact_to_dsl_artifact(report).metadata == {"kept": 1}


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"outputs": {}}', '{"outputs": {"outputFile": 3}}'])
def test_a_text_without_a_task_is_rejected(text):
    with pytest.raises(InputError, match="does not describe a task"):
        executor.write_output(text, {})


def test_without_a_task_nothing_is_written():
    executor.write_output(None, {"items": 1})


def test_further_metadata_of_an_output_are_written_and_those_of_an_input_are_read(tmp_path):
    about = described(tmp_path)
    executor.write_output(json.dumps(about), {}, {"report": {"format": "jsonl"}, "none": {"format": "csv"}})
    written = json.loads((tmp_path / "executor_output.json").read_text())["artifacts"]
    assert written["report"]["artifacts"][0]["metadata"] == {"kept": 1, "format": "jsonl"}
    assert "none" not in written
    # the next step reads the description of the step before
    given = json.dumps({"inputs": {"artifacts": {"items": written["report"], "other": written["metrics"]}}})
    assert executor.metadata_of(given, str(tmp_path / "report")) == {"kept": 1, "format": "jsonl"}
    assert executor.metadata_of(given, "gs://bucket/none") == {}
    assert executor.metadata_of('{"inputs": {"parameterValues": {}}}', "x") == {}
    assert executor.metadata_of(None, "x") == {}


@pytest.mark.parametrize("text", ["", "[]", "{", '{"inputs": {"artifacts": {"a": {}}}}'])
def test_a_malformed_description_is_rejected(text):
    with pytest.raises(InputError, match="does not describe a task"):
        executor.metadata_of(text, "x")
