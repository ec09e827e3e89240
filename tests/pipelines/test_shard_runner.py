"""An engine that runs containers is one file without kfp: `ProcessEngine`, used through `Components`."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

import runwide
from runwide.cli import cli
from runwide.errors import EngineError, InputError, StepFailed
from runwide.testing.engine import ProcessEngine, ProcessRun
from runwide_components import Components, RunState
from runwide_components.cli_options import engine_from
from runwide_components.engines.registry import engine_of
from runwide_components.runs import cancel


@pytest.fixture
def engine(tmp_path, until):
    made = ProcessEngine(tmp_path / "runs")
    yield made
    for folder in made.folder.glob("run-*"):
        run = made.attach(folder.name)
        run.cancel()
        until(lambda run=run: not run._groups())


@pytest.fixture
def place(engine, tmp_path):
    def make(components: int, **options) -> Components:
        return Components(components, store=str(tmp_path / "store"), engine=engine, progress=False, **options)

    return make


@pytest.fixture
def registered(tmp_path, monkeypatch):
    """Register the engine as an installed package does: by one line of its metadata."""
    about = tmp_path / "packages" / "processes-1.0.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: processes\nVersion: 1.0\n")
    line = "[runwide.engines]\nprocesses = runwide.testing.engine:ProcessEngine\n"
    (about / "entry_points.txt").write_text(line)
    monkeypatch.syspath_prepend(about.parent)


def waiting(folder: Path):
    """A function that marks its item as busy, and ends once the file ``go`` is there."""
    place = str(folder)

    def wait_in(x):
        (Path(place) / f"busy-{x}").touch()
        deadline = time.monotonic() + 60
        while not (Path(place) / "go").exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        return x * x

    return wait_in


def test_importing_the_engine_imports_neither_kfp_nor_the_components():
    program = """
import sys
import runwide.testing.engine
print([name for name in sys.modules if name.partition(".")[0] in ("kfp", "runwide_components")])
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_a_map_returns_results_in_the_order_of_its_items(place):
    assert runwide.map(lambda x: x * x, range(5), on=place(3), workers=1) == [0, 1, 4, 9, 16]


def test_shards_share_the_lanes_that_parallelism_allows(place, engine):
    assert runwide.map(lambda x: x, range(3), on=place(3, parallelism=1), workers=1) == [0, 1, 2]
    assert len(list(engine.folder.rglob("lane-*.pid"))) == 1


def test_results_arrive_as_shards_store_them(place):
    found = runwide.imap_unordered(lambda x: x * x, range(4), on=place(2), workers=1)
    assert sorted(found) == [0, 1, 4, 9]


def test_a_client_attaches_to_a_run_through_the_registered_engine(place, engine, tmp_path, registered):
    job, run = place(2).submit(waiting(tmp_path), range(2))
    found = engine_of(engine.about())
    assert found.about() == engine.about()
    assert found.attach(run.id).state() is RunState.RUNNING
    (tmp_path / "go").touch()
    assert runwide.attach(job, engine=found, timeout=60, progress=False) == [0, 1]
    assert found.attach(run.id).state() is RunState.SUCCEEDED


def test_an_engine_that_no_package_registers_is_an_error(engine):
    with pytest.raises(InputError, match=r"unknown engine 'cluster'.*runwide\.engines"):
        engine_of({"engine": "cluster"})
    for run in ("run-0", "/tmp", "a/b"):
        with pytest.raises(EngineError, match="does not know this run"):
            engine.attach(run)


def test_an_unsigned_record_names_a_registered_engine_whose_options_are_not_trusted(
    place, engine, tmp_path, registered, monkeypatch
):
    job, run = place(1).submit(waiting(tmp_path), [1], name="pe")
    for call in (cancel, runwide.attach):
        with pytest.raises(
            EngineError, match=r"'processes' is registered, but .* not signed.*give .*engine="
        ):
            call(job)
    # an engine whose record has only its defaults needs nothing of the record
    made = ProcessEngine.__init__
    monkeypatch.setattr(
        ProcessEngine, "__init__", lambda self, folder=None: made(self, folder or engine.folder)
    )
    assert cancel(job)
    assert run.state() is RunState.CANCELLED


def test_a_command_takes_a_registered_engine_with_its_defaults(registered):
    assert isinstance(engine_from("processes"), ProcessEngine)
    with pytest.raises(InputError, match="--host is an option of --engine kubeflow, not of processes"):
        engine_from("processes", host="https://x")
    done = CliRunner().invoke(cli, ["cancel", "x", "--engine", "nosuch"])
    assert (
        "unknown engine 'nosuch': expected one of docker, subprocess, vertex, kubeflow, proc" in done.output
    )


class Flaky(ProcessEngine):
    """Its runs do not answer some times."""

    silent = 1

    def start(self, *args) -> FlakyRun:
        run = super().start(*args)
        run.__class__ = FlakyRun
        run.left = self.silent
        return run


class FlakyRun(ProcessRun):
    patience = 0.3
    left = 0

    def _ask(self) -> RunState:
        self.left -= 1
        if self.left >= 0:
            raise ConnectionError("flaky")
        return super()._ask()


def test_a_service_that_is_silent_for_a_short_time_does_not_end_a_map(tmp_path, monkeypatch):
    place = Components(1, store=str(tmp_path / "store"), engine=Flaky(tmp_path / "runs"), progress=False)
    assert runwide.map(abs, [-1], on=place, workers=1) == [1]
    monkeypatch.setattr(Flaky, "silent", 10**6)
    _, run = place.submit(abs, [-1])
    for ask in (run.state, run.wait):
        with pytest.raises(EngineError, match=rf"FlakyRun: .*not answered for 0.3 s.*flaky \[{run.id}\]"):
            ask()
    with pytest.raises(TimeoutError, match="does not answer"):
        run.wait(0.1)
    run.left = 0
    run.wait(60)


def test_an_engine_that_starts_no_run_is_an_error_of_the_engine(place, monkeypatch):
    monkeypatch.setattr(ProcessEngine, "start", lambda *_: None)
    with pytest.raises(EngineError, match=r"ProcessEngine.start returned None: expected a run with an id"):
        runwide.map(abs, [1], on=place(1))


def test_a_failed_shard_is_an_error_with_its_log_and_runs_again_with_the_same_name(place, tmp_path):
    mark = tmp_path / "killed"

    def kill_shard_once(x):
        if x == 1 and not mark.exists():
            mark.touch()
            os.kill(os.getppid(), signal.SIGKILL)
            time.sleep(60)
        return x

    with pytest.raises(StepFailed, match=r"^shard \d failed"):
        runwide.map(kill_shard_once, range(2), on=place(2), name="once", workers=1)
    assert runwide.map(kill_shard_once, range(2), on=place(2), name="once", workers=1) == [0, 1]


def test_an_item_that_fails_raises_its_own_exception(place):
    def divide(x):
        return 1 // x

    with pytest.raises(ZeroDivisionError):
        runwide.map(divide, range(2), on=place(2), workers=1)


def test_a_run_is_cancelled_by_its_job(place, engine, tmp_path, until):
    job, run = place(2).submit(waiting(tmp_path), range(2))
    until(lambda: len(list(tmp_path.glob("busy-*"))) == 2)
    assert cancel(job, engine=engine)
    assert run.state() is RunState.CANCELLED
    with pytest.raises(EngineError, match="cancelled"):
        run.wait(10)
    until(lambda: not run._groups())
    assert not cancel(job, engine=engine)
