"""A map on components that its client lost: followed, or taken up, from the job's reference alone."""

from __future__ import annotations

import os
import pty
import re
import signal
import subprocess
import sys
import time
from contextlib import contextmanager

import pytest
from processes import is_alive

import runwide
from runwide.errors import EngineError
from runwide.job import status
from runwide.job.manifest import read_job
from runwide.job.reference import parse
from runwide.store import open_store, records
from runwide_components import Components, Local
from runwide_components.resources import Resources
from runwide_components.runs import cancel, last_record, rejoin
from runwide_components.watch import Watch

pytestmark = pytest.mark.xdist_group("vertex")  # one process pays for the import of Google's client


def waiting(folder: str):
    """A function that marks its item as busy, and ends once the file ``go`` is there."""

    def wait_in(x):
        import time
        from pathlib import Path

        (Path(folder) / f"busy-{x}").touch()
        deadline = time.monotonic() + 60
        while not (Path(folder) / "go").exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        return x * x

    return wait_in


def come(folder, count: int, alive=lambda: True) -> None:
    deadline = time.monotonic() + 90
    while len(list(folder.glob("busy-*"))) < count:
        assert time.monotonic() < deadline
        assert alive()
        time.sleep(0.05)


def killed_client(tmp_path, engine: str, store: str) -> str:
    """Start a map in another process, kill that once its items run, and return the job's reference from its log."""
    (tmp_path / "jobs").mkdir(exist_ok=True)
    program = f"""
import runwide
from runwide_components import Components, Local, Vertex
def wait_in(x):
    import os, time
    from pathlib import Path
    folder = Path({str(tmp_path)!r})
    for pid in (os.getpid(), os.getppid()):  # of the worker and of its step
        (folder / f"pid-{{pid}}").touch()
    (folder / f"busy-{{x}}").touch()
    deadline = time.monotonic() + 60
    while not (folder / "go").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    return x * x
{engine}
runwide.map(wait_in, range(3), on=Components(3, store={store!r}, engine=engine))
"""
    log = tmp_path / "client.log"
    with log.open("w") as stderr:
        client = subprocess.Popen(
            [sys.executable, "-c", program], stderr=stderr, env={**os.environ, "RUNWIDE_LOG": "json"}
        )
    try:
        come(tmp_path, 3, lambda: client.poll() is None)
    finally:
        os.kill(client.pid, signal.SIGKILL)
        client.wait()
    return re.search(r'"job": "(\S+#sha256=[0-9a-f]{64})"', log.read_text())[1]


@pytest.mark.gcs
@pytest.mark.faults
def test_a_job_whose_client_was_killed_is_followed_where_it_runs(vertex, vertex_server, gcs, tmp_path):
    engine = f"""
engine = Vertex("shop", "europe-west1", api_endpoint={vertex_server.url!r},
                pipeline_root="{gcs}/root", poll=(0.1, 0.5))
"""
    job = killed_client(tmp_path, engine, f"{gcs}/jobs")
    (tmp_path / "go").touch()
    assert runwide.attach(job, engine=vertex(), timeout=60) == [0, 1, 4]
    assert len(vertex_server.jobs) == 1
    assert runwide.attach(job) == [0, 1, 4]  # now from the store alone


@pytest.mark.faults
def test_a_job_whose_run_died_with_its_client_is_taken_up_where_it_was(tmp_path, until):
    job = killed_client(tmp_path, 'engine = Local("subprocess")', str(tmp_path / "store"))
    pids = [int(path.name.partition("-")[2]) for path in tmp_path.glob("pid-*")]
    until(lambda: not any(map(is_alive, pids)))  # its steps end with it
    (tmp_path / "go").touch()
    runwide.shard(job, 1, workers=1)
    assert [shard.finished for shard in status(job).shards] == [False, True, False]
    before = {
        path: path.stat().st_mtime_ns
        for path in (tmp_path / "store").rglob("shards/0001/*")
        if path.is_file()
    }
    assert runwide.attach(job, timeout=60) == [0, 1, 4]
    assert before == {path: path.stat().st_mtime_ns for path in before}


def test_a_job_without_a_run_is_an_error_of_its_own(tmp_path):
    job = runwide.scatter(abs, [-1], store=str(tmp_path), shards=1)
    with pytest.raises(EngineError, match=r"no record of where this job runs .*runwide shard .+ 0"):
        runwide.attach(job)


@pytest.mark.gcs
def test_a_run_that_goes_on_times_out_and_can_be_cancelled_from_elsewhere(vertex, gcs, tmp_path):
    place = Components(2, store=f"{gcs}/jobs", engine=vertex(), progress=False)
    job, _ = place.submit(waiting(str(tmp_path)), range(2))
    come(tmp_path, 2)
    with pytest.raises(TimeoutError):
        rejoin(job, engine=vertex(), timeout=0.3, progress=False)
    assert cancel(job, engine=vertex())
    with pytest.raises(EngineError, match="cancelled"):
        vertex().attach(place_run(job)).wait(30)
    assert not cancel(job, engine=vertex())
    (tmp_path / "go").touch()
    assert runwide.attach(job, engine=vertex(), timeout=60) == [0, 1]


@pytest.mark.gcs
def test_an_unsigned_record_ends_and_follows_no_run_of_something_else(vertex, gcs, tmp_path):
    place = Components(1, store=f"{gcs}/jobs", engine=vertex(), progress=False)
    theirs, _ = place.submit(waiting(str(tmp_path)), [0])
    mine = runwide.scatter(abs, [-1], store=f"{gcs}/jobs", shards=1)
    planted = {**last_record(theirs).about, "time": 0.0}
    reference = parse(mine)
    with open_store(reference.folder) as store:
        store.create(
            "runs/000.json", records.written("run", planted, owner=reference.digest, place="runs/000.json")
        )
    with pytest.raises(EngineError, match="names a run of another job"):
        cancel(mine, engine=vertex())
    assert not vertex().attach(place_run(theirs)).state().ended
    assert runwide.attach(mine, engine=vertex(), timeout=60) == [1]  # by a run of its own
    assert cancel(theirs, engine=vertex())


def place_run(job: str) -> str:
    return last_record(job).run


def test_one_bar_counts_the_items_of_all_shards_and_failures_are_logged_as_they_come(tmp_path, capsys):
    job = runwide.scatter(lambda x: 1 // x, [1, 0, 2, 4], store=str(tmp_path), shards=2)
    failing = read_job(job).shard_of(1)
    with Watch(job, progress=True) as watch:
        watch.look()
        assert (watch.done, watch.unfinished) == (0, [0, 1])
        runwide.shard(job, failing, workers=1)
        watch.look()
        assert (watch.done, watch.failed, watch.unfinished) == (2, 1, [1 - failing])
        runwide.shard(job, 1 - failing, workers=1)
        watch.look()
        assert (watch.done, watch.failed, watch.unfinished) == (4, 1, [])
    shown = capsys.readouterr().err
    assert "4/4" in shown
    assert "shards=2/2" in shown
    assert re.search(r"item\.failed.*|.*item.failed", shown)
    assert "ZeroDivisionError" in shown


def test_a_watched_chunk_is_read_once(tmp_path, monkeypatch):
    job = runwide.scatter(abs, range(4), store=str(tmp_path), shards=1)
    runwide.shard(job, 0, workers=1)
    with Watch(job, progress=False) as watch:
        reads = []
        read = type(watch._store).read
        monkeypatch.setattr(
            type(watch._store), "read", lambda self, name, **k: reads.append(name) or read(self, name, **k)
        )
        for _ in range(3):
            watch.look()
    assert len(set(reads)) == 1
    assert len(reads) <= 2


PROGRAM = """
import fcntl, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)  # Ctrl-C on this terminal is for this program
import runwide
from runwide_components import Components, {engine}
def wait_in(x):
    import time
    from pathlib import Path
    folder = Path({folder!r})
    (folder / f"busy-{{x}}").touch()
    deadline = time.monotonic() + 60
    while not (folder / "go").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    return x * x
place = Components(2, store={store!r}, engine={make})
print(runwide.map(wait_in, range(2), on=place))
"""


@contextmanager
def on_a_terminal(program: str):
    """A program that has a terminal of its own, and the other end of that."""
    ours, theirs = pty.openpty()
    # A shell has background jobs ignore SIGINT, and their children with them.
    words = ["env", "--default-signal=INT", sys.executable, "-c", program]
    process = subprocess.Popen(words, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True)
    os.close(theirs)
    try:
        yield process, ours
    finally:
        process.kill()
        process.wait()
        os.close(ours)


def heard(terminal: int, wanted: bytes) -> bytes:
    """Return the output of a program until it contains a text, or ends."""
    said = b""
    deadline = time.monotonic() + 60
    while wanted not in said and time.monotonic() < deadline:
        try:
            said += os.read(terminal, 4096)
        except OSError:  # the program has ended
            break
    return said


@pytest.mark.gcs
@pytest.mark.faults
@pytest.mark.parametrize("answer", ["n", "y"])
def test_ctrl_c_on_a_terminal_asks_whether_the_components_should_end(
    vertex, vertex_server, gcs, tmp_path, answer
):
    make = f"Vertex('shop', 'europe-west1', api_endpoint={vertex_server.url!r}, pipeline_root='{gcs}/root')"
    program = PROGRAM.format(engine="Vertex", make=make, folder=str(tmp_path), store=f"{gcs}/jobs")
    with on_a_terminal(program) as (process, terminal):
        come(tmp_path, 2, lambda: process.poll() is None)
        os.write(terminal, b"\x03")
        assert b"If not, they continue" in heard(terminal, b"they continue")
        os.write(terminal, answer.encode() + b"\n")
        assert b"KeyboardInterrupt" in heard(terminal, b"KeyboardInterrupt")
        process.wait(30)
    (run,) = vertex_server.jobs
    (tmp_path / "go").touch()
    if answer == "n":
        assert vertex().attach(run).wait(60)["Output"]
    else:
        with pytest.raises(EngineError, match="cancelled"):
            vertex().attach(run).wait(60)


@pytest.mark.faults
def test_ctrl_c_ends_a_run_of_this_machine_without_a_question(tmp_path):
    program = PROGRAM.format(
        engine="Local", make="Local('subprocess')", folder=str(tmp_path), store=str(tmp_path / "store")
    )
    with on_a_terminal(program) as (process, terminal):
        come(tmp_path, 2, lambda: process.poll() is None)
        os.write(terminal, b"\x03")
        assert b"goes on" not in heard(terminal, b"KeyboardInterrupt")
        process.wait(30)
    # the fixture of all tests asserts that no process is left


def test_the_user_can_leave_a_run_to_itself(monkeypatch):
    from runwide_components import watch as interrupt

    class Terminal:
        @staticmethod
        def isatty() -> bool:
            return True

    monkeypatch.setattr(sys, "stdin", Terminal())
    asked = []
    monkeypatch.setattr(interrupt.click, "confirm", lambda text, **_: asked.append(text) or False)
    assert not interrupt.wants_to_cancel("3 runs")
    assert asked == ["Cancel 3 runs? If not, they continue"]
    monkeypatch.setattr(interrupt.click, "confirm", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
    assert interrupt.wants_to_cancel("3 runs")
    monkeypatch.setattr(sys, "stdin", None)
    assert interrupt.wants_to_cancel("3 runs")


def test_a_place_can_be_made_from_its_parts(tmp_path):
    place = Components(2, store=str(tmp_path), engine=Local("subprocess"), cpu="2", memory="4G")
    about = place.place.about()["resources"]
    assert Resources.of(about) == place.place.resources
    assert (about["cpu"], about["memory"], about["machine_type"]) == ("2", "4G", None)
