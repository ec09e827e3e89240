"""`Kubeflow`: pipelines on a Kubeflow Pipelines server, through ``kfp.Client``."""

from __future__ import annotations

import contextlib
import io
import json
import secrets
import tempfile
import warnings
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runwide.errors import EngineError, InputError
from runwide.job.runner import PolledRun
from runwide.log import Log
from runwide.naming import shown
from runwide_components.engines import spec
from runwide_components.engines.base import PipelineEngine, RunState, checked_poll
from runwide_components.engines.calls import TRANSIENT, retried
from runwide_components.engines.step_options import StepOptions, refuse_custom_jobs, with_pod_labels

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

_log = Log("engine")

_PATIENCE = 300.0  # seconds for calls that are safe to repeat
_STATES = {
    "PENDING": RunState.PENDING,
    "PAUSED": RunState.PENDING,
    "SUCCEEDED": RunState.SUCCEEDED,
    "SKIPPED": RunState.SUCCEEDED,
    "FAILED": RunState.FAILED,
    "CANCELED": RunState.CANCELLED,
}
_HINTS = {
    401: "give a valid token",
    403: "check the namespace and the rights of this token",
    404: "check the host and the id",
}


class Kubeflow(PipelineEngine):
    """A Kubeflow Pipelines server, version 2. A run continues when this process ends.

    Before a run with a name is submitted, a run of that name in the same experiment is looked for. If one has not failed,
    this client attaches to it. Names are not unique on the server: two processes that submit the same name at the same
    moment make two runs.

    The API has no output parameters of a run, only ids of artifacts, so `Run.wait` returns nothing. Results of maps and
    of `fan_out` are in the store; values of a run can be shared through `runwide.Exchange`.

    Args:
        host: URL of the server, such as ``https://pipelines.example.com``.
        namespace: Namespace of the user, on a server with several users.
        experiment: Experiment of the runs; created if it is missing.
        token: Bearer token; None if ``kfp.Client`` finds credentials itself.
        pipeline_root: Folder for the files of kfp itself; None for the server's default.
        service_account: Kubernetes service account of the steps.
        enable_caching: False to cache no step, True to cache all steps, None for the settings of each pipeline.
        poll: Seconds between two looks at a run, at first and at most.
        mounts: Folders that all steps can read and write, such as a shared volume that ``as_step=`` mounts. A store is a
            folder in one of them, or in a bucket.

    Raises:
        InputError: An option is invalid.

    Example:
        >>> Kubeflow("https://pipelines.example.com", experiment="nightly")
        Kubeflow('https://pipelines.example.com')
    """

    def __init__(
        self,
        host: str,
        *,
        namespace: str | None = None,
        experiment: str = "runwide",
        token: str | None = None,
        pipeline_root: str | None = None,
        service_account: str | None = None,
        enable_caching: bool | None = False,
        poll: Sequence[float] = (2.0, 30.0),
        mounts: Sequence[str] = (),
    ) -> None:
        if not isinstance(host, str) or not host.startswith(("http://", "https://")):
            raise InputError(
                f"invalid host={shown(host)}: expected the URL of a server", hint="give https://…"
            )
        self.host = host.rstrip("/")
        self.namespace = namespace
        self.experiment = experiment
        self.pipeline_root = pipeline_root
        self.service_account = service_account
        self.enable_caching = enable_caching
        self.poll = checked_poll(poll)
        self.mounts = _folders(mounts)
        self._token = token

    def __repr__(self) -> str:
        return f"Kubeflow({self.host!r})"

    def about(self) -> dict[str, Any]:
        """Return the arguments of this engine, without the token; see `ShardRunner.about`."""
        names = ("host", "namespace", "experiment", "pipeline_root", "service_account", "enable_caching")
        options = {name: getattr(self, name) for name in names}
        return {"engine": "kubeflow", **options, "poll": list(self.poll), "mounts": list(self.mounts)}

    @cached_property
    def client(self) -> Any:
        """The ``kfp.Client``, created on first use."""
        import kfp

        def make() -> Any:
            return kfp.Client(
                host=self.host, namespace=self.namespace or "kubeflow", existing_token=self._token
            )

        return _quietly(make)

    def submit(
        self,
        pipeline: Any,
        arguments: Mapping[str, Any] | None = None,
        *,
        store: str | None = None,
        parallelism: int | None = None,  # noqa: ARG002 - it is in the spec
        name: str | None = None,
        labels: Mapping[str, str] | None = None,  # noqa: ARG002 - the API has none for runs
    ) -> KubeflowRun:
        """Start a run, or attach to the one of that name; see `Engine.submit`."""
        with tempfile.TemporaryDirectory(prefix="runwide-kubeflow-") as folder:
            path = spec.compiled(pipeline, Path(folder))
            loaded = spec.loaded(path)
            requested = StepOptions.of(path, loaded)
            self.check_steps(requested)
            self.examine(loaded, arguments or {}, stores=[store])
            if requested.labels:
                path = with_pod_labels(path, Path(folder) / "labelled.yaml")
            if self.enable_caching is not None:
                path = spec.with_caching(path, Path(folder) / "submitted.yaml", enable=self.enable_caching)
            experiment = self._experiment()
            found = self._named(name, experiment) if name else None
            if found is not None:
                _log.info("run.attached", run=found, engine=repr(self))
                return KubeflowRun(self, found)
            title = name or f"{loaded.pipeline_info.name}-{secrets.token_hex(4)}"
            account = requested.account(self.service_account, repr(self))
            run = self._create(path, title, experiment, arguments or {}, account)
        _log.info("run.submitted", run=run, engine=repr(self))
        return KubeflowRun(self, run)

    def check_steps(self, requested: StepOptions) -> None:
        """Reject options of steps that Kubernetes does not support; see `runwide_components.engines.step_options`.

        Args:
            requested: Options that the steps request.
        """
        refuse_custom_jobs(requested, repr(self))
        requested.check_labels(repr(self), google=False)
        requested.account(self.service_account, repr(self))

    def attach(self, run: str) -> KubeflowRun:
        """Return the run of an id; see `ShardRunner.attach`."""
        found = KubeflowRun(self, run)
        found.state()
        return found

    def _experiment(self) -> str:
        made = self.call(
            lambda: self.client.create_experiment(self.experiment, namespace=self.namespace), self.experiment
        )
        return str(made.experiment_id)

    def _named(self, name: str, experiment: str) -> str | None:
        """Return the id of the latest run of a name that has not failed."""
        predicate = {"key": "display_name", "operation": "EQUALS", "stringValue": name}

        def find() -> Any:
            return self.client.list_runs(
                page_size=10,
                sort_by="created_at desc",
                experiment_id=experiment,
                namespace=self.namespace,
                filter=json.dumps({"predicates": [predicate]}),
            )

        runs = self.call(find, name).runs or []
        good = [run.run_id for run in runs if run.state not in ("FAILED", "CANCELED")]
        return good[0] if good else None

    def _create(
        self, path: Path, title: str, experiment: str, arguments: Mapping[str, Any], account: str | None
    ) -> str:
        tried: list[bool] = []

        def create() -> str:
            # the request may have arrived and only its answer been lost: look for the run first
            if tried and (found := self._named(title, experiment)):
                return found
            tried.append(True)
            run = self.client.run_pipeline(
                experiment,
                title,
                str(path),
                params=dict(arguments),
                pipeline_root=self.pipeline_root,
                service_account=account,
            )
            return str(run.run_id)

        return str(self.call(create, title))

    def call(self, request: Callable[[], Any], uri: str) -> Any:
        """Return the result of a request, repeated after transient errors.

        Args:
            request: The request; it must be safe to make it twice.
            uri: The run or its name, for errors.

        Raises:
            EngineError: The server refuses, or does not answer.
        """
        import kfp_server_api
        import urllib3

        def is_transient(error: Exception) -> bool:
            return (
                isinstance(error, urllib3.exceptions.HTTPError) or getattr(error, "status", None) in TRANSIENT
            )

        try:
            return retried(lambda: _quietly(request), transient=is_transient, patience=_PATIENCE)
        except kfp_server_api.ApiException as error:
            hint = _HINTS.get(error.status)
            raise EngineError(
                f"{self.host} refused: {error.status} {error.reason}", uri=uri, hint=hint
            ) from error
        # kfp.Client raises TimeoutError in a check of the server
        except (urllib3.exceptions.HTTPError, TimeoutError) as error:
            raise EngineError(f"{self.host} does not answer: {error}", uri=uri) from error


class KubeflowRun(PolledRun):
    """One run on a Kubeflow Pipelines server; see `Run`."""

    def __init__(self, engine: Kubeflow, run: str) -> None:
        super().__init__(run, engine.poll)
        self._engine = engine
        self._last: Any = None

    @property
    def logs(self) -> str:
        """The page of the run."""
        return f"{self._engine.host}/#/runs/details/{self.id}"

    def argument(self, name: str) -> Any:
        """Return an argument of the pipeline; see `Run.argument`."""
        config = self._look().runtime_config
        return ((config and config.parameters) or {}).get(name)

    def _look(self) -> Any:
        self._last = self._engine.call(lambda: self._engine.client.get_run(self.id), self.id)
        return self._last

    def _ask(self) -> RunState:
        self._look()
        return _STATES.get(str(self._last.state), RunState.RUNNING)

    def _failure(self) -> EngineError:
        tasks = (self._last.run_details and self._last.run_details.task_details) or []
        failed = [task for task in tasks if task.state == "FAILED" and not task.child_tasks]
        said = self._last.error.message if self._last.error else None
        otherwise = said or "the server reports no reason"
        steps = [(task.display_name, (task.error and task.error.message) or otherwise) for task in failed]
        return self._failed(steps, otherwise)

    def _cancel(self) -> None:
        self._engine.call(lambda: self._engine.client.terminate_run(self.id), self.id)


def _folders(mounts: Sequence[str]) -> tuple[str, ...]:
    folders = (mounts,) if isinstance(mounts, str) else tuple(str(folder) for folder in mounts)
    for folder in folders:
        if not folder.startswith("/"):
            raise InputError(
                f"invalid mounts={folder!r}: expected an absolute path in the steps",
                hint='give one such as "/mnt/shared"',
            )
    return tuple(folder.rstrip("/") or "/" for folder in folders)


def _quietly(call: Callable[[], Any]) -> Any:
    """Make a call without the output and the warnings that ``kfp.Client`` gives in normal use."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore", FutureWarning)
        return call()
