"""The local engine: its replacements of kfp.local's parts, and the end of its runs.

No annotations as strings here: kfp takes those of a pipeline as objects.
"""

import gc
import inspect
import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import pytest
from kfp import compiler, dsl
from kfp.local import (
    docker_task_handler,
    executor_input_utils,
    executor_output_utils,
    logging_utils,
    subprocess_task_handler,
    task_dispatcher,
)
from kfp.local.orchestrator import enhanced_dag_orchestrator, task_spec_utils
from kfp.local.orchestrator.orchestrator_utils import OrchestratorUtils

import runwide
from runwide.errors import EngineError, InputError, StepFailed
from runwide_components import Components, Local, RunState, base_image, fan_out
from runwide_components.engines.local_run import Step
from runwide_components.engines.local_surroundings import credentials_file


def pipeline_of(function):
    """A pipeline of one lightweight component, whose inputs and output it has."""
    return dsl.component(base_image=base_image(), install_kfp_package=False)(function)


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + 60
    while not path.exists():
        assert time.monotonic() < deadline, f"{path} never came"
        time.sleep(0.02)


def test_kfp_local_still_has_the_parts_that_are_replaced():
    ours = list(inspect.signature(Step).parameters)[1:]
    for theirs in (subprocess_task_handler.SubprocessTaskHandler, docker_task_handler.DockerTaskHandler):
        assert list(inspect.signature(theirs).parameters) == ours
    assert task_dispatcher.docker_task_handler is docker_task_handler
    source = inspect.getsource(task_dispatcher)
    assert "subprocess_task_handler.SubprocessTaskHandler" in source
    assert "docker_task_handler.DockerTaskHandler" in source
    assert "logging_utils.indented_print()" in source
    assert "logging_utils.local_logger_context()" in source
    assert callable(logging_utils.indented_print)
    source = inspect.getsource(executor_output_utils.get_outputs_from_executor_output)
    assert "add_type_to_executor_output(\n        executor_input=executor_input," in source
    joined = inspect.getsource(OrchestratorUtils.join_user_inputs_and_defaults)
    assert "dag_inputs_spec.parameters.items()" in joined
    assert "if input_name not in copied_dag_arguments" in joined
    for module in (enhanced_dag_orchestrator, task_spec_utils):
        source = inspect.getsource(module)
        assert "OrchestratorUtils.join_user_inputs_and_defaults(\n" in source
    assert "executor_input_utils.construct_executor_input(\n" in inspect.getsource(task_dispatcher)
    assert list(inspect.signature(executor_input_utils.construct_executor_input).parameters)[1] == "arguments"
    loop = inspect.getsource(enhanced_dag_orchestrator.ParallelExecutor.execute_parallel_tasks)
    assert "self.conservative_max" in loop
    assert "ParallelExecutor()" in inspect.getsource(enhanced_dag_orchestrator.run_enhanced_dag)


def test_nothing_of_kfp_local_is_changed_in_this_process(local):
    def one() -> int:
        return 1

    before = (
        subprocess_task_handler.SubprocessTaskHandler,
        enhanced_dag_orchestrator.ParallelExecutor,
        print,
    )
    assert local().run(pipeline_of(one)) == {"Output": 1}
    after = (subprocess_task_handler.SubprocessTaskHandler, enhanced_dag_orchestrator.ParallelExecutor, print)
    assert before == after


def test_a_compiled_pipeline_runs_from_its_file(local, tmp_path):
    def double(x: int) -> int:
        return 2 * x

    compiler.Compiler().compile(pipeline_of(double), str(tmp_path / "double.yaml"))
    assert local().run(tmp_path / "double.yaml", x=21) == {"Output": 42}


def test_parallelism_of_the_engine_limits_a_loop(local, tmp_path):
    folder = tmp_path / "seen"
    folder.mkdir()
    place = str(folder)

    def crowd(item):
        import time
        from pathlib import Path

        mine = Path(place) / str(item)
        mine.touch()
        time.sleep(0.3)
        present = len(list(Path(place).iterdir()))
        mine.unlink()
        return present

    @dsl.pipeline(name="crowd")
    def pipeline(store: str) -> str:
        return fan_out(crowd, list(range(4)), components=4, store=store).output

    outputs = local(parallelism=1, mounts=(folder,)).run(pipeline, store=str(tmp_path / "store"))
    assert runwide.load(outputs["Output"]) == [1, 1, 1, 1]


def test_a_run_leaves_neither_files_nor_containers(local, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    def one() -> int:
        return 1

    engine = local()
    engine.run(pipeline_of(one))
    assert not list(tmp_path.iterdir())


def test_a_step_that_fails_is_named_with_its_log(local):
    def fail():
        print("about to fail")
        raise RuntimeError("on purpose")

    with pytest.raises(StepFailed, match="fail failed with exit code 1: RuntimeError: on purpose") as caught:
        local().run(pipeline_of(fail))
    assert "about to fail" in caught.value.log


def test_a_command_that_is_not_there_is_named(local):
    @dsl.container_component
    def missing():
        return dsl.ContainerSpec(image=base_image(), command=["no-such-command"])

    with pytest.raises(StepFailed, match="no-such-command") as caught:
        local().run(missing)
    assert caught.value.exitcode == 127


def test_a_run_tells_its_state_and_can_be_cancelled(local, tmp_path):
    def be_busy(mark: str):
        import time
        from pathlib import Path

        Path(mark).touch()
        time.sleep(120)

    with local(mounts=(tmp_path,)).submit(pipeline_of(be_busy), {"mark": str(tmp_path / "busy")}) as run:
        wait_for(tmp_path / "busy")
        assert run.state() is RunState.RUNNING
        with pytest.raises(TimeoutError):
            run.wait(0.1)
        run.cancel()
        assert run.state() is RunState.CANCELLED
        with pytest.raises(EngineError, match="cancelled"):
            run.wait()


def test_a_finished_run_tells_how_it_ended():
    def fail():
        raise RuntimeError

    def one() -> int:
        return 1

    engine = Local("subprocess")
    with engine.submit(pipeline_of(one)) as run:
        assert run.wait() == {"Output": 1}
        assert run.state() is RunState.SUCCEEDED
        assert [path.name for path in Path(run.logs).iterdir()] == ["0001-one.log"]
        run.cancel()  # too late, and no error
        assert run.state() is RunState.SUCCEEDED
    with engine.submit(pipeline_of(fail)) as run:
        with pytest.raises(StepFailed):
            run.wait()
        assert run.state() is RunState.FAILED


def test_a_run_that_no_caller_waits_for_warns_and_ends():
    def be_busy():
        import time

        time.sleep(120)

    run = Local("subprocess").submit(pipeline_of(be_busy))
    with pytest.warns(ResourceWarning, match="no caller waited for the run"):
        run.__del__()


@pytest.mark.faults
def test_a_run_ends_when_the_process_that_started_it_is_killed(local, tmp_path):
    code = f"""
from kfp import dsl
from runwide_components import Local, base_image
@dsl.component(base_image=base_image(), install_kfp_package=False)
def be_busy():
    import time
    open({str(tmp_path / "busy")!r}, "w").close()
    time.sleep(120)
Local({local().runner!r}, mounts=[{str(tmp_path)!r}]).run(be_busy)
"""
    (tmp_path / "program.py").write_text(code)
    folders = tmp_path / "folders"
    folders.mkdir()
    program = subprocess.Popen(
        [sys.executable, str(tmp_path / "program.py")],
        start_new_session=True,
        env={**os.environ, "TMPDIR": str(folders)},
    )
    try:
        wait_for(tmp_path / "busy")
        (folder,) = folders.iterdir()
    finally:
        os.kill(program.pid, signal.SIGKILL)
        program.wait()
    deadline = time.monotonic() + 60
    while folder.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not folder.exists()
    assert not containers_of(folder.name, local().runner)
    # the fixture of all tests asserts that no process is left


@pytest.mark.faults
def test_a_run_whose_client_ends_at_once_ends_before_its_steps_begin(tmp_path):
    # enough files that the run fails, for want of its folder, while it is being removed
    many = tmp_path / "many"
    many.mkdir()
    for number in range(20_000):
        (many / str(number)).touch()
    code = f"""
import os
from kfp import dsl
from runwide_components import Local, base_image
@dsl.component(base_image=base_image(), install_kfp_package=False)
def begin():
    open({str(tmp_path / "begun")!r}, "w").close()
run = Local("subprocess", logs=False).submit(begin)
[folder] = os.scandir(os.environ["TMPDIR"])
os.rename({str(many)!r}, os.path.join(folder, "many"))
os._exit(0)
"""
    (tmp_path / "program.py").write_text(code)
    folders = tmp_path / "folders"
    folders.mkdir()
    subprocess.run(
        [sys.executable, str(tmp_path / "program.py")], check=True, env={**os.environ, "TMPDIR": str(folders)}
    )
    deadline = time.monotonic() + 120
    while any(folders.iterdir()) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert list(folders.iterdir()) == []
    assert not (tmp_path / "begun").exists()


def containers_of(run: str, runner: str) -> list:
    """The containers of a run, once those that are being removed are gone."""
    if runner != "docker":
        return []
    import docker

    client = docker.from_env()
    try:
        deadline = time.monotonic() + 60
        while left := client.api.containers(all=True, filters={"label": f"runwide.run={run}"}):
            if time.monotonic() > deadline:
                break
            time.sleep(0.1)
        return left
    finally:
        client.close()


@pytest.mark.parametrize("text", ["a: 1", "", "{", None], ids=["no-pipeline", "empty", "no-yaml", "missing"])
def test_a_file_that_is_not_a_pipeline_is_rejected(tmp_path, text):
    if text is not None:
        (tmp_path / "not.yaml").write_text(text)
    with pytest.raises(InputError, match="cannot be read as a pipeline"):
        Local("subprocess").run(tmp_path / "not.yaml")


def test_an_argument_that_the_pipeline_does_not_have_is_named():
    def one() -> int:
        return 1

    with pytest.raises(EngineError, match="no_such"):
        Local("subprocess").run(pipeline_of(one), no_such=1)


def test_an_invalid_option_is_rejected():
    with pytest.raises(InputError, match="invalid runner='vm'"):
        Local("vm")
    with pytest.raises(InputError, match="parallelism=0"):
        Local(parallelism=0)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # docker-py leaks the socket
def test_where_no_docker_engine_answers_the_error_says_what_else_there_is(monkeypatch, tmp_path):
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/no.sock")
    with pytest.raises(EngineError, match="no Docker engine answers") as caught:
        Local("docker").check()
    assert 'Local("subprocess")' in caught.value.hint
    del caught
    gc.collect()  # here, where its warning is expected


@pytest.mark.docker
def test_options_of_docker_reach_the_containers(image_of_this_python, monkeypatch):
    monkeypatch.setenv("RUNWIDE_IMAGE", image_of_this_python)

    def limit() -> int:
        from pathlib import Path

        for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
            if Path(path).exists():
                return int(Path(path).read_text())
        raise FileNotFoundError

    assert Local("docker", docker={"mem_limit": "300m"}).run(pipeline_of(limit)) == {"Output": 300 * 2**20}
    with pytest.raises(InputError, match="no_such_option"):
        Local("docker", docker={"no_such_option": 1})


@pytest.fixture
def adc(tmp_path, monkeypatch):
    """Application-default credentials of no account."""
    file = tmp_path / "adc.json"
    file.write_text('{"type": "authorized_user", "refresh_token": "nobodys"}')
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(file))
    monkeypatch.delenv("STORAGE_EMULATOR_HOST", raising=False)
    return file


@pytest.mark.docker
@pytest.mark.parametrize("given", [True, False])
def test_containers_with_a_store_in_a_bucket_may_read_the_credentials(
    image_of_this_python, monkeypatch, adc, capfd, given
):
    monkeypatch.setenv("RUNWIDE_IMAGE", image_of_this_python)

    def look(store: str) -> list:
        import os
        from pathlib import Path

        path = os.environ.get("GOOGLE_APPLICATION_CREDENTIALS")
        if path is None:
            return []
        try:
            Path(path).write_text("")
        except OSError as error:
            return [path, Path(path).read_text(), error.strerror]
        return [path, "written", ""]

    @dsl.pipeline(name="with-credentials")
    def pipeline() -> list:
        return pipeline_of(look)(store="gs://bucket/runs").output

    found = Local("docker", credentials=given).run(pipeline)["Output"]
    assert found == ([str(adc), adc.read_text(), "Read-only file system"] if given else [])
    assert "nobodys" not in "".join(capfd.readouterr())


def test_steps_get_the_credentials_if_a_store_is_in_a_bucket(adc):
    for runner in ("subprocess", "docker"):
        engine = Local(runner)
        assert engine._files_for(["gs://bucket/runs"], secrets=False) == {
            "GOOGLE_APPLICATION_CREDENTIALS": str(adc)
        }
        assert engine._files_for(["/mnt/runs", None], secrets=False) == {}
        assert Local(runner, credentials=False)._files_for(["gs://bucket/runs"], secrets=False) == {}


def has_key() -> str:
    import os

    return str(sorted(name for name in os.environ if "SIGNING_KEY" in name))


@pytest.mark.parametrize("variable", ["RUNWIDE_SIGNING_KEY", "RUNWIDE_SIGNING_KEY_FILE"])
def test_only_steps_of_ours_and_components_in_their_image_are_handed_the_key(variable, monkeypatch, tmp_path):
    key = "a key of no value, of enough characters"
    (tmp_path / "key").write_text(key)
    monkeypatch.setenv(variable, key if variable == "RUNWIDE_SIGNING_KEY" else str(tmp_path / "key"))

    class Outputs(NamedTuple):
        ours: str
        theirs: str
        result: str

    @dsl.pipeline(name="keys")
    def pipeline() -> Outputs:
        kinds = [
            dsl.component(base_image=image, install_kfp_package=False)(has_key)
            for image in ("ours:1", "theirs:1")
        ]
        ours, theirs = (kind() for kind in kinds)
        store = str(tmp_path / "store")
        found = fan_out("math:sqrt", [4], components=1, store=store, image="ours:1", report=False)
        return Outputs(ours=ours.output, theirs=theirs.output, result=found.output)

    outputs = Local("subprocess").run(pipeline)
    assert (outputs["ours"], outputs["theirs"]) == (str([variable]), "[]")
    assert runwide.load(outputs["result"].partition("#")[0]) == [2.0]  # signed, or it would not be believed


@pytest.mark.docker
def test_containers_sign_with_the_key_of_a_file(image_of_this_python, monkeypatch, tmp_path):
    (tmp_path / "key").write_text("a key of no value, of enough characters")
    monkeypatch.setenv("RUNWIDE_SIGNING_KEY_FILE", str(tmp_path / "key"))
    place = Components(1, store=str(tmp_path / "store"), engine=Local("docker"), image=image_of_this_python)
    assert runwide.map(abs, [-1], on=place) == [1]
    (manifest,) = (tmp_path / "store").glob("*/shards/0000/shard.json")
    assert json.loads(manifest.read_text())["mac"] != "00" * 32


def test_credentials_are_where_google_looks_for_them(adc, tmp_path, monkeypatch):
    assert credentials_file() == str(adc)
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS")
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path / "gcloud"))
    assert credentials_file() is None
    (tmp_path / "gcloud").mkdir()
    theirs = tmp_path / "gcloud" / "application_default_credentials.json"
    theirs.write_text("{}")
    assert credentials_file() == str(theirs)
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "none.json"))
    with pytest.raises(InputError, match="names a missing file"):
        credentials_file()


OLD = r"""FROM {image}
USER root
RUN printf '#!/bin/sh\ncase $1 in\n--version) echo runwide, version 0.0.9;;\n' > "$(command -v runwide)"
RUN printf '*) echo "Error: No such option: --new" >&2; exit 2;;\nesac\n' >> "$(command -v runwide)"
"""


@pytest.mark.docker
def test_an_image_of_an_older_release_is_distinguished_from_a_wrong_call(engine, image, tmp_path):
    made, _ = engine.images.build(
        fileobj=io.BytesIO(OLD.format(image=image).encode()), rm=True, network_mode="none"
    )
    try:
        place = Components(1, store=str(tmp_path), engine=Local("docker"), image=made.id, progress=False)
        with pytest.raises(
            StepFailed,
            match=rf"the image has runwide 0\.0\.9, which does not know --new; this is {runwide.__version__}",
        ):
            runwide.map(abs, [1], on=place)
    finally:
        engine.images.remove(made.id, force=True)
