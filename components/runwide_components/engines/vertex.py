"""`Vertex`: pipelines on Vertex AI Pipelines, through Google's client, which is imported on the first submission."""

from __future__ import annotations

import hashlib
import json
import re
import secrets
import tempfile
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from google.protobuf import json_format

from runwide import settings
from runwide.errors import EngineError, InputError
from runwide.log import Log
from runwide_components.engines import spec
from runwide_components.engines.base import PipelineEngine, checked_poll
from runwide_components.engines.calls import Quota
from runwide_components.engines.registry import PROJECT, REGION
from runwide_components.engines.step_options import StepOptions
from runwide_components.engines.vertex_run import Client, VertexRun, authorized, call

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_log = Log("engine")

# "Quotas and limits" of Vertex AI: pipeline jobs may be submitted 60 times a minute in a project and region
_SUBMISSIONS = 60
_NAME = re.compile(r"[a-z][-a-z0-9]{0,127}")
_LABEL = "runwide-spec"
_quotas: dict[tuple[str, str], Quota] = {}


class Vertex(PipelineEngine):
    """Vertex AI Pipelines. Each step runs on its own machine; a run continues when this process ends.

    Steps are not cached by default: a cached step of a job names objects that may have been deleted since. At most 60 runs a
    minute are submitted, the quota of a project and region. Requests that fail with 429, 500, 502, 503 or 504 are repeated
    for 15 minutes. If a run of the given name exists, this client attaches to it, so that a submission whose answer was lost
    does not run twice.

    CPUs, memory and accelerators of a step are part of the pipeline, from ``fan_out(…, cpu=, memory=, accelerator=)`` or
    from kfp's own setters; Vertex chooses the machine. A pipeline spec has no field for a machine type or for Spot capacity,
    so ``fan_out(…, machine_type=, spot=)`` turns each shard into a CustomJob, as Google's own components do: a small step of
    the pipeline starts it and waits for it.

    Args:
        project: Project id; None for ``GOOGLE_CLOUD_PROJECT``.
        location: Region, such as ``europe-west1``; None for ``GOOGLE_CLOUD_REGION`` or ``GOOGLE_CLOUD_LOCATION``.
        pipeline_root: ``gs://bucket/folder`` for the files of kfp itself. With None, Google's client creates a bucket named
            after project and region. Use another bucket than the store's: references in it vouch for the store.
        service_account: The service account of the steps; None for the project's default.
        network: Full name of a VPC network to peer with, ``projects/12345/global/networks/name``.
        labels: Labels of all runs.
        enable_caching: False to cache no step, True to cache all steps, None for the settings of each pipeline.
        failure_policy: ``"slow"``: after a failure, steps that do not depend on the failed one still run; ``"fast"``: no
            step starts after it.
        encryption_key: Full name of a Cloud KMS key for the artifacts of the run.
        poll: Seconds between two looks at a run, at first and at most.
        credentials: Credentials of google.auth; None for the default ones.
        api_endpoint: Another address of the API, used by REST, without credentials if it is not encrypted. None for
            ``CLOUDSDK_API_ENDPOINT_OVERRIDES_AIPLATFORM``, a variable of gcloud, or the address of the region.

    Raises:
        InputError: There is no project or location, or one of them or an option is invalid.

    Example:
        >>> Vertex(project="shop", location="europe-west1", pipeline_root="gs://shop-pipelines/root")
        Vertex('shop', 'europe-west1')
    """

    def __init__(
        self,
        project: str | None = None,
        location: str | None = None,
        *,
        pipeline_root: str | None = None,
        service_account: str | None = None,
        network: str | None = None,
        labels: Mapping[str, str] | None = None,
        enable_caching: bool | None = False,
        failure_policy: str | None = None,
        encryption_key: str | None = None,
        poll: Sequence[float] = (2.0, 30.0),
        credentials: Any = None,
        api_endpoint: str | None = None,
    ) -> None:
        if failure_policy not in (None, "slow", "fast"):
            raise InputError(f"invalid failure_policy={failure_policy!r}", hint='give "slow" or "fast"')
        if pipeline_root is not None and not str(pipeline_root).startswith("gs://"):
            raise InputError(
                "the pipeline root is not in Cloud Storage",
                uri=str(pipeline_root),
                hint="give gs://bucket/folder",
            )
        self.project, self.location = _place(project, location)
        self.pipeline_root = pipeline_root
        self.service_account, self.network = service_account, network
        self.labels = dict(labels or {})
        self.enable_caching = enable_caching
        self.failure_policy = failure_policy
        self.encryption_key = encryption_key
        self.poll = checked_poll(poll)
        self.api_endpoint = api_endpoint or settings.read().vertex_endpoint
        self.credentials = credentials or _none_in_clear(self.api_endpoint)

    def __repr__(self) -> str:
        return f"Vertex({self.project!r}, {self.location!r})"

    def about(self) -> dict[str, Any]:
        """Return the arguments of this engine, without credentials; see `ShardRunner.about`."""
        options = {
            name: getattr(self, name)
            for name in ("project", "location", "pipeline_root", "service_account", "network", "labels",
                         "enable_caching", "failure_policy", "encryption_key", "api_endpoint")
        }  # fmt: skip
        return {"engine": "vertex", **options, "poll": list(self.poll)}

    def submit(
        self,
        pipeline: Any,
        arguments: Mapping[str, Any] | None = None,
        *,
        store: str | None = None,
        parallelism: int | None = None,  # noqa: ARG002 - it is in the spec, or the project's quota of CPUs
        name: str | None = None,
        labels: Mapping[str, str] | None = None,
    ) -> VertexRun:
        """Start a run, or attach to the one of that name; see `Engine.submit`.

        Raises:
            EngineError: Vertex refuses, or the run of that name is of another pipeline or of other arguments.
        """
        with tempfile.TemporaryDirectory(prefix="runwide-vertex-") as folder:
            path, loaded = _template(pipeline, Path(folder))
            wanted = StepOptions() if loaded is None else StepOptions.of(Path(path), loaded)
            self.check_steps(wanted)
            self.examine(loaded, arguments or {}, stores=[store])
            client = self._client()
            marks = {**dict(wanted.labels), **(labels or {})}
            job = self._job(client, path, dict(arguments or {}), name, marks)
        try:
            self._create(job, wanted.account(self.service_account, repr(self)))
        except client.exceptions.Conflict:
            return self._existing(client, job)
        _log.info("run.submitted", run=job.job_id, engine=repr(self))
        return VertexRun(self, client, self._full_name(job.job_id))

    def check_steps(self, requested: StepOptions) -> None:
        """Reject options of steps that Vertex does not support; see `runwide_components.engines.step_options`.

        Args:
            requested: Options that the steps request.
        """
        if requested.platforms or requested.kubernetes:
            what = ", ".join(requested.kubernetes) or f"options of {', '.join(requested.platforms)}"
            raise InputError(
                f"{self!r} does not support {what}: they are in a second YAML document, which Google's client cannot load",
                hint="leave them out, or use Kubeflow; for secrets, use Secret Manager",
            )
        requested.check_labels(repr(self), google=True)
        requested.account(self.service_account, repr(self))

    def attach(self, run: str) -> VertexRun:
        """Return the run of an id; see `ShardRunner.attach`."""
        name = run if "/" in run else self._full_name(run)
        if name != self._full_name(name.rpartition("/")[2]):
            raise EngineError(
                f"this run does not belong to {self!r}",
                uri=run,
                hint="give the id alone, or an engine with the project and location of the run",
            )
        found = VertexRun(self, self._client(), name)
        found.state()
        return found

    def _client(self) -> Client:
        client = Client()
        # settings of aiplatform are global: other users of it in this process keep theirs where possible
        if self.api_endpoint is not None:
            client.aiplatform.init(
                project=self.project,
                location=self.location,
                credentials=self.credentials,
                api_endpoint=self.api_endpoint,
                api_transport="rest",
            )
        return client

    def _job(
        self,
        client: Client,
        path: str,
        arguments: dict[str, Any],
        name: str | None,
        labels: Mapping[str, str],
    ) -> Any:
        if name is not None and not _NAME.fullmatch(name):
            raise InputError(
                f"invalid name {name!r} of a run on Vertex",
                hint="use at most 128 lower-case letters, digits and hyphens, a letter first",
            )
        try:
            with authorized(f"{self.project}/{self.location}"):
                job = client.pipeline_jobs.PipelineJob(
                    display_name=name or "",
                    template_path=path,
                    job_id=name,
                    pipeline_root=self.pipeline_root,
                    parameter_values=arguments,
                    enable_caching=self.enable_caching,
                    encryption_spec_key_name=self.encryption_key,
                    project=self.project,
                    location=self.location,
                    credentials=self.credentials,
                    failure_policy=self.failure_policy,
                )
        except ValueError as error:
            raise InputError(
                f"Google's client rejects the pipeline or its arguments: {error}", uri=path
            ) from error
        if name is None:  # Google's id has the time in seconds, which is not unique
            job.job_id = f"{job.job_id[:119]}-{secrets.token_hex(4)}"
        resource = job._gca_resource  # noqa: SLF001 - the client shows the request nowhere else
        resource.display_name = job.job_id
        resource.labels = {**self.labels, **labels, _LABEL: _fingerprint(resource)}
        return job

    def _create(self, job: Any, account: str | None) -> None:
        quota = _quotas.setdefault((self.project, self.location), Quota(_SUBMISSIONS))

        resource = job._gca_resource  # noqa: SLF001 - the request of `PipelineJob.submit`, which itself ignores even Ctrl-C
        resource.service_account = account or ""
        resource.network = self.network or ""
        if self.pipeline_root is None:  # a named bucket exists; few accounts may look it up
            self._make_default_bucket(resource.runtime_config.gcs_output_directory, account)

        def create() -> None:
            quota.take()
            job.api_client.create_pipeline_job(
                parent=f"projects/{self.project}/locations/{self.location}",
                pipeline_job=resource,
                pipeline_job_id=job.job_id,
            )

        call(create, f"{self.project}/{self.location}")

    def _make_default_bucket(self, folder: str, account: str | None) -> None:
        gcs_utils = import_module("google.cloud.aiplatform.utils.gcs_utils")
        try:
            gcs_utils.create_gcs_bucket_for_pipeline_artifacts_if_it_does_not_exist(
                output_artifacts_gcs_dir=folder,
                service_account=account,
                project=self.project,
                location=self.location,
                credentials=self.credentials,
            )
        except Exception as error:  # it asks several services
            raise EngineError(
                f"Google's client cannot create the bucket for the pipeline's files: {error}",
                uri=folder,
                hint="give pipeline_root=gs://bucket/folder",
            ) from error

    def _existing(self, client: Client, job: Any) -> VertexRun:
        ours = job._gca_resource.labels[_LABEL]  # noqa: SLF001 - likewise
        run = VertexRun(self, client, self._full_name(job.job_id))
        theirs = run.resource().labels.get(_LABEL)
        if theirs != ours:
            raise EngineError(
                "a run of this name exists, with another pipeline or other arguments",
                uri=run.id,
                hint="give another name",
            )
        _log.info("run.attached", run=job.job_id, engine=repr(self))
        return run

    def _full_name(self, run: str) -> str:
        return f"projects/{self.project}/locations/{self.location}/pipelineJobs/{run}"


def _place(project: str | None, location: str | None) -> tuple[str, str]:
    """Return the project and the region, by default from the environment; raise one error for both."""
    project = project or settings.value("GOOGLE_CLOUD_PROJECT")
    location = location or settings.value("GOOGLE_CLOUD_REGION") or settings.value("GOOGLE_CLOUD_LOCATION")
    wrong = []
    if not project:
        wrong.append("Vertex needs a project, and neither project= nor GOOGLE_CLOUD_PROJECT names one")
    elif not PROJECT.fullmatch(str(project)):
        wrong.append(f"project={project!r} is not a project id")
    if not location:
        wrong.append("Vertex needs a location, and neither location= nor GOOGLE_CLOUD_REGION names one")
    elif not REGION.fullmatch(str(location)):
        wrong.append(f"location={location!r} is not a region")
    if wrong:
        raise InputError("; ".join(wrong), hint='give both, such as Vertex("my-shop", "europe-west1")')
    return str(project), str(location)


def _none_in_clear(api_endpoint: str | None) -> Any:
    """Return anonymous credentials for an address without encryption; None, the default ones, for others."""
    if api_endpoint is None or not api_endpoint.startswith("http://"):
        return None
    return import_module("google.auth.credentials").AnonymousCredentials()


def _template(pipeline: Any, folder: Path) -> tuple[str, Any]:
    """Return the path or URL of the compiled pipeline, and its spec; None for a URL."""
    if isinstance(pipeline, str) and pipeline.startswith(("https://", "gs://")):
        return pipeline, None  # Google's client reads it with its credentials
    path = spec.compiled(pipeline, folder)
    return str(path), spec.loaded(path)


def _fingerprint(resource: Any) -> str:
    """Return a digest of a run: of its spec, its arguments and the place of its outputs, without the key of the run."""
    about = json_format.MessageToDict(resource._pb)  # noqa: SLF001 - the protobuf message
    about.get("runtimeConfig", {}).get("parameterValues", {}).pop("run_key", None)
    kept = spec.without_places(
        {name: about.get(name) for name in ("pipelineSpec", "runtimeConfig", "templateUri")}
    )
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()[:32]
