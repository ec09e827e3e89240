"""The image serves components under any user, with few rights and resources."""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

import runwide

pytestmark = pytest.mark.docker

ROOT = Path(__file__).parents[2]
LOCKED = "/opt/runwide/locked"
HARDENED = {
    "user": "4321:4321",
    "read_only": True,
    "cap_drop": ["ALL"],
    "security_opt": ["no-new-privileges"],
    "network_mode": "none",
    "mem_limit": "512m",
    "shm_size": "64m",
    "tmpfs": {"/tmp": "size=64m"},
}
# The command that kfp runs before the function of a lightweight component.
PIP_STEP = "python3 -m pip install --quiet --no-warn-script-location 'kfp=={kfp}' --no-deps"


@dataclass(frozen=True)
class Ran:
    status: int
    out: str
    err: str


@pytest.fixture
def run(engine, image):
    """Run a command in a new container, without a network unless a test asks for one."""

    def run(*command: str, **options) -> Ran:
        container = engine.containers.create(image, list(command), **{"network_mode": "none", **options})
        try:
            container.start()
            status = container.wait(timeout=120)["StatusCode"]
            out, err = (container.logs(stdout=std, stderr=not std).decode() for std in (True, False))
            return Ran(status, out, err)
        finally:
            container.remove(force=True)

    return run


def at(folder: Path) -> dict[str, dict[str, str]]:
    """Mount a folder in the container, at the same path."""
    return {str(folder): {"bind": str(folder), "mode": "ro"}}


# cores, Python and packages


def test_cores_are_counted_in_it(run):
    ran = run("runwide", "cores", "--json")
    assert ran.status == 0, ran.err
    assert json.loads(ran.out)["count"] >= 1


@pytest.mark.parametrize(
    "limit", [{"nano_cpus": 1_000_000_000}, {"cpuset_cpus": "0"}], ids=["quota", "cpuset"]
)
def test_a_limit_of_one_cpu_makes_one_worker(run, limit):
    assert json.loads(run("runwide", "cores", "--json", **limit).out)["count"] == 1


COUNTED = "import loky, os; print(loky.cpu_count(), os.environ['LOKY_MAX_CPU_COUNT'])"


def test_joblib_and_loky_get_the_number_of_cores(run):
    """Without that, loky rounds 1.05 CPUs up to two."""
    limit = {"nano_cpus": 1_050_000_000}
    assert run("python3", "-c", COUNTED, **limit) == Ran(0, "1 1\n", "")
    assert run("python3", "-c", COUNTED, **limit, **HARDENED) == Ran(0, "1 1\n", "")


def test_the_users_own_count_is_kept_in_it(run):
    assert run("python3", "-c", COUNTED, environment={"LOKY_MAX_CPU_COUNT": "1"}).out == "1 1\n"


def test_a_program_that_does_not_count_loads_nothing_of_runwide_in_it(run):
    program = "import sys; print([name for name in sys.modules if name.partition('.')[0] == 'runwide'])"
    assert run("python3", "-W", "error", "-c", program) == Ran(0, "[]\n", "")


def test_python_and_pip_are_those_of_the_environment(run):
    ran = run("sh", "-c", "for name in python3 python pip runwide; do command -v $name; done; pip --version")
    *names, version = ran.out.splitlines()
    assert names == [
        "/opt/runwide/venv/bin/python3",
        "/opt/runwide/venv/bin/python",
        f"{LOCKED}/bin/pip",
        f"{LOCKED}/bin/runwide",
    ]
    assert f"from {LOCKED}/" in version


def test_runwide_and_the_run_time_half_of_kfp_are_in_it(run):
    program = "import runwide, kfp.dsl, kfp.dsl.executor_main; print(runwide.__version__)"
    assert run("python", "-W", "error", "-c", program) == Ran(0, f"{runwide.__version__}\n", "")


def test_pipelines_can_be_written_in_it(run):
    ran = run("python", "-c", "import kfp.compiler, runwide_components; from kfp.dsl import component")
    assert ran.status == 0, ran.err


def test_with_kfps_run_time_half_alone_a_module_that_defines_a_component_cannot_be_loaded(run):
    """This is why the image does not set ``_KFP_RUNTIME``: the module of a containerised component defines one."""
    module = "from kfp import dsl\n@dsl.component\ndef one() -> int:\n    return 1\nprint(one.name)"
    program = f"echo '{module}' > /tmp/one.py && python3 /tmp/one.py"
    whole = run("sh", "-c", program)
    assert (whole.status, whole.out) == (0, "one\n"), whole.err
    half = run("sh", "-c", program, environment={"_KFP_RUNTIME": "true"})
    assert half.status == 1
    assert half.err.splitlines()[-1] == "AttributeError: module 'kfp.dsl' has no attribute 'component'"


def test_its_packages_fit_together(run):
    assert run("python3", "-m", "pip", "check") == Ran(0, "No broken requirements found.\n", "")


def test_its_labels_name_the_version_and_the_revision(engine, image):
    labels = engine.images.get(image).labels
    assert labels["org.opencontainers.image.version"] == runwide.__version__
    assert labels["org.opencontainers.image.revision"]


def test_constraints_are_the_pins_of_the_lock(run):
    lock = (ROOT / "requirements.lock").read_text()
    constraints = run("cat", "/opt/runwide/constraints.txt").out.split()
    assert "kfp" in {line.partition("==")[0] for line in constraints}
    for line in constraints:
        name, _, version = line.partition("==")
        if name != "pip":
            assert f"\n{name.lower().replace('_', '-')}=={version} " in lock


# users and rights


def test_the_user_is_not_root_and_has_a_home(run):
    ran = run(
        "sh", "-c", "id -u; touch ~/x && echo $HOME; python3 -c 'import getpass; print(getpass.getuser())'"
    )
    assert ran.out.split() == ["1000", "/home/runwide", "runwide"]


def test_any_user_works_without_rights_network_or_a_writable_file_system(run):
    assert json.loads(run("runwide", "cores", "--json", **HARDENED).out)["count"] >= 1
    program = "import getpass, pathlib, runwide, kfp; print(getpass.getuser(), pathlib.Path.home())"
    assert run("python3", "-W", "error", "-c", program, **HARDENED) == Ran(0, "runwide /home/runwide\n", "")


def test_a_map_runs_with_little_memory_and_little_shared_memory(run):
    program = "import runwide; print(runwide.map(lambda x: x * x, range(5), workers=2))"
    ran = run("python3", "-c", program, **HARDENED)
    assert (ran.status, ran.out) == (0, "[0, 1, 4, 9, 16]\n"), ran.err


def test_only_root_may_write_locked_packages(run):
    ran = run("sh", "-c", f"find {LOCKED} ! -user 0 -o ! -type l -perm /022", user="0")
    assert ran == Ran(0, "", "")
    assert run("touch", f"{LOCKED}/x").status != 0


def test_a_bad_reference_is_one_line_and_a_failure(run):
    ran = run("runwide", "shard", "nowhere/job.json", "0")
    assert ran.status == 2
    assert ran.err.startswith("runwide: BadReference: ")
    assert ran.err.count("\n") == 1


def test_a_signal_to_stop_reaches_the_command(engine, image):
    program = "import time; print('up', flush=True); time.sleep(60)"
    container = engine.containers.create(image, ["python3", "-c", program], network_mode="none")
    try:
        container.start()
        while container.logs() != b"up\n":  # not streamed: docker-py leaves the socket of a stream open
            time.sleep(0.05)
        container.kill("SIGTERM")
        assert container.wait(timeout=30)["StatusCode"] == 143
    finally:
        container.remove(force=True)


# contents


def test_everything_locked_is_compiled_and_is_not_checked_at_a_start(run):
    program = f"""
import importlib.util, pathlib
for source in pathlib.Path("{LOCKED}").rglob("*.py"):
    compiled = pathlib.Path(importlib.util.cache_from_source(source))
    # The flags of PEP 552: 1 is a hash that is not checked.
    print(source) if not compiled.exists() or compiled.read_bytes()[4] != 1 else None
"""
    assert run("python3", "-c", program) == Ran(0, "", "")


def test_the_standard_library_is_compiled(run):
    program = """
import importlib.util, pathlib, sysconfig
library = pathlib.Path(sysconfig.get_path("stdlib"))
for source in [*library.glob("*.py"), *(library / "asyncio").glob("*.py"), *(library / "json").glob("*.py")]:
    if not pathlib.Path(importlib.util.cache_from_source(source)).exists():
        print(source)
"""
    assert run("python3", "-c", program) == Ran(0, "", "")


def test_there_is_no_compiler_no_builder_and_no_cache(run):
    assert run("sh", "-c", "command -v gcc cc g++ clang uv make hatchling").out == ""
    kept = "find / -xdev ( -path */.cache/* -o -path /var/lib/apt/lists/* -o -name *.whl -o -name *.deb ) -type f"
    listed = run(*kept.split(), user="0").out.splitlines()
    # ensurepip's own wheels, which `python -m venv` needs, are the base's.
    assert [path for path in listed if "ensurepip" not in path and "python-wheels" not in path] == []


def test_no_secret_and_no_path_of_the_builder_is_left_in_it(engine, image, run):
    assert run("sh", "-c", "ls -A /run/secrets 2>/dev/null", user="0").out == ""
    recipe = json.dumps([engine.images.get(image).attrs["Config"], engine.images.get(image).history()])
    for name in ("PIP_CERT", "SSL_CERT_FILE", "PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_CONFIG_FILE"):
        if value := os.environ.get(name):
            assert value not in recipe, name
    for name in ("PIP_CERT", "PIP_INDEX_URL", "PIP_CONFIG_FILE", "http_proxy", "https_proxy"):
        assert f'"{name}=' not in recipe


# pip in it


@pytest.mark.mounts
@pytest.mark.parametrize("user", ["1000", "4321:4321", "0"])
def test_a_package_that_a_component_asks_for_goes_before_the_locked_one(run, wheel, user):
    extra = wheel("tabulate", "99.0", "word = 'newer'\n")
    ran = run(
        "sh",
        "-c",
        f"pip install --quiet --no-index {extra} && python3 -c 'import tabulate; print(tabulate.word)' && runwide --version",
        user=user,
        volumes=at(extra.parent),
    )
    assert ran.status == 0, ran.err
    assert ran.out.splitlines() == ["newer", f"runwide, version {runwide.__version__}"]


@pytest.mark.mounts
def test_constraints_refuse_other_versions_of_locked_packages(run, wheel):
    extra = wheel("tabulate", "99.0", "word = 'newer'\n")
    install = f"pip install --quiet --no-index -c /opt/runwide/constraints.txt {extra}"
    ran = run("sh", "-c", install, volumes=at(extra.parent))
    assert ran.status != 0
    assert "conflict" in ran.err.lower()


@pytest.mark.mounts
def test_the_doctor_names_packages_that_an_extension_has_changed_and_those_it_broke(run, wheel):
    found = json.loads(run("runwide", "doctor", "--json").out)["checks"]
    assert next(check for check in found if check["name"] == "locked")["state"] == "ok"
    moved = wheel("tabulate", "99.0", "word = 'newer'\n")
    broken = wheel("cloudpickle", "99.0", "raise ImportError('made for a test')\n")
    install = "pip install --quiet --no-index {} 2>/dev/null; runwide doctor --json"
    ran = run("sh", "-c", install.format(moved), volumes=at(moved.parent))
    checks = {check["name"]: check for check in json.loads(ran.out)["checks"]}
    assert (ran.status, checks["packages"]["state"], checks["locked"]["state"]) == (0, "ok", "warning")
    assert "1 of " in checks["locked"]["says"]
    assert "tabulate 99.0 (was " in checks["locked"]["says"]
    assert checks["locked"]["hint"] == "extend it with pip install -c /opt/runwide/constraints.txt"
    ran = run("sh", "-c", install.format(broken), volumes=at(broken.parent))
    assert ran.status == 1
    assert "cloudpickle cannot be loaded (ImportError: made for a test)" in ran.err


@pytest.mark.parametrize("user", ["1000", "4321:4321"])
def test_kfps_own_pip_step_finds_kfp_there_and_reaches_for_no_network(run, user):
    import kfp

    assert run("sh", "-c", PIP_STEP.format(kfp=kfp.__version__), user=user) == Ran(0, "", "")
