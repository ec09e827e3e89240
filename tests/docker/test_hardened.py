"""Every way to start a component works with as little as a careful cluster gives it.

No ``from __future__ import annotations`` here: kfp reads the annotations of nested functions as objects.
"""

import importlib.util
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.docker

HARDENED = {
    "user": "4321:4321",
    "read_only": True,
    "cap_drop": ["ALL"],
    "security_opt": ["no-new-privileges"],
    "network_mode": "none",
    "mem_limit": "512m",
    "memswap_limit": "512m",
    "shm_size": "64m",
    "pids_limit": 128,
    "tmpfs": {"/tmp": "size=64m,mode=1777"},
}
# kfp's outputs belong to the calling user, and kfp unpacks a lightweight component below /tmp.
AS_KFP_RUNS_IT = {key: value for key, value in HARDENED.items() if key != "user"}


@pytest.fixture
def kfp_hardened(tmp_path):
    """kfp.local with hardened containers, as a user whom the image does not know but who owns the pipeline root."""
    from kfp import local

    tmp_path.chmod(0o777)
    runner = local.DockerRunner(user=f"{os.getuid()}:{os.getgid()}", **AS_KFP_RUNS_IT)
    local.init(
        runner=runner,
        pipeline_root=str(tmp_path / "root"),
        workspace_root=str(tmp_path / "workspace"),
        raise_on_error=True,
    )


@pytest.fixture
def started(engine, image):
    """Start a hardened container; it is removed after the test."""
    containers = []

    def start(*command: str, **options):
        container = engine.containers.create(image, list(command), **{**HARDENED, **options})
        containers.append(container)
        container.start()
        return container

    yield start
    for container in containers:
        container.remove(force=True)


def said(container) -> str:
    return container.logs().decode()


JOB = """
set -e
cd /tmp
printf 'def square(x):\\n    return x * x\\n' > mine.py
job=$(runwide scatter --function mine:square --items-json '[1, 2, 3, 4]' --store /tmp/store --shards 2)
runwide shard "$job" 0
runwide shard "$job" 1
runwide gather "$job" > result
python3 -c 'import runwide; print(runwide.load(open("result").read().strip()))'
"""


@pytest.mark.parametrize("user", ["1000", "4321:4321", "0", "2000000000:0"])
def test_scatter_shards_and_gather_need_no_more(started, user):
    container = started("sh", "-c", JOB, user=user)
    assert container.wait(timeout=120)["StatusCode"] == 0, said(container)
    assert said(container).splitlines()[-1] == "[1, 4, 9, 16]"


ALL_IN_SHARED_MEMORY = """
set -e
runwide doctor >/dev/null
runwide cores --json >/dev/null
python3 -c 'import tempfile; print(tempfile.gettempdir())'
python3 - <<'PROGRAM'
import tempfile, runwide
def task(x):
    with tempfile.NamedTemporaryFile() as file:
        return len(x), file.name.rpartition("/")[0]
print(runwide.map(task, [bytes(1 << 20), b""], workers=2))
PROGRAM
"""


@pytest.mark.parametrize("user", ["1000", "4321:4321", "0"])
def test_shared_memory_is_enough_where_nothing_else_can_be_written(started, user):
    container = started("sh", "-c", ALL_IN_SHARED_MEMORY, user=user, tmpfs={})
    assert container.wait(timeout=120)["StatusCode"] == 0, said(container)
    assert said(container).splitlines() == ["/dev/shm", f"[({1 << 20}, '/dev/shm'), (0, '/dev/shm')]"]


@pytest.mark.parametrize("user", ["1000", "4321:4321", "0"])
def test_a_job_needs_no_tmpfs(started, user):
    container = started("sh", "-c", JOB.replace("/tmp", "/dev/shm"), user=user, tmpfs={})
    assert container.wait(timeout=120)["StatusCode"] == 0, said(container)
    assert said(container).splitlines()[-1] == "[1, 4, 9, 16]"


@pytest.mark.mounts
@pytest.mark.parametrize("install_kfp_package", [True, False], ids=["pip-step", "no-pip-step"])
def test_a_lightweight_component_needs_no_more(image, kfp_hardened, install_kfp_package):
    from kfp import dsl

    @dsl.component(base_image=image, install_kfp_package=install_kfp_package)
    def total(numbers: list) -> int:
        import runwide

        return int(sum(runwide.map(lambda x: x * x, numbers)))

    assert total(numbers=[1, 2, 3]).output == 14


@pytest.mark.mounts
def test_a_container_component_needs_no_more(image, kfp_hardened):
    from kfp import dsl

    @dsl.container_component
    def doctor(found: dsl.OutputPath(str)):
        return dsl.ContainerSpec(
            image=image,
            command=["sh", "-c", 'mkdir -p "$(dirname "$0")" && runwide doctor --json > "$0"'],
            args=[found],
        )

    assert json.loads(doctor().outputs["found"])["ok"] is True


@pytest.fixture
def kfp_builds(engine, image):
    """`kfp component build`, and remove its containers and intermediate images."""
    built = []

    def build(folder: Path, tag: str) -> None:
        built.append(tag)
        kfp = [Path(sys.executable).with_name("kfp"), "component", "build", folder, "--no-push-image"]
        ran = subprocess.run(
            [*kfp, "--component-filepattern", "scoring.py"],
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        assert ran.returncode == 0, ran.stdout[-2000:] + ran.stderr[-2000:]

    before = {container.id for container in engine.containers.list(all=True, ignore_removed=True)}
    yield build
    ended = {"ancestor": image, "status": ["exited", "created"]}
    # Other tests remove their containers meanwhile.
    for container in engine.containers.list(all=True, filters=ended, ignore_removed=True):
        command = container.attrs["Config"]["Cmd"] or []
        # The command of a RUN in a Dockerfile.
        if container.id not in before and command[:2] == ["/bin/sh", "-c"]:
            container.remove(force=True)
    for tag in built:
        if engine.images.list(tag):
            engine.images.remove(tag, force=True)


@pytest.mark.mounts
def test_a_containerised_component_that_kfp_builds_on_the_image_needs_no_more(
    image, kfp_builds, kfp_hardened, tmp_path
):
    """``target_image``: the function is in a module of an image that ``kfp component build`` builds on ours."""
    folder, tag = tmp_path / "context", "runwide-test-scoring:1"
    folder.mkdir()
    (folder / "scoring.py").write_text(
        "import runwide\nfrom kfp import dsl\n\n\n"
        "def double(x):\n    return 2 * x\n\n\n"
        f"@dsl.component(base_image={image!r}, target_image={tag!r}, install_kfp_package=False)\n"
        "def score(numbers: list) -> int:\n"
        "    return int(sum(runwide.map(double, numbers)))\n"
    )
    kfp_builds(folder, tag)
    spec = importlib.util.spec_from_file_location("scoring", folder / "scoring.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.score.component_spec.implementation.container.image == tag
    assert module.score(numbers=[1, 2, 3]).output == 12


DRAINING = """
import time, runwide
from pathlib import Path

def task(x):
    open(f"/tmp/began-{x}", "x").close()
    time.sleep(2)
    open(f"/tmp/ended-{x}", "x").close()
    return x

try:
    runwide.map(task, range(1000), workers=2, chunksize=1)
finally:
    began, ended = ({path.name[6:] for path in Path("/tmp").glob(f"{word}-*")} for word in ("began", "ended"))
    print(len(began) >= 2 and began == ended, flush=True)
"""


def test_sigterm_lets_running_tasks_end_and_the_container_exits_with_143_within_the_grace(started):
    container = started("python3", "-c", DRAINING)
    deadline = time.monotonic() + 60
    while container.exec_run(["test", "-e", "/tmp/began-1"]).exit_code:
        assert time.monotonic() < deadline, said(container)
        time.sleep(0.1)
    begin = time.monotonic()
    container.stop(timeout=60)
    took = time.monotonic() - begin
    assert container.wait(timeout=60)["StatusCode"] == 143
    assert took < 30
    assert said(container).splitlines()[-1] == "True", said(container)


def test_sigterm_ends_a_shard_with_143_and_a_second_run_of_it_computes_only_the_rest(started):
    program = """
set -e
cd /tmp
cat > mine.py <<'MODULE'
import time
def slow(x):
    open(f"/tmp/ran-{x}", "a").write("x")
    time.sleep(1)
    return x
MODULE
job=$(runwide scatter --function mine:slow --items-json '[0, 1, 2, 3, 4, 5]' --store /tmp/store --shards 1)
runwide shard "$job" 0 --workers 1 & shard=$!
while ! [ -e /tmp/ran-2 ]; do sleep 0.1; done
kill -TERM $shard
code=0; wait $shard || code=$?
echo "stopped with $code"
runwide shard "$job" 0 --workers 1
runwide gather "$job" > result
python3 -c 'import runwide; print(runwide.load(open("result").read().strip()))'
cat /tmp/ran-0
"""
    container = started("bash", "-c", program)
    assert container.wait(timeout=120)["StatusCode"] == 0, said(container)
    lines = said(container).splitlines()
    assert "stopped with 143" in lines
    assert "[0, 1, 2, 3, 4, 5]" in lines
    assert lines[-1] == "x", "an item that had finished was computed again"
