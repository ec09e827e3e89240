"""OpenTelemetry gets the events if the user asks for it, and nothing otherwise."""

from __future__ import annotations

import json
import os
import subprocess
import sys

# In a separate process, since providers can be set only once.
PROGRAM = """
import json, sys
from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

spans, reader = InMemorySpanExporter(), InMemoryMetricReader()
provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(spans))
trace.set_tracer_provider(provider)
metrics.set_meter_provider(MeterProvider([reader]))

import runwide

if __name__ == "__main__":
    job = runwide.scatter(lambda x: 1 / x, [0, 1, 2], store="memory://otel", shards=1)
    runwide.shard(job, 0, workers=1)
    found = reader.get_metrics_data()
    counts = {} if found is None else {
        point.attributes["outcome"]: point.value
        for metric in found.resource_metrics[0].scope_metrics[0].metrics if metric.name == "runwide.task.attempts"
        for point in metric.data.data_points
    }
    print(json.dumps({"counts": counts, "spans": [
        {"name": span.name, "trace": f"{span.context.trace_id:032x}", "span": span.context.span_id,
         "parent": span.parent and span.parent.span_id, "ok": span.status.is_ok,
         "seconds": (span.end_time - span.start_time) / 1e9, "item": span.attributes.get("runwide.item")}
        for span in spans.get_finished_spans()]}))
"""


def run(tmp_path, program=PROGRAM, **environment):
    (tmp_path / "program.py").write_text(program)
    done = subprocess.run(
        [sys.executable, "program.py"],
        cwd=tmp_path,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_each_attempt_is_a_span_below_its_run_in_the_callers_trace(tmp_path):
    trace = "0af7651916cd43dd8448eb211c80319c"
    found = run(tmp_path, RUNWIDE_OTEL="1", TRACEPARENT=f"00-{trace}-b7ad6b7169203331-01")
    (whole,) = [span for span in found["spans"] if span["name"] == "runwide.run"]
    tasks = [span for span in found["spans"] if span["name"] == "runwide.task"]
    assert {span["trace"] for span in found["spans"]} == {trace}
    assert {span["parent"] for span in tasks} == {whole["span"]}
    assert {span["item"]: span["ok"] for span in tasks} == {0: False, 1: True, 2: True}
    assert all(0 <= span["seconds"] <= whole["seconds"] for span in tasks)
    assert found["counts"] == {"ended": 2, "failed": 1}


def test_nothing_is_sent_unless_asked_for(tmp_path):
    assert run(tmp_path, RUNWIDE_OTEL="") == {"counts": {}, "spans": []}


def test_asking_without_the_package_is_one_clear_error(tmp_path):
    program = """
import json, sys
sys.modules["opentelemetry"] = None
from runwide.errors import InputError
from runwide.events import model, otel
try:
    otel.of(model.Run("r", 0.0))
except InputError as error:
    print(json.dumps(str(error)))
"""
    assert "pip install runwide[otel]" in run(tmp_path, program, RUNWIDE_OTEL="1")


def test_short_tasks_in_one_batch_are_separate_spans_and_failures_show_no_secret(tmp_path):
    program = PROGRAM.replace("lambda x: 1 / x, [0, 1, 2]", "work, range(500)").replace(
        "import runwide\n",
        "import runwide\n\ndef work(x):\n    if x == 7:\n        raise ValueError('password=hunter2')\n    return x\n",
    ).replace('"name": span.name', '"said": span.status.description, "name": span.name')  # fmt: skip
    found = run(tmp_path, program, RUNWIDE_OTEL="1")
    assert found["counts"] == {"ended": 499, "failed": 1}
    tasks = [span for span in found["spans"] if span["name"] == "runwide.task"]
    assert sorted(span["item"] for span in tasks) == list(range(500))
    assert [span["said"] for span in tasks if not span["ok"]] == ["ValueError: password=[redacted]"]


def test_without_an_sdk_only_the_api_is_loaded_and_the_job_runs(tmp_path):
    program = """
import json, sys
import runwide

if __name__ == "__main__":
    job = runwide.scatter(abs, [-1], store="memory://otel-api", shards=1)
    runwide.shard(job, 0, workers=1)
    wanted = ("opentelemetry.trace", "opentelemetry.metrics", "opentelemetry.sdk")
    print(json.dumps([name for name in wanted if name in sys.modules]))
"""
    assert run(tmp_path, program, RUNWIDE_OTEL="1") == ["opentelemetry.trace", "opentelemetry.metrics"]
    assert run(tmp_path, program, RUNWIDE_OTEL="") == []
