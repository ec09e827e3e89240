"""`Local`: pipelines on this machine, each step in a container of its image or in a subprocess.

A run is a process of its own in which kfp.local works (``local_run.py`` says why), in a session of its own, so
that a Ctrl-C reaches this process first and cancelling takes everything along.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import warnings
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from kfp.local import DockerRunner

from runwide import settings
from runwide.errors import EngineError, InputError, StepFailed
from runwide.host import cores
from runwide.parsing import json_of
from runwide_components.engines import spec
from runwide_components.engines.arguments import checked_stores
from runwide_components.engines.base import RunState
from runwide_components.engines.containers import check_docker
from runwide_components.engines.credentials import credentials_file, key, key_files
from runwide_components.image import base_image

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from types import TracebackType

    from typing_extensions import Self

_AT_ONCE = 8  # iterations of a loop where the caller says nothing
_DOCKER_OPTIONS = frozenset(
    DockerRunner.DOCKER_CONTAINER_RUN_ARGS - {"image", "command", "volumes", "detach"}
)
_ERROR_LINE = re.compile(r"runwide: |[\w.]+(Error|Exception|Exit|Interrupt)\b")
LOG_LINES = 20  # of a log in an error
_CANCEL_SECONDS = 10.0  # from asking a run to stop to killing it; removing a container takes about one


@dataclass(frozen=True, slots=True)
class Request:
    """What one run is to do, as the process that does it reads it.

    Args:
        spec: Path of the compiled pipeline.
        arguments: Arguments of the pipeline.
        runner: ``docker`` or ``subprocess``.
        at_once: Iterations of a loop that run at the same time.
        cores: Physical cores that the steps share.
        run: Label of the run's containers.
        options: Options of docker-py's ``containers.run``.
        mounts: Folders that the containers see at the same path.
        root: Folder for what kfp itself writes; None for one that goes with the run.
        files: Files that containers may read at the same path, by the variable that names each.
        key_files: The same for steps of ours alone.
        images: Images of steps of ours.
    """

    spec: str
    arguments: dict[str, Any]
    runner: str
    at_once: int
    cores: int
    run: str
    options: dict[str, Any] = field(default_factory=dict)
    mounts: list[str] = field(default_factory=list)
    root: str | None = None
    files: dict[str, str] = field(default_factory=dict)
    key_files: dict[str, str] = field(default_factory=dict)
    images: list[str] = field(default_factory=list)


class Local:
    """An engine on this machine, which is kfp.local with real concurrency.

    What steps ask for, CPUs, memory and accelerators, is not heeded: they share this machine. ``docker=`` sets limits.

    Args:
        runner: ``"docker"``: each step is a container of its image. ``"subprocess"``: each step's command runs as a
            process of this machine, by this Python and with its packages, whatever its image; a step that starts
            with pip installs into this environment.
        parallelism: How many iterations of a loop run at the same time; where None, as many as the caller of
            `submit` expects, at most 8 where it says nothing.
        mounts: Folders that containers see at the same path, beside the store of a run.
        docker: Further options of docker-py's ``containers.run``, such as ``{"mem_limit": "1g"}``.
        pipeline_root: Folder for what kfp itself writes, the artifacts of a run above all; where None, it goes with the run.
        credentials: Whether containers of a run with a store in a bucket are given your application-default credentials, as
            a file that they may read and not write.

    Raises:
        InputError: There is no such runner, or some option cannot be meant.

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
    ) -> None:
        if runner not in ("docker", "subprocess"):
            raise InputError(f"there is no runner {runner!r}", hint='say "docker" or "subprocess"')
        if parallelism is not None and parallelism < 1:
            raise InputError(f"parallelism={parallelism} cannot be meant", hint="give 1 or more")
        if unknown := set(docker or {}) - _DOCKER_OPTIONS:
            raise InputError(
                f"containers.run has no option {', '.join(sorted(unknown))}, or we set it ourselves"
            )
        self.runner = runner
        self.parallelism = parallelism
        self.mounts = tuple(str(Path(folder).resolve()) for folder in mounts)
        self.options = dict(docker or {})
        self.pipeline_root = None if pipeline_root is None else str(Path(pipeline_root).resolve())
        self.credentials = credentials

    def __repr__(self) -> str:
        return f"Local({self.runner!r})"

    def check(self, image: str | None = None) -> None:
        """Make sure that the steps can be run.

        Args:
            image: An image that must be there.

        Raises:
            EngineError: No Docker engine answers, or it has no such image.
        """
        if self.runner == "docker":
            check_docker(image)

    def run(self, pipeline: Any, /, **arguments: Any) -> dict[str, Any]:
        """Run a pipeline to its end and return its outputs by name.

        Args:
            pipeline: A ``@dsl.pipeline``, or the path of a compiled one.
            **arguments: Arguments of the pipeline.

        Raises:
            EngineError: As `Run.wait`.
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

    def attach(self, run: str) -> LocalRun:
        """Always an error: a run on this machine ends with the process that started it.

        Raises:
            EngineError: As said.
        """
        raise EngineError(
            f"run {run} ended with the process that started it",
            hint="what its steps had stored is kept: runwide.attach(job) runs what is missing",
        )

    def about(self) -> dict[str, Any]:
        """What makes the same engine again; see `Engine.about`."""
        return {
            "engine": "local",
            "runner": self.runner,
            "parallelism": self.parallelism,
            "mounts": list(self.mounts),
            "docker": self.options,
            "pipeline_root": self.pipeline_root,
            "credentials": self.credentials,
        }

    def _start(
        self,
        folder: Path,
        pipeline: Any,
        arguments: Mapping[str, Any],
        store: str | None,
        parallelism: int | None,
    ) -> LocalRun:
        if self.pipeline_root is not None:  # a container would make it as root
            Path(self.pipeline_root).mkdir(parents=True, exist_ok=True)
        path = spec.compiled(pipeline, folder)
        loaded = spec.loaded(path)
        spec.refuse_custom_jobs(loaded, repr(self))
        stores = [store, *checked_stores(loaded, arguments)]
        request = Request(
            spec=str(path),
            arguments=dict(arguments),
            runner=self.runner,
            at_once=self.parallelism or parallelism or _AT_ONCE,
            cores=cores().count,
            run=folder.name,
            options=self._docker_options(),
            mounts=[*self.mounts, *_store_folders(stores)],
            root=self.pipeline_root,
            files=self._files_for(stores),
            key_files=key_files(),
            images=sorted({base_image(), *spec.images_of(loaded, "runwide")}),
        )
        (folder / "request.json").write_text(json.dumps(asdict(request)))
        return LocalRun(folder)

    def _files_for(self, stores: Iterable[str | None]) -> dict[str, str]:
        if self.runner != "docker":
            return {}
        files: dict[str, str] = {}
        in_a_bucket = any((uri or "").startswith("gs://") for uri in stores)
        if self.credentials and in_a_bucket and not settings.read().storage_emulator:
            found = credentials_file()
            files |= {"GOOGLE_APPLICATION_CREDENTIALS": found} if found else {}
        return files

    def _docker_options(self) -> dict[str, Any]:
        if self.runner != "docker":
            return {}
        # the pipeline root and a local store belong to this user; the image's own could not write there
        options: dict[str, Any] = {"user": f"{os.getuid()}:{os.getgid()}"}
        if settings.read().storage_emulator:
            options["network_mode"] = "host"  # an emulator of this machine listens on its loopback
        return options | self.options


class LocalRun:
    """One run of a pipeline on this machine; see `Run`."""

    outlives_client = False

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._result: dict[str, Any] | None = None
        self._cancelled = False
        with (folder / "run.log").open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "runwide_components.engines.local_run", str(folder)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env={
                    **os.environ,
                    **key(),
                    "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
                },
            )

    @property
    def id(self) -> str:
        """Name of the run; its containers carry it as the label ``runwide.run``."""
        return self._folder.name

    @property
    def logs(self) -> str:
        """Folder of its logs, one file for each step; gone when the run is left."""
        return str(self._folder / "logs")

    def state(self) -> RunState:
        """Where it is now."""
        if self._cancelled:
            return RunState.CANCELLED
        if self._process.poll() is None:
            return RunState.RUNNING
        return RunState.SUCCEEDED if "outputs" in self._read() else RunState.FAILED

    def wait(self, timeout: float | None = None) -> dict[str, Any]:
        """Wait for its end and return the outputs by name; see `Run.wait`."""
        try:
            self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise TimeoutError(f"run {self.id} goes on after {timeout} s") from None
        result = self._read()
        if self._cancelled:
            raise EngineError("the run was cancelled", uri=self.id)
        if "outputs" in result:
            outputs: dict[str, Any] = result["outputs"]
            return outputs
        raise _as_error(result)

    def argument(self, name: str) -> Any:
        """An argument of its pipeline; see `Run.argument`."""
        return json_of((self._folder / "request.json").read_text())["arguments"].get(name)

    def cancel(self) -> None:
        """Stop it, with its processes and containers."""
        if self._process.poll() is not None:
            return
        self._cancelled = True
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(_CANCEL_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def _read(self) -> dict[str, Any]:
        if self._result is None:
            path = self._folder / "result.json"
            self._result = json_of(path.read_text()) if path.exists() else self._died()
        return self._result

    def _died(self) -> dict[str, Any]:
        log = "\n".join((self._folder / "run.log").read_text(errors="replace").splitlines()[-LOG_LINES:])
        return {"error": f"the run ended with exit code {self._process.returncode}", "log": log}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.leave()

    def leave(self) -> None:
        """End it, and remove its files."""
        self.cancel()
        shutil.rmtree(self._folder, ignore_errors=True)

    def __del__(self) -> None:
        process = getattr(self, "_process", None)
        if process is not None and process.returncode is None:
            warnings.warn(
                f"run {self._folder.name} was not waited for", ResourceWarning, source=self, stacklevel=1
            )
            self.__exit__(None, None, None)


def _store_folders(uris: Iterable[str | None]) -> list[str]:
    """The folders of local stores, made so that a container can mount them as this user."""
    folders = set()
    for uri in uris:
        parts = urlsplit(uri or "")
        if parts.scheme in ("", "file") and parts.path.startswith("/"):
            folder = Path(unquote(parts.path))
            folder.mkdir(parents=True, exist_ok=True)
            folders.add(str(folder))
    return sorted(folders)


def _as_error(result: dict[str, Any]) -> EngineError:
    failures = result.get("failures", [])
    if not failures:
        return EngineError(result["error"], hint=_cause(result.get("log", "")) or None)
    first = failures[0]
    others = f" (and {len(failures) - 1} other steps)" if failures[1:] else ""
    cause = f": {line}" if (line := _cause(first["log"])) else ""
    go_on = "what finished is kept: 'runwide rerun JOB' runs the rest here, 'runwide gather JOB --close' goes without it"
    message = f"{first['step']}{others} failed with exit code {first['exitcode']}{cause}"
    return StepFailed(message, hint=go_on if first.get("uri") else None, **first)


def _cause(log: str) -> str:
    """The line of a log that says why: the last one that reads like an error, or the last one.

    In the log of a container, what went to standard output may come after what went to standard error.
    """
    lines = [
        line.strip() for line in log.splitlines() if line.strip() and not line.startswith("{")
    ]  # no lines of logs
    return next(filter(_ERROR_LINE.match, reversed(lines)), lines[-1] if lines else "")
