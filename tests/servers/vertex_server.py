"""A local server that speaks the REST form of Vertex AI's ``pipelineJobs``, version 1.

It creates, gets, lists, cancels and deletes pipeline jobs, runs each submitted spec with the local engine, and holds the
body of every request, and of every answer of its own, against Google's published discovery document of the API
(the one that google-api-python-client ships).

If a task may be cached, its step runs once for each set of resolved inputs.

Not covered: IAM and credentials (any are accepted), quotas other than those that a test injects, the gRPC form,
filters of lists other than none, page tokens, pre-flight validations, schedules, lineage, machines and their start
times. Google does not document how ``taskDetails`` shows the rounds of a loop; here each round is a task below the loop,
named after it. Output parameters are in the metadata of a task's execution as ``output:NAME``, where Google's own client
reads them. Output artifacts are in its ``outputs``, as the step has reported them in the file that kfp's executor writes.
Vertex copies their metadata from there, since its page shows metrics. A step that starts a CustomJob is checked against the
type and schema of CustomJobs, and its container runs instead of the launcher.
"""

from __future__ import annotations

import copy
import itertools
import json
import re
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jsonschema
from backend import Call, Execution, Refusal, Server, now
from google.cloud.aiplatform_v1.types import CustomJob
from google.protobuf import json_format
from kfp.pipeline_spec import pipeline_spec_pb2

if TYPE_CHECKING:
    from collections.abc import Iterator

PARENT = r"/v1/(projects/[^/]+/locations/[^/]+)"
_CREATE = re.compile(rf"{PARENT}/pipelineJobs")
_ONE = re.compile(rf"{PARENT}/pipelineJobs/([a-z][-a-z0-9]{{0,127}})(:cancel)?")
_STATUS = {
    400: "FAILED_PRECONDITION",
    404: "NOT_FOUND",
    409: "ALREADY_EXISTS",
    429: "RESOURCE_EXHAUSTED",
    503: "UNAVAILABLE",
}
_LABEL = re.compile(r"[a-z0-9_-]{0,63}")


class VertexServer(Server):
    """The server, see the module."""

    def __init__(self) -> None:
        super().__init__()
        self.jobs: dict[str, dict[str, Any]] = {}
        self.custom_jobs: list[dict[str, Any]] = []  # of steps that start one

    def answer(self, call: Call) -> dict[str, Any]:
        if found := _CREATE.fullmatch(call.path):
            if call.method == "POST":
                return self._create(found[1], call)
            return checked(
                "ListPipelineJobsResponse",
                {"pipelineJobs": [self._job(name, full=False) for name in list(self.jobs)]},
            )
        found = _ONE.fullmatch(call.path)
        if not found or f"{found[1]}/pipelineJobs/{found[2]}" not in self.jobs:
            raise Refusal(404, f"{call.path} was not found")
        name = f"{found[1]}/pipelineJobs/{found[2]}"
        if found[3]:
            checked("CancelPipelineJobRequest", call.body or {})
            if self.executions[name].ended:
                raise Refusal(400, "the pipeline job has ended")
            self.executions[name].cancel()
            return {}
        return self._job(name)

    def error(self, status: int, message: str) -> dict[str, Any]:
        return {"error": {"code": status, "message": message, "status": _STATUS.get(status, "INTERNAL")}}

    def _create(self, parent: str, call: Call) -> dict[str, Any]:
        body = checked("PipelineJob", call.body, request=True)
        job_id = call.query["pipelineJobId"]
        name = f"{parent}/pipelineJobs/{job_id}"
        if not re.fullmatch(r"[a-z][-a-z0-9]{0,127}", job_id):
            raise Refusal(400, f"{job_id} is no id")
        for key, value in body.get("labels", {}).items():
            if not _LABEL.fullmatch(key) or not _LABEL.fullmatch(value):
                raise Refusal(400, f"label {key}={value} is not allowed")
        if not body["runtimeConfig"]["gcsOutputDirectory"].startswith("gs://"):
            raise Refusal(400, "there is no output directory")
        json_format.ParseDict(body["pipelineSpec"], pipeline_spec_pb2.PipelineSpec())
        with self._lock:
            if name in self.jobs:
                raise Refusal(409, f"{name} exists")
            arguments = typed(body["pipelineSpec"], body["runtimeConfig"].get("parameterValues", {}))
            execution = Execution(
                without_launchers(body["pipelineSpec"], self.custom_jobs),
                arguments,
                self.cache,
                looks_pending=self.pending_looks,
            )
            self.executions[name], self.jobs[name] = execution, body
        execution.start(self.engine)
        return self._job(name)

    def _job(self, name: str, *, full: bool = True) -> dict[str, Any]:
        execution = self.executions[name]
        state = execution.look()
        job = {
            **self.jobs[name],
            "name": name,
            "createTime": execution.created,
            "updateTime": now(),
            "state": f"PIPELINE_STATE_{state}",
        }
        if state == "FAILED":
            job["error"] = {
                "code": 9,
                "message": f"The DAG failed because some tasks failed: {execution.error}",
            }
        if full and execution.ended:
            job["jobDetail"] = {"taskDetails": list(task_details(execution))}
        return checked("PipelineJob", job)


def without_launchers(spec: dict[str, Any], found: list[dict[str, Any]]) -> dict[str, Any]:
    """Return a spec in which the container of each CustomJob runs instead of its launcher."""
    changed = copy.deepcopy(spec)
    for executor in changed["deploymentSpec"]["executors"].values():
        container = executor["container"]
        if "custom_job.launcher" in " ".join(container.get("command", [])):
            words = container["args"]
            given = json.loads(words[words.index("--payload") + 1])
            job = json_format.MessageToDict(CustomJob(given)._pb)  # as the launcher's client reads it
            found.append(checked("CustomJob", job, request=True))
            (pool,) = job["jobSpec"]["workerPoolSpecs"]
            run = pool["containerSpec"]
            executor["container"] = {"image": run["imageUri"], "command": run["command"], "args": run["args"]}
    return changed


def typed(spec: dict[str, Any], arguments: dict[str, Any]) -> dict[str, Any]:
    """Return arguments with the types that the pipeline declares: every number travels as a double."""
    declared = spec["root"].get("inputDefinitions", {}).get("parameters", {})
    whole = {name for name, one in declared.items() if one["parameterType"] == "NUMBER_INTEGER"}
    return {name: int(value) if name in whole else value for name, value in arguments.items()}


def task_details(execution: Execution) -> Iterator[dict[str, Any]]:
    """Return every task of the spec with its outputs, from the files that it has written."""
    return Walk(execution, itertools.count(1001)).dag(execution.spec["root"]["dag"], "0", "")


@dataclass(frozen=True)
class Walk:
    """A walk through a spec, task by task."""

    execution: Execution
    ids: Iterator[int]

    def dag(self, dag: Any, parent: str, prefix: str) -> Iterator[dict[str, Any]]:
        for name, task in dag["tasks"].items():
            component = self.execution.spec["components"][task["componentRef"]["name"]]
            if "parameterIterator" not in task:
                yield from self.task(component, name, parent, prefix)
                continue
            mine = str(next(self.ids))
            yield _common(name, mine, parent, "SUCCEEDED")
            folders = {path.split("/")[0] for path in self.execution.files}
            for one in sorted(folder for folder in folders if folder.startswith(f"{name}-iteration-")):
                yield from self.task(component, name, mine, f"{one}/")

    def task(self, component: Any, name: str, parent: str, prefix: str) -> Iterator[dict[str, Any]]:
        mine = str(next(self.ids))
        if "dag" in component:
            yield _common(name, mine, parent, "SUCCEEDED")
            yield from self.dag(component["dag"], mine, prefix)
            return
        values = self.execution.files.get(f"{prefix}{name}", {})
        failed = self.execution.state == "FAILED" and self.execution.step.split(" ")[0] == name and not values
        detail = _common(name, mine, parent, "FAILED" if failed else "SUCCEEDED")
        if failed:
            detail["error"] = {"code": 9, "message": self.execution.error}
        detail["execution"] = {
            "schemaTitle": "system.ContainerExecution",
            "metadata": {f"output:{key}": value for key, value in values.items()},
        }
        told = self.execution.artifacts.get(f"{prefix}{name}", {})
        kinds = component.get("outputDefinitions", {}).get("artifacts", {})
        detail["outputs"] = {
            key: {"artifacts": [{**one, "schemaTitle": kinds[key]["artifactType"]["schemaTitle"]}]}
            for key, one in told.items()
        }
        yield detail


def _common(name: str, mine: str, parent: str, state: str) -> dict[str, Any]:
    return {"taskId": mine, "taskName": name, "state": state, "createTime": now(), "parentTaskId": parent}


def checked(kind: str, value: Any, *, request: bool = False) -> Any:
    """Return a body after checking it against the discovery document.

    Clients may give an enum as its number, and must not send fields that are for output only.
    """
    try:
        _validator(kind, request).validate(value)
    except jsonschema.ValidationError as error:
        raise Refusal(400, f"{kind}: {error.json_path}: {error.message}") from error
    return value


@cache
def _validator(kind: str, request: bool) -> Any:
    schema = {"$ref": f"#/$defs/GoogleCloudAiplatformV1{kind}", "$defs": _definitions(request)}
    return jsonschema.Draft202012Validator(schema)


@cache
def _definitions(request: bool) -> dict[str, Any]:
    package = find_spec("googleapiclient").submodule_search_locations[0]
    text = (Path(package) / "discovery_cache" / "documents" / "aiplatform.v1.json").read_text()
    return {name: _schema(one, request) for name, one in json.loads(text)["schemas"].items()}


def _schema(about: dict[str, Any], request: bool) -> dict[str, Any]:
    """Convert a schema of a discovery document to JSON Schema."""
    if "$ref" in about:
        return {"$ref": f"#/$defs/{about['$ref']}"}
    kind = about.get("type", "any")
    if kind == "any":
        return {}
    if "enum" in about:
        return {
            "anyOf": [
                {"enum": about["enum"]},
                {"type": "integer", "minimum": 0, "maximum": len(about["enum"]) - 1},
            ]
        }
    if kind == "array":
        return {"type": "array", "items": _schema(about["items"], request)}
    if kind != "object":
        return {"type": kind}
    fields = {
        name: _schema(one, request)
        for name, one in about.get("properties", {}).items()
        if not (request and one.get("readOnly"))
    }
    others = about.get("additionalProperties")
    return {
        "type": "object",
        "properties": fields,
        "additionalProperties": _schema(others, request) if others else False,
    }
