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

from runwide.errors import EngineError, InputError, StepFailed
from runwide.log import Log
from runwide_components.engines import spec
from runwide_components.engines.asked import Asked, refuse_custom_jobs, with_pod_labels
from runwide_components.engines.base import RunState
from runwide_components.engines.fitting import refuse_unfit
from runwide_components.engines.pace import retried
from runwide_components.engines.polled import PolledRun

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

_log = Log("engine")

_PATIENCE = 300.0  # seconds for calls that may be made twice
_STATES = {
    "PENDING": RunState.PENDING,
    "PAUSED": RunState.PENDING,
    "SUCCEEDED": RunState.SUCCEEDED,
    "SKIPPED": RunState.SUCCEEDED,
    "FAILED": RunState.FAILED,
    "CANCELED": RunState.CANCELLED,
}
_TRANSIENT = frozenset({408, 429, 500, 502, 503, 504})


class Kubeflow:
    """A Kubeflow Pipelines server, of version 2. A run goes on when this process ends.

    A run's name is looked for before it is submitted, and a run of that name in the same experiment that has not failed is
    attached to. The server itself does not keep names apart: two processes that submit the same name at the same
    moment make two runs.

    The API has no output parameters of a run, only ids of artifacts, so `Run.wait` returns nothing. Results of maps and
    of `fan_out` are in the store; values of a run can be shared through `runwide.Exchange`.

    Args:
        host: URL of the server, such as ``https://pipelines.example.com``.
        namespace: Namespace of the user, on a server with several users.
        experiment: Experiment of the runs; made if it is missing.
        token: Bearer token; None where ``kfp.Client`` finds its own way in.
        pipeline_root: Where kfp itself writes; None for the server's own.
        service_account: Kubernetes service account of the steps.
        enable_caching: False for no caching at all, None for what each pipeline says, True for all steps.
        poll: Seconds between two looks at a run, at first and at most.
        mounts: Folders that all steps see, as a shared volume that ``as_step=`` mounts; a store may be a folder in them.
            Every other store is in a bucket.

    Raises:
        InputError: An option cannot be meant.

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
        if not host.startswith(("http://", "https://")):
            raise InputError(f"{host!r} is not the URL of a server", hint="give https://…")
        first, longest = poll
        if not 0 < first <= longest:
            raise InputError(
                f"poll={tuple(poll)} cannot be meant", hint="give two numbers of seconds, the first no larger"
            )
        self.host = host.rstrip("/")
        self.namespace = namespace
        self.experiment = experiment
        self.pipeline_root = pipeline_root
        self.service_account = service_account
        self.enable_caching = enable_caching
        self.poll = (float(first), float(longest))
        self.mounts = _folders(mounts)
        self._token = token

    def __repr__(self) -> str:
        return f"Kubeflow({self.host!r})"

    def about(self) -> dict[str, Any]:
        """What makes the same engine again, but for the token; see `Engine.about`."""
        names = ("host", "namespace", "experiment", "pipeline_root", "service_account", "enable_caching")
        options = {name: getattr(self, name) for name in names}
        return {"engine": "kubeflow", **options, "poll": list(self.poll), "mounts": list(self.mounts)}

    @cached_property
    def client(self) -> Any:
        """The ``kfp.Client``, made on first use."""
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
            asked = Asked.of(path, loaded)
            self.check_steps(asked)
            self.examine(loaded, arguments or {}, stores=[store])
            if asked.labels:
                path = with_pod_labels(path, Path(folder) / "labelled.yaml")
            if self.enable_caching is not None:
                path = spec.with_caching(path, Path(folder) / "submitted.yaml", enable=self.enable_caching)
            experiment = self._experiment()
            found = self._named(name, experiment) if name else None
            if found is not None:
                _log.info("run.attached", run=found, engine=repr(self))
                return KubeflowRun(self, found)
            title = name or f"{loaded.pipeline_info.name}-{secrets.token_hex(4)}"
            account = asked.account(self.service_account, repr(self))
            run = self._create(path, title, experiment, arguments or {}, account)
        _log.info("run.submitted", run=run, engine=repr(self))
        return KubeflowRun(self, run)

    def check_steps(self, asked: Asked) -> None:
        """Reject what steps ask for and Kubernetes does not have; see `runwide_components.engines.asked`.

        Args:
            asked: What they ask for.

        Raises:
            InputError: There is something.
        """
        refuse_custom_jobs(asked, repr(self))
        asked.check_labels(repr(self), google=False)
        asked.account(self.service_account, repr(self))

    def examine(
        self,
        spec: Any,
        arguments: Mapping[str, Any],
        *,
        stores: Iterable[str | None] = (),
        images: Iterable[str] = (),
    ) -> None:
        """Reject a run whose images have no registry, or whose stores its steps do not see; see `Engine.examine`."""
        refuse_unfit("Kubeflow", spec, arguments, stores=stores, images=images, mounts=self.mounts)

    def attach(self, run: str) -> KubeflowRun:
        """The run of that id; see `Engine.attach`."""
        found = KubeflowRun(self, run)
        found.state()
        return found

    def _experiment(self) -> str:
        made = self.asked(
            lambda: self.client.create_experiment(self.experiment, namespace=self.namespace), self.experiment
        )
        return str(made.experiment_id)

    def _named(self, name: str, experiment: str) -> str | None:
        """Id of the latest run of a name that has not failed."""
        predicate = {"key": "display_name", "operation": "EQUALS", "stringValue": name}

        def find() -> Any:
            return self.client.list_runs(
                page_size=10,
                sort_by="created_at desc",
                experiment_id=experiment,
                namespace=self.namespace,
                filter=json.dumps({"predicates": [predicate]}),
            )

        runs = self.asked(find, name).runs or []
        good = [run.run_id for run in runs if run.state not in ("FAILED", "CANCELED")]
        return good[0] if good else None

    def _create(
        self, path: Path, title: str, experiment: str, arguments: Mapping[str, Any], account: str | None
    ) -> str:
        tried: list[bool] = []

        def create() -> str:
            # whether the answer or the request was lost is not known: look before it is made again
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

        return str(self.asked(create, title))

    def asked(self, call: Callable[[], Any], uri: str) -> Any:
        """What a call returns, made again after errors that pass; what is left is an error of ours.

        Raises:
            EngineError: The server refuses, or does not answer.
        """
        import kfp_server_api
        import urllib3

        def passes(error: Exception) -> bool:
            return (
                isinstance(error, urllib3.exceptions.HTTPError)
                or getattr(error, "status", None) in _TRANSIENT
            )

        try:
            return retried(lambda: _quietly(call), transient=passes, patience=_PATIENCE)
        except kfp_server_api.ApiException as error:
            raise EngineError(
                f"{self.host} refused: {error.status} {error.reason}", uri=uri, hint=_hint(error)
            ) from error
        except (
            urllib3.exceptions.HTTPError,
            TimeoutError,
        ) as error:  # the latter: kfp.Client asked for its health
            raise EngineError(f"{self.host} does not answer: {error}", uri=uri) from error


class KubeflowRun(PolledRun):
    """One run on a Kubeflow Pipelines server; see `Run`."""

    def __init__(self, engine: Kubeflow, run: str) -> None:
        super().__init__(run, engine.poll)
        self._engine = engine
        self._last: Any = None

    @property
    def logs(self) -> str:
        """Its page."""
        return f"{self._engine.host}/#/runs/details/{self.id}"

    def argument(self, name: str) -> Any:
        """An argument of its pipeline; see `Run.argument`."""
        config = self._look().runtime_config
        return ((config and config.parameters) or {}).get(name)

    def _look(self) -> Any:
        self._last = self._engine.asked(lambda: self._engine.client.get_run(self.id), self.id)
        return self._last

    def _ask(self) -> RunState:
        self._look()
        return _STATES.get(str(self._last.state), RunState.RUNNING)

    def _outputs(self) -> dict[str, Any]:
        return {}

    def _failure(self) -> EngineError:
        tasks = (self._last.run_details and self._last.run_details.task_details) or []
        failed = [task for task in tasks if task.state == "FAILED" and not task.child_tasks]
        said = self._last.error.message if self._last.error else None
        if not failed:
            return EngineError(
                f"the run failed: {said or 'the server says no more'}", uri=self.id, hint=f"see {self.logs}"
            )
        first, others = failed[0], f" (and {len(failed) - 1} other steps)" if failed[1:] else ""
        message = (first.error.message if first.error else None) or said or "the server says no more"
        return StepFailed(
            f"{first.display_name}{others} failed: {message}",
            step=first.display_name, log=message, uri=self.id, hint=f"see {self.logs}",
        )  # fmt: skip

    def _cancel(self) -> None:
        self._engine.asked(lambda: self._engine.client.terminate_run(self.id), self.id)


def _folders(mounts: Sequence[str]) -> tuple[str, ...]:
    folders = (mounts,) if isinstance(mounts, str) else tuple(str(folder) for folder in mounts)
    for folder in folders:
        if not folder.startswith("/"):
            raise InputError(
                f"mounts={folder!r} is not a folder of the steps", hint='give one such as "/mnt/shared"'
            )
    return tuple(folder.rstrip("/") or "/" for folder in folders)


def _hint(error: Any) -> str | None:
    return {
        401: "give a valid token",
        403: "look at the namespace and at what this token may do",
        404: "look at the host and the id",
    }.get(error.status)


def _quietly(call: Callable[[], Any]) -> Any:
    """Make a call without what ``kfp.Client`` prints and warns of in the normal course of things."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore", FutureWarning)
        return call()
