"""A step on this machine gets no more from its client than in a cloud, and its output is shown.

No annotations as strings here: kfp takes those of a pipeline as objects.
"""

import hashlib
import os
import stat
import sys
from pathlib import Path
from typing import List, NamedTuple  # noqa: UP035 - as kfp's users write it

import pytest
from kfp import dsl

import runwide
from runwide.errors import InputError, StepFailed
from runwide_components import Components, Local, Pipelines, base_image, fan_out
from runwide_components.engines import local_logs


def step(function):
    """A lightweight component of a function."""
    return dsl.component(base_image=base_image(), install_kfp_package=False)(function)


@pytest.fixture
def client(tmp_path, monkeypatch):
    """A client whose folder, search path and environment have things of its own."""
    (tmp_path / "client").mkdir()
    (tmp_path / "client" / "module_of_the_client.py").touch()
    (tmp_path / "logs").mkdir()
    monkeypatch.chdir(tmp_path / "client")
    monkeypatch.syspath_prepend(str(tmp_path / "client"))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "client"))
    monkeypatch.setenv("OF_THE_CLIENT", "1")
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example:1")
    monkeypatch.setenv("LC_MESSAGES", "C")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "logs"))
    return tmp_path / "client"


def test_steps_have_nothing_of_their_client_and_a_relative_store_is_the_clients(local, client):
    @dsl.component(base_image=base_image(), install_kfp_package=False)
    def of_the_author(store: str) -> dict:
        import os
        import sys
        from pathlib import Path

        return {
            "directory": str(Path.cwd()), "files": len(list(Path.cwd().iterdir())), "path": sys.path, "store": store,
            "variables": sorted(os.environ),
        }  # fmt: skip

    class Outputs(NamedTuple):
        ours: str
        theirs: dict

    def look(_):
        import os
        import shutil
        import sys
        from pathlib import Path

        return {
            "directory": str(Path.cwd()), "files": len(list(Path.cwd().iterdir())), "path": sys.path,
            "home": len(list(Path.home().iterdir())), "variables": sorted(os.environ),
            "programs": [shutil.which(name) for name in ("runwide", "python3")],
        }  # fmt: skip

    @dsl.pipeline(name="surroundings")
    def surroundings(store: str = "runs") -> Outputs:
        theirs = of_the_author(store=store)
        return Outputs(ours=fan_out(look, [1], components=1, store=store).output, theirs=theirs.output)

    engine = local()
    outputs = engine.run(surroundings)
    (ours,), theirs = runwide.load(outputs["ours"]), outputs["theirs"]
    for found in (ours, theirs):
        assert not any(str(client) in entry for entry in found["path"])
        assert not {"PYTHONPATH", "OF_THE_CLIENT"} & set(found["variables"])
        if engine.runner == "subprocess":
            assert {"HTTPS_PROXY", "LC_MESSAGES", "TMPDIR", "HOME"} <= set(found["variables"])
            assert found["files"] == 0
            assert not Path(found["directory"]).exists()
        else:
            assert not {"HTTPS_PROXY", "LC_MESSAGES"} & set(found["variables"])
    if engine.runner == "subprocess":
        assert ours["directory"] != theirs["directory"]
        assert ours["home"] == 0
        assert ours["programs"] == [
            str(Path(sys.executable).parent / name) for name in ("runwide", "python3")
        ]
    assert theirs["store"] == str(client / "runs")  # a default, made absolute
    assert [one.name for one in client.glob("runs/*/job.json")] == ["job.json"]
    assert not list((client.parent / "logs").iterdir())  # it has not failed


def test_a_relative_store_is_the_clients_on_each_surface(client):
    engine = Local("subprocess")

    @dsl.pipeline(name="doubles")
    def doubles(folder: str) -> str:
        return fan_out(lambda x: 2 * x, [1], components=1, store=folder).output

    assert runwide.load(engine.run(doubles, folder=Path("a"))["Output"]) == [2]
    batch = Pipelines(doubles, engine=engine, store="b", progress=False).map([{"folder": "c"}])
    assert runwide.load(batch[0].outputs["Output"]) == [2]
    assert runwide.map(abs, [-1], on=Components(1, store="d", engine=engine)) == [1]
    (job,) = client.glob("d/*/job.json")
    digest = hashlib.sha256(job.read_bytes()).hexdigest()
    for manifest in client.glob("d/*/shards/*/*.json"):
        manifest.unlink()
    reference = f"{job.relative_to(client)}#sha256={digest}"
    assert runwide.attach(reference, engine=engine) == [1]  # which runs the shard again
    assert {one.parent.parent.name for one in client.glob("*/*/job.json")} == {"a", "c", "d"}


@pytest.mark.parametrize("way", ["loop", "loop-parameter", "text"])
def test_a_relative_store_that_no_argument_is_alone_is_refused(client, way):
    @dsl.pipeline(name="p")
    def p(places: List[str] = ["a"], base: str = "b"):  # noqa: B006, UP006 - as kfp has it
        if way == "text":
            fan_out(abs, [1], components=1, store=f"{base}/runs")
            return
        with dsl.ParallelFor(["a"] if way == "loop" else places) as place:
            fan_out(abs, [1], components=1, store=place)

    with pytest.raises(
        InputError, match=r"the relative store '(a|b/runs)'.*give an absolute path, such as '/"
    ):
        Local("subprocess").submit(p)
    assert not list(client.rglob("job.json"))


def test_a_store_in_memory_is_refused_before_anything_is_written():
    with pytest.raises(InputError, match="the memory of one process"):
        runwide.map(abs, [1], on=Components(1, store="memory://x", engine=Local("subprocess")))


def test_a_step_that_makes_a_relative_store_at_run_time_is_refused_there(client):
    def name() -> str:
        return "runs"

    @dsl.pipeline(name="p")
    def p():
        fan_out(abs, [1], components=1, store=step(name)().output)

    with pytest.raises(
        StepFailed, match="'runs' is a relative folder, and each step of a run has a directory"
    ):
        Local("subprocess", logs=False).run(p)


def fail():
    for number in range(60):
        print("line", number)
    raise RuntimeError("on purpose")


def test_a_failed_step_is_shown_once_and_its_whole_log_stays(client, capsys):
    with Local("subprocess").submit(step(fail)) as run:
        for _ in range(2):
            with pytest.raises(
                StepFailed, match="fail failed with exit code 1: RuntimeError: on purpose"
            ) as caught:
                run.wait()
    error, said = caught.value, capsys.readouterr().err
    assert len(error.log.splitlines()) == 50
    assert "Traceback (most recent call last)" in error.log
    assert said.count("| RuntimeError: on purpose") == 1
    assert said.startswith(f"fail: the last 50 lines of {error.log_path}\n")
    assert f"its whole log is {error.log_path}" in str(error)
    log = Path(error.log_path)
    assert "line 0\n" in log.read_text()
    assert log.parent == Path(run.logs)
    assert stat.S_IMODE(log.parent.parent.stat().st_mode) == 0o700
    assert (log.parent / "run.log").exists()


def test_nothing_is_shown_where_that_is_not_wanted_and_a_batch_names_the_logs(client, capsys):
    engine = Local("subprocess", logs=False)
    (run,) = Pipelines(step(fail), engine=engine, store="runs", progress=False).map([{}], on_error="return")
    assert [path.name for path in Path(run.logs).glob("0*")] == ["0001-fail.log"]
    assert "| RuntimeError" not in capsys.readouterr().err
    with pytest.raises(InputError, match="invalid logs='some'"):
        Local("subprocess", logs="some")


def test_all_lines_of_all_steps_are_shown_as_they_come(local, tmp_path, capsys, monkeypatch):
    (tmp_path / "queue.py").write_text(
        "raise RuntimeError('found in the directory in which the client happens to be')"
    )
    monkeypatch.chdir(tmp_path)

    def talk(mark: str):
        import time
        from pathlib import Path

        print("to be seen before its end", flush=True)
        while not Path(mark).exists():
            time.sleep(0.02)
        print("no end of line", end="")

    with local(logs="all", mounts=(tmp_path,)).submit(step(talk), {"mark": str(tmp_path / "go")}) as run:
        said = ""
        while "talk: to be seen before its end\n" not in said:
            assert not run.state().ended, Path(run.logs)
            said += capsys.readouterr().err
        (tmp_path / "go").touch()
        run.wait()
    assert "talk: no end of line" in capsys.readouterr().err


def test_only_so_many_logs_are_kept(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(local_logs, "RUNS", 3)

    def failed(number, size=1):
        logs = tmp_path / "logs"
        logs.mkdir()
        (logs / "0001-x.log").write_bytes(b"x" * size)
        kept = local_logs.keep(logs, f"run-{number}")
        os.utime(kept, (number, number))
        return kept.parent

    for number in range(1, 6):
        there = failed(number)
    assert {one.name for one in there.iterdir()} == {"run-3", "run-4", "run-5"}
    monkeypatch.setattr(local_logs, "BYTES", 10)
    failed(6, size=20)
    failed(7, size=20)
    assert {one.name for one in there.iterdir()} == {"run-7"}


def test_a_folder_for_logs_that_is_anothers_is_not_used(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / f"runwide-logs-{os.getuid()}").symlink_to(tmp_path / "elsewhere")
    assert local_logs.kept_folder().name.startswith("runwide-logs-")
    assert not local_logs.kept_folder().is_symlink()
