"""The programs in components/examples run as their readers will run them."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "components" / "examples"


def run(name: str, *args: str, **environment: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, str(EXAMPLES / name), *args],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "COLUMNS": "120", **environment},
    )


@pytest.fixture
def module_of(monkeypatch):
    """Load an example as a module; those beside it are found, as when it runs."""
    monkeypatch.syspath_prepend(str(EXAMPLES))
    return loaded


def loaded(name: str):
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_flights_says_in_one_line_what_to_install_where_there_is_no_docker(tmp_path):
    done = run("flights.py", "--quick", DOCKER_HOST=f"unix://{tmp_path}/no.sock", COLUMNS="80")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""  # no log line is between the table's
    lines = done.stdout.splitlines()
    (line,) = [line for line in lines if re.search("docker|container", line, re.IGNORECASE)]
    assert re.fullmatch(
        r"To run it on 4 components in containers as well: install Docker and start it .+\.", line
    )
    assert not [line for line in lines if line.startswith("{")]
    assert "One function, 3 ways" in done.stdout
    assert "3 ways ran; their results are byte-identical" in done.stdout
    assert "214 routes with 327,319 flights" in done.stdout
    assert "EWR-CAE" in done.stdout


def test_flights_sends_the_module_beside_it_to_the_components(tmp_path):
    store = tmp_path / "store"
    done = run("flights.py", "--quick", "--store", str(store), DOCKER_HOST=f"unix://{tmp_path}/no.sock")
    assert done.returncode == 0, done.stderr
    assert "runwide sent this module to the components" in done.stdout
    (code,) = store.glob("*/code.zip")
    with zipfile.ZipFile(code) as archive:
        assert archive.namelist() == ["delays.py"]
        assert archive.read("delays.py") == (EXAMPLES / "delays.py").read_bytes()


@pytest.mark.docker
def test_flights_gives_identical_bytes_on_all_four_ways(image_of_this_python):
    done = run("flights.py", "--quick", RUNWIDE_IMAGE=image_of_this_python)
    assert done.returncode == 0, done.stderr
    assert "4 ways ran; their results are byte-identical" in done.stdout
    assert len(set(re.findall(r"[0-9a-f]{12}…", done.stdout))) == 1


def test_flights_fails_where_results_differ(module_of, monkeypatch, capsys):
    flights = module_of("flights")
    same, other = (
        lambda routes, n=n: [{**flights.interval(route), "extra": n} for route in routes] for n in (0, 1)
    )
    monkeypatch.setattr(
        flights, "ways", lambda _, **__: [flights.Way("a", "1", same), flights.Way("b", "1", other)]
    )
    monkeypatch.setattr(flights, "missing_for_containers", lambda: "")
    monkeypatch.setattr(flights, "QUICK_REPLICATES", 2)
    monkeypatch.setattr(sys, "argv", ["flights.py", "--quick"])
    monkeypatch.setenv("RUNWIDE_LOG_LEVEL", "warning")  # which it sets, and the other tests do without
    assert flights.main() == 1
    assert "THE RESULTS DIFFER" in capsys.readouterr().out


def test_the_intervals_of_a_route_hold_its_own_figures(module_of):
    flights = module_of("flights")
    found = flights.interval(("A-B", list(range(-50, 51)), 400))
    assert (found["mean"], found["p90"]) == (0.0, 40)
    assert -9 < found["mean_95"][0] < 0 < found["mean_95"][1] < 9
    assert found["p90_95"][0] < 40 < found["p90_95"][1]
    assert found == flights.interval(("A-B", list(range(-50, 51)), 400))
    assert found["mean_95"] != flights.interval(("B-A", list(range(-50, 51)), 400))["mean_95"]


@pytest.mark.parametrize("runner", ["subprocess", pytest.param("docker", marks=pytest.mark.docker)])
def test_the_fan_out_and_fan_in_of_the_starter_kit_runs(runner, request):
    environment = {"RUNWIDE_IMAGE": request.getfixturevalue("image")} if runner == "docker" else {}
    done = run("fan_out_fan_in.py", runner, **environment)
    assert done.returncode == 0, done.stderr
    assert "all five tasks have run" in done.stdout


def results(text: str) -> list[int]:
    return [int(number) for number in re.search(r"Results: \[(.*)\]", text)[1].split(",")]


def test_the_pool_of_the_starter_kit_runs_with_its_import_changed():
    done = run("pool_starmap.py")
    assert done.returncode == 0, done.stderr
    first, second, third = results(done.stdout)
    assert first in (1, 2)
    assert second in (3, 4)
    assert third in (5, 6)


def test_the_pool_of_the_starter_kit_runs_in_a_component(module_of, local):
    (first, second, third) = local().run(module_of("pool_starmap").as_component)["Output"]
    assert first in (1, 2)
    assert second in (3, 4)
    assert third in (5, 6)


@pytest.mark.docker
def test_kfp_local_itself_runs_a_fan_out_in_containers(image_of_this_python, tmp_path):
    (tmp_path / "store").mkdir()
    program = f"""
import os, runwide
from kfp import dsl, local
from runwide_components import fan_out
place = {str(tmp_path / "store")!r}
mounts = [dict(Type="bind", Source=place, Target=place)]
runner = local.DockerRunner(user=f"{{os.getuid()}}:{{os.getgid()}}", mounts=mounts)
local.init(runner, pipeline_root={str(tmp_path / "root")!r}, workspace_root={str(tmp_path / "work")!r})
@dsl.pipeline(name="squares")
def squares(numbers: list) -> str:
    return fan_out(lambda x: x * x, numbers, components=3, store=place).output
print("Results:", runwide.load(squares(numbers=[1, 2, 3, 4]).output))
"""
    environment = {**os.environ, "RUNWIDE_IMAGE": image_of_this_python}
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, env=environment
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert results(done.stdout) == [1, 4, 9, 16]
