"""An engine that runs shards as processes of this machine: the smallest `ShardRunner`, for tests and as an example.

Each process gets the words that a container would get. The state of a run is in its folder, so any process can attach to it.
"""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runwide import settings
from runwide.errors import EngineError
from runwide.job.runner import PolledRun, RunState
from runwide.json_text import json_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from runwide.job.runner import ShardOptions

_RUNWIDE = [sys.executable, "-c", "from runwide.cli import main; main()"]  # wherever PATH leads
_LOG_LINES = 50


class ProcessEngine:
    """An engine that runs shards as processes of this machine, which continue when this process ends.

    Args:
        folder: Folder for its runs; None for a temporary one.

    Example:
        >>> import runwide
        >>> from runwide_components import Components
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     place = Components(2, store=f"{folder}/store", engine=ProcessEngine(f"{folder}/runs"))
        ...     runwide.map(abs, [-1, -2, 3], on=place)
        [1, 2, 3]
    """

    def __init__(self, folder: str | os.PathLike[str] | None = None) -> None:
        self.folder = Path(folder or tempfile.mkdtemp(prefix="runwide-processes-")).absolute()

    def __repr__(self) -> str:
        return f"ProcessEngine({str(self.folder)!r})"

    def about(self) -> dict[str, Any]:
        """Return the name and the folder; see `ShardRunner.about`."""
        return {"engine": "processes", "folder": str(self.folder)}

    def start(
        self,
        job: str,
        shards: Sequence[int],
        options: ShardOptions,
        resources: Any,  # noqa: ARG002 - the processes share this machine
    ) -> ProcessRun:
        """Start shards; see `ShardRunner.start`."""
        self.folder.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix="run-", dir=self.folder))
        (folder / "run.json").write_text(json.dumps({"job": job, "shards": list(shards)}))
        lanes = min(options.parallelism or len(shards), len(shards))
        for lane in range(lanes):
            words = {index: options.command(job, index)[1:] for index in shards[lane::lanes]}
            _start_lane(folder, lane, words)
        return ProcessRun(folder)

    def attach(self, run: str) -> ProcessRun:
        """Return the run of an id; see `ShardRunner.attach`."""
        folder = self.folder / run
        # an id may come from a record that anyone wrote: it names no other folder
        if folder.parent != self.folder or not (folder / "run.json").is_file():
            raise EngineError("the engine does not know this run", uri=run)
        return ProcessRun(folder)


def _start_lane(folder: Path, lane: int, words: dict[int, list[str]]) -> None:
    """Start a shell that runs some shards one after the other, and writes their exit codes."""
    script = "\n".join(
        f"{shlex.join([*_RUNWIDE, *some])} > shard-{index}.log 2>&1; echo $? > shard-{index}.exit"
        for index, some in words.items()
    )
    # in the background of another shell, so that it is no child of this process
    start = f"sh -c {shlex.quote(script)} < /dev/null > /dev/null 2>&1 & echo $! > lane-{lane}.pid"
    environment = settings.with_variables(
        {"PYTHONPATH": ""}
    )  # as a container, without this program's modules
    subprocess.run(["sh", "-c", start], cwd=folder, env=environment, check=True, start_new_session=True)


class ProcessRun(PolledRun):
    """One run of a `ProcessEngine`.

    Args:
        folder: Folder of the run.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(folder.name, (0.05, 0.5))
        self._folder = folder
        self._about = json_of((folder / "run.json").read_text())

    @property
    def logs(self) -> str:
        """The folder with a log for each shard."""
        return str(self._folder)

    def argument(self, name: str) -> Any:
        """Return the job or its shards; see `Run.argument`."""
        return self._about.get(name)

    def _exits(self) -> dict[int, int]:
        """Return the exit codes of the shards that have ended."""
        codes = {index: self._folder / f"shard-{index}.exit" for index in self._about["shards"]}
        return {
            index: int(text) for index, path in codes.items() if path.exists() and (text := path.read_text())
        }

    def _ask(self) -> RunState:
        if (self._folder / "cancelled").exists():
            return RunState.CANCELLED
        alive = self._groups()
        exits = self._exits()  # read after the processes: a shard may end meanwhile
        if len(exits) < len(self._about["shards"]):
            return RunState.RUNNING if alive else RunState.FAILED
        return RunState.FAILED if any(exits.values()) else RunState.SUCCEEDED

    def _failure(self) -> EngineError:
        failed = [(f"shard {index}", self._log_of(index)) for index, code in self._exits().items() if code]
        return self._failed(failed, "its processes are gone")

    def _log_of(self, index: int) -> str:
        lines = (self._folder / f"shard-{index}.log").read_text(errors="replace").splitlines()
        return "\n".join(lines[-_LOG_LINES:])

    def _groups(self) -> list[int]:
        """Return the process groups of the lanes that still run."""
        found = []
        for path in self._folder.glob("lane-*.pid"):
            with suppress(OSError):
                found.append(os.getpgid(int(path.read_text())))
        return found

    def _cancel(self) -> None:
        (self._folder / "cancelled").touch()
        for group in self._groups():
            with suppress(OSError):
                os.killpg(group, signal.SIGTERM)
