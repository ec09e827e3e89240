"""A local server that speaks the HTTP form of Kubeflow Pipelines' API, version v2beta1.

It makes and finds experiments, creates, gets, lists and terminates runs, runs each submitted spec with the local engine, and
holds the body of every request, and of every answer of its own, against the models that the published client of the
API (kfp-server-api) is generated from.

If a task may be cached, its step runs once for each set of resolved inputs. The requests of a pipeline to Kubernetes are
checked against the message that kfp-kubernetes generates; of these, steps get the secrets, from `KubeflowServer.secrets`.

Not covered: namespaces and their rights, uploaded pipelines and versions, recurring runs, page tokens, filters
other than one equal name, ML Metadata but for ids of artifacts. Any bearer token is accepted but ``expired``.
"""

from __future__ import annotations

import copy
import json
import re
import uuid
from functools import cache
from typing import Any

import jsonschema
import kfp_server_api
from backend import Call, Execution, Refusal, Server, now
from google.protobuf import json_format
from kfp.kubernetes.kubernetes_executor_config_pb2 import KubernetesExecutorConfig
from kfp.pipeline_spec import pipeline_spec_pb2
from vertex_server import task_details

_RUN = re.compile(r"/apis/v2beta1/runs/([^/:]+)(:terminate)?")
_STATES = {"CANCELLED": "CANCELED", "CANCELLING": "CANCELING"}


class KubeflowServer(Server):
    """The server, see the module."""

    def __init__(self) -> None:
        super().__init__()
        self.experiments: dict[str, dict[str, Any]] = {}
        self.runs: dict[str, dict[str, Any]] = {}
        self.ids: dict[str, int] = {}
        self.artifacts: dict[
            str, dict[str, Any]
        ] = {}  # as ML Metadata keeps them, by the id that a task reports
        self.secrets: dict[tuple[str, str], str] = {}  # of Kubernetes, by name and key

    def answer(self, call: Call) -> dict[str, Any]:
        if call.headers.get("authorization") == "Bearer expired":
            raise Refusal(401, "the token has expired")
        if call.path == "/apis/v2beta1/healthz":
            return {"multi_user": False}
        if call.path == "/apis/v2beta1/experiments":
            return self._experiment(call)
        if call.path == "/apis/v2beta1/runs":
            return self._create(call) if call.method == "POST" else self._list(call)
        found = _RUN.fullmatch(call.path)
        if not found or found[1] not in self.runs:
            raise Refusal(404, f"{call.path} was not found")
        if found[2]:
            self.executions[found[1]].cancel()
            return {}
        return self._run(found[1])

    def error(self, status: int, message: str) -> dict[str, Any]:
        return {"error": message, "code": status, "message": message, "details": []}

    def _experiment(self, call: Call) -> dict[str, Any]:
        if call.method == "GET":
            found = [one for one in self.experiments.values() if one["display_name"] == wanted(call)]
            return checked("V2beta1ListExperimentsResponse", {"experiments": found, "total_size": len(found)})
        made = {
            **checked("V2beta1Experiment", call.body),
            "experiment_id": str(uuid.uuid4()),
            "created_at": now(),
        }
        self.experiments[made["experiment_id"]] = made
        return checked("V2beta1Experiment", made)

    def _create(self, call: Call) -> dict[str, Any]:
        body = checked("V2beta1Run", call.body)
        if body["experiment_id"] not in self.experiments:
            raise Refusal(404, "there is no such experiment")
        given = body["pipeline_spec"]
        spec = given["pipeline_spec"] if "platform_spec" in given else given
        json_format.ParseDict(spec, pipeline_spec_pb2.PipelineSpec())
        run = str(uuid.uuid4())
        execution = Execution(
            with_secrets(spec, pods(given), self.secrets),
            body["runtime_config"].get("parameters", {}),
            self.cache,
            looks_pending=self.pending_looks,
        )
        self.executions[run], self.runs[run] = execution, body
        execution.start(self.engine)
        return self._run(run)

    def _list(self, call: Call) -> dict[str, Any]:
        runs = [
            self._run(run)
            for run, about in reversed(list(self.runs.items()))
            if about["experiment_id"] == call.query["experiment_id"] and about["display_name"] == wanted(call)
        ]
        return checked("V2beta1ListRunsResponse", {"runs": runs, "total_size": len(runs)})

    def _run(self, run: str) -> dict[str, Any]:
        execution = self.executions[run]
        state = execution.look()
        about = {
            **self.runs[run],
            "run_id": run,
            "created_at": execution.created,
            "state": _STATES.get(state, state),
        }
        if execution.ended:
            about["finished_at"] = now()
            about["run_details"] = {"task_details": list(self._tasks(run, execution))}
        if state == "FAILED":
            about["error"] = {"code": 2, "message": execution.error}
        return checked("V2beta1Run", about)

    def _tasks(self, run: str, execution: Execution) -> Any:
        for task in task_details(execution):
            detail = {
                "run_id": run, "task_id": task["taskId"], "display_name": task["taskName"],
                "state": task["state"], "create_time": task["createTime"], "parent_task_id": task["parentTaskId"],
            }  # fmt: skip
            outputs = {}
            for name, listed in task.get("outputs", {}).items():
                with self._lock:
                    artifact = str(self.ids.setdefault(f"{run}/{task['taskId']}/{name}", len(self.ids) + 1))
                self.artifacts[artifact] = listed["artifacts"][0]
                outputs[name] = {"artifact_ids": [artifact]}
            yield detail | {"outputs": outputs} | ({"error": task["error"]} if "error" in task else {})


def pods(given: dict[str, Any]) -> dict[str, Any]:
    """Return the requests to Kubernetes of each executor, after checking them against the message of kfp-kubernetes."""
    platforms = given.get("platform_spec", {}).get("platforms", {})
    executors = platforms.get("kubernetes", {}).get("deploymentSpec", {}).get("executors", {})
    for about in executors.values():
        json_format.ParseDict(about, KubernetesExecutorConfig())
    return executors


def with_secrets(
    spec: dict[str, Any], executors: dict[str, Any], secrets: dict[tuple[str, str], str]
) -> dict[str, Any]:
    """Return a spec whose steps get the values of the Kubernetes secrets that they ask for."""
    changed = copy.deepcopy(spec)
    for name, about in executors.items():
        env = changed["deploymentSpec"]["executors"][name]["container"].setdefault("env", [])
        for one in about.get("secretAsEnv", []):
            for pair in one["keyToEnv"]:
                env.append({"name": pair["envVar"], "value": secrets[one["secretName"], pair["secretKey"]]})
    return without_marks(changed)


def without_marks(spec: dict[str, Any]) -> dict[str, Any]:
    """Return a spec without requests to a cluster, for the engine on this machine."""
    for one in spec["deploymentSpec"]["executors"].values():
        container = one.get("container", {})
        if "env" in container:
            container["env"] = [
                pair for pair in container["env"] if not pair["name"].startswith("RUNWIDE_STEP_")
            ]
    return spec


def wanted(call: Call) -> str:
    """Return the name that a list is filtered by."""
    (predicate,) = json.loads(call.query["filter"])["predicates"]
    if predicate["key"] != "display_name" or predicate["operation"] not in (1, "EQUALS"):
        raise Refusal(400, f"the filter {predicate} is not covered")
    return predicate["stringValue"]


def checked(kind: str, value: Any) -> Any:
    """Return a body after checking it against the client's models."""
    try:
        _validator(kind).validate(value)
    except jsonschema.ValidationError as error:
        raise Refusal(400, f"{kind}: {error.json_path}: {error.message}") from error
    return value


@cache
def _validator(kind: str) -> Any:
    models = [getattr(kfp_server_api, name) for name in dir(kfp_server_api)]
    definitions = {model.__name__: _schema(model) for model in models if hasattr(model, "openapi_types")}
    return jsonschema.Draft202012Validator({"$ref": f"#/$defs/{kind}", "$defs": definitions})


def _schema(model: Any) -> dict[str, Any]:
    if not model.openapi_types:  # an enum: its values are constants of the class
        return {"enum": list(model.allowable_values)}
    fields = {model.attribute_map[name]: _type(kind) for name, kind in model.openapi_types.items()}
    return {"type": "object", "properties": fields, "additionalProperties": False}


def _type(kind: str) -> dict[str, Any]:
    simple = {"str": "string", "int": "integer", "float": "number", "bool": "boolean", "datetime": "string"}
    if kind in simple:
        return {"type": simple[kind]}
    if found := re.fullmatch(r"list\[(.*)\]", kind):
        return {"type": "array", "items": _type(found[1])}
    if found := re.fullmatch(r"dict\(str, (.*)\)", kind):
        return {"type": "object", "additionalProperties": _type(found[1])}
    return {} if kind == "object" else {"$ref": f"#/$defs/{kind}"}
