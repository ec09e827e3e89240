"""`Local`: pipelines on this machine, each step in a container of its image or in a subprocess.

Each run is a separate process in which kfp.local works (``local_run.py`` says why). It has its own session, so that Ctrl-C
reaches this process first, and cancelling a run ends all its processes.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from kfp.local import DockerRunner

from runwide import settings, systems
from runwide.errors import EngineError, InputError
from runwide.host import cores
from runwide_components.engines import spec
from runwide_components.engines.base import PipelineEngine
from runwide_components.engines.fitting import checked_stores
from runwide_components.engines.local_handle import LocalRun, Request
from runwide_components.engines.local_steps import check_docker
from runwide_components.engines.local_surroundings import (
    absolute_stores,
    credentials_file,
    in_full,
    key_files,
    refuse_stores,
)
from runwide_components.engines.step_options import StepOptions, check_here
from runwide_components.image import base_image

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

_AT_ONCE = 8  # iterations of a loop by default
_DOCKER_OPTIONS = frozenset(
    DockerRunner.DOCKER_CONTAINER_RUN_ARGS - {"image", "command", "volumes", "detach"}
)


class Local(PipelineEngine):
    """An engine on this machine: kfp.local with real concurrency.

    CPUs, memory and accelerators of steps are ignored: the steps share this machine. ``docker=`` sets limits.

    Args:
        runner: ``"docker"``: each step is a container of its image. ``"subprocess"``: each step's command runs as a
            process of this machine, with this Python and its packages instead of the image; a step that starts
            with pip installs into this environment. It works in an empty folder, without this program's environment, search
            path and home, as in a cloud; docs/guide.md has the list.
        parallelism: The largest number of iterations of a loop that run at the same time; None for the ``parallelism=`` of
            `submit`, or else 8.
        mounts: Folders that are mounted in containers at the same path, besides the store of a run.
        docker: Further options of docker-py's ``containers.run``, such as ``{"mem_limit": "1g"}``.
        pipeline_root: Folder for the files of kfp itself, above all artifacts; None for a folder that is removed with the
            run.
        credentials: True to give your application-default credentials, as a read-only file, to the steps of a run with a
            store in a bucket or with secrets of Secret Manager.
        logs: True writes the last 50 lines of a failed step's log to standard error, with its traceback. ``"all"`` writes
            each line of each step at once, after the step's name. False writes neither. The logs of the last 20 failed runs
            are kept in the temporary folder, and the error names the path.

    Raises:
        InputError: The runner is unknown, or an option is invalid.

    Example:
        >>> from kfp import dsl
        >>> from runwide_components import fan_out
        >>> def squares(numbers: list, store: str):
        ...     return fan_out(lambda x: x * x, numbers, components=2, store=store).output
        >>> squares.__annotations__ = {"numbers": list, "store": str, "return": str}
        >>> with tempfile.TemporaryDirectory() as store:
        ...     outputs = Local("subprocess").run(
        ...         dsl.pipeline(name="squares")(squares), numbers=[1, 2, 3], store=store
        ...     )
        ...     runwide.load(outputs["Output"])
        [1, 4, 9]
    """

    def __init__(
        self,
        runner: str = "docker",
        *,
        parallelism: int | None = None,
        mounts: Sequence[str | os.PathLike[str]] = (),
        docker: Mapping[str, Any] | None = None,
        pipeline_root: str | os.PathLike[str] | None = None,
        credentials: bool = True,
        logs: bool | str = True,
    ) -> None:
        if runner not in ("docker", "subprocess"):
            raise InputError(f"invalid runner={runner!r}", hint='give "docker" or "subprocess"')
        if parallelism is not None and parallelism < 1:
            raise InputError(
                f"invalid parallelism={parallelism}: expected 1 or more", hint="give 1 or more, or None"
            )
        if not (isinstance(logs, bool) or logs == "all"):
            raise InputError(f"invalid logs={logs!r}", hint='give True, False or "all"')
        if unknown := set(docker or {}) - _DOCKER_OPTIONS:
            raise InputError(
                f"invalid option {', '.join(sorted(unknown))} in docker=: docker-py's containers.run does not have it, or "
                "runwide sets it"
            )
        self.runner = runner
        self.parallelism = parallelism
        self.mounts = tuple(str(Path(folder).resolve()) for folder in mounts)
        self.options = dict(docker or {})
        self.pipeline_root = None if pipeline_root is None else str(Path(pipeline_root).resolve())
        self.credentials = credentials
        self.logs = logs

    def __repr__(self) -> str:
        return f"Local({self.runner!r})"

    def check(self, image: str | None = None) -> None:
        """Check that steps can run here.

        Args:
            image: An image that Docker must have; None for any.

        Raises:
            EngineError: Docker does not answer, or does not have the image.
        """
        systems.refuse("Local runs steps", hint="name another engine, such as Vertex; or use WSL")
        if self.runner == "docker":
            check_docker(image)

    def run(self, pipeline: Any, /, **arguments: Any) -> dict[str, Any]:
        """Run a pipeline to its end, and return its outputs by name.

        Args:
            pipeline: A ``@dsl.pipeline``, or the path of a compiled one.
            **arguments: Arguments of the pipeline.

        Raises:
            EngineError: As for `Run.wait`.
        """
        with self.submit(pipeline, arguments) as run:
            return run.wait()

    def submit(
        self,
        pipeline: Any,
        arguments: Mapping[str, Any] | None = None,
        *,
        store: str | None = None,
        parallelism: int | None = None,
        name: str | None = None,
        labels: Mapping[str, str] | None = None,  # noqa: ARG002 - a run on this machine is not looked up by labels
    ) -> LocalRun:
        """Start a run; see `Engine.submit`. Its name is only part of its id."""
        self.check()
        folder = Path(tempfile.mkdtemp(prefix=f"runwide-local-{name}-" if name else "runwide-local-"))
        try:
            return self._start(folder, pipeline, arguments or {}, store, parallelism)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise

    check_steps = check_here

    def examine(
        self,
        spec: Any,
        arguments: Mapping[str, Any],
        *,
        stores: Iterable[str | None] = (),
        images: Iterable[str] = (),  # noqa: ARG002 - `check` asks the Docker engine
    ) -> None:
        """Reject a run with a store that its steps cannot reach: relative, or in memory; see `Engine.examine`."""
        refuse_stores(spec, arguments, stores)

    def attach(self, run: str) -> LocalRun:
        """Raise an error: a run on this machine ends with the process that started it.

        Raises:
            EngineError: Always.
        """
        raise EngineError(
            f"run {run} ended with the process that started it",
            hint="stored results are kept: runwide.attach(job) runs the missing shards",
        )

    def about(self) -> dict[str, Any]:
        """Return the arguments of this engine; see `ShardRunner.about`."""
        return {
            "engine": "local", "runner": self.runner, "parallelism": self.parallelism,
            "mounts": list(self.mounts), "docker": self.options, "pipeline_root": self.pipeline_root,
            "credentials": self.credentials,
            "logs": self.logs,
        }  # fmt: skip

    def _start(
        self,
        folder: Path,
        pipeline: Any,
        arguments: Mapping[str, Any],
        store: str | None,
        parallelism: int | None,
    ) -> LocalRun:
        if self.pipeline_root is not None:  # Docker would create it as root
            Path(self.pipeline_root).mkdir(parents=True, exist_ok=True)
        path = spec.compiled(pipeline, folder)
        loaded = spec.loaded(path)
        requested = StepOptions.of(path, loaded)
        self.check_steps(requested)
        arguments = absolute_stores(loaded, arguments)
        self.examine(loaded, arguments, stores=[store])
        stores = [in_full(store), *checked_stores(loaded, arguments)]
        request = Request(
            spec=str(path),
            arguments=arguments,
            runner=self.runner,
            at_once=self.parallelism or parallelism or _AT_ONCE,
            cores=cores().count,
            run=folder.name,
            options=self._docker_options(),
            mounts=[*self.mounts, *_store_folders(stores)],
            root=self.pipeline_root,
            files=self._files_for(stores, secrets=requested.secrets),
            key_files=key_files(),
            images=sorted({base_image(), *spec.images_of(loaded, "runwide")}),
        )
        return LocalRun(folder, request, logs=self.logs)

    def _files_for(self, stores: Iterable[str | None], *, secrets: bool) -> dict[str, str]:
        known = settings.read()
        in_a_bucket = any((uri or "").startswith("gs://") for uri in stores)
        needed = (in_a_bucket and not known.storage_emulator) or (secrets and not known.secret_endpoint)
        found = credentials_file() if self.credentials and needed else None
        return {"GOOGLE_APPLICATION_CREDENTIALS": found} if found else {}

    def _docker_options(self) -> dict[str, Any]:
        if self.runner != "docker":
            return {}
        # the pipeline root and a local store belong to this user, and the image's user could not write there
        options: dict[str, Any] = {"user": f"{os.getuid()}:{os.getgid()}"}
        if settings.read().storage_emulator:
            options["network_mode"] = "host"  # an emulator on this machine listens on the loopback address
        return options | self.options


def _store_folders(uris: Iterable[str | None]) -> list[str]:
    """Create the folders of local stores, so that a container can mount them as this user, and return them."""
    folders = set()
    for uri in uris:
        parts = urlsplit(uri or "")
        if parts.scheme in ("", "file") and parts.path.startswith("/"):
            folder = Path(unquote(parts.path))
            folder.mkdir(parents=True, exist_ok=True)
            folders.add(str(folder))
    return sorted(folders)
