"""The container components: their commands are ours, and their YAML equals the shipped files.

No annotations as strings here: kfp takes those of a pipeline as objects.
"""

import platform
import subprocess
import sys
from pathlib import Path

import click
import pytest
from google.protobuf import json_format
from kfp import components

from runwide import __version__
from runwide.cli import cli
from runwide.errors import InputError
from runwide.options.record import RunOptions
from runwide_components._fan_out import fan_out
from runwide_components.image import base_image
from runwide_components.steps import JobOptions, steps_of, write_yaml

SHIPPED = Path(__file__).parents[3] / "components" / "yaml"
COMMANDS = {name: cli.get_command(click.Context(cli), name) for name in ("scatter", "shard", "gather")}


def spec(path: Path) -> dict:
    """A compiled component as kfp's own loader reads it."""
    return json_format.MessageToDict(components.load_component_from_file(str(path)).pipeline_spec)


def containers(component) -> list[dict]:
    """The containers of a component or pipeline, as the spec has them."""
    executors = json_format.MessageToDict(component.pipeline_spec)["deploymentSpec"]["executors"]
    return [executor["container"] for executor in executors.values()]


def options(container: dict) -> set[str]:
    return {word for word in container["args"] if word.startswith("--")}


def known(command) -> set[str]:
    return {name for parameter in command.params for name in parameter.opts}


@pytest.mark.parametrize("verb", COMMANDS)
def test_a_step_starts_our_command_with_options_that_it_has(verb):
    step = getattr(
        steps_of("image:1", JobOptions(RunOptions(workers=2, timeout=9.5, retries=1), on_error="return")),
        verb,
    )
    (container,) = containers(step)
    assert container["command"] == ["runwide", verb]
    assert container["image"] == "image:1"
    assert options(container) <= known(COMMANDS[verb])


def test_options_of_a_job_reach_the_step_that_they_concern():
    made = steps_of("image:1", JobOptions(RunOptions(workers=2, timeout=9.5, retries=1), on_error="return"))
    (shard,), (gather,) = containers(made.shard), containers(made.gather)
    assert shard["args"][-8:] == [
        "--workers", "2", "--timeout", "9.5", "--retries", "1", "--on-error", "return",
    ]  # fmt: skip
    assert gather["args"][-2:] == ["--on-error", "return"]


@pytest.mark.parametrize("option", [{"on_error": "skip"}, {"min_success": 2}, {"dataset": "csv"}])
def test_an_invalid_option_is_rejected(option):
    (name,) = option
    with pytest.raises(InputError, match=f"{name}="):
        JobOptions(**option)


@pytest.mark.parametrize("verb", COMMANDS)
def test_the_shipped_yaml_is_what_the_steps_compile_to(verb, tmp_path):
    write_yaml(tmp_path, f"runwide:{__version__}")
    made, shipped = (spec(folder / f"{verb}.yaml") for folder in (tmp_path, SHIPPED))
    del made["sdkVersion"], shipped["sdkVersion"]  # the kfp that compiled it
    assert made == shipped, "run: python -m runwide_components"


def test_the_program_that_writes_the_steps_has_a_help_and_makes_no_folder_of_that_name(tmp_path):
    program = [sys.executable, "-m", "runwide_components"]
    shown = subprocess.run([*program, "--help"], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "FOLDER" in shown.stdout
    assert list(tmp_path.iterdir()) == []
    subprocess.run([*program, "made", "shop:1"], cwd=tmp_path, check=True)
    assert "image: shop:1" in (tmp_path / "made" / "shard.yaml").read_text()
    refused = subprocess.run(
        [*program, "/dev/null/made"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert refused.returncode == 1
    assert refused.stderr.startswith("Error: cannot write /dev/null/made (Not a directory)")


@pytest.mark.parametrize("verb", COMMANDS)
def test_the_shipped_yaml_loads_as_a_component(verb):
    loaded = components.load_component_from_file(str(SHIPPED / f"{verb}.yaml"))
    assert set(loaded.component_spec.inputs) == set(getattr(steps_of("image:1"), verb).component_spec.inputs)


def test_all_options_of_a_fan_out_are_known_to_scatter(tmp_path):
    from kfp import dsl

    @dsl.pipeline(name="every-kind")
    def every_kind(items: list, store: str, s: str, i: int, f: float, b: bool, many: list, table: dict):  # noqa: PLR0917 - how kfp takes them
        constants = {"s": s, "i": i, "f": f, "b": b, "many": many, "table": table, "fixed": 1}
        fan_out(lambda x, **_: x, items, components=2, store=store, constants=constants)
        fan_out("json:dumps", ["x"], components=2, store=str(tmp_path))
        long = "x" * 100_000
        fan_out(lambda x: x, [long], components=2, store=str(tmp_path))

    every_kind.pipeline_spec  # noqa: B018 - it compiles
    scatters = [one for one in containers(every_kind) if one["command"][1] == "scatter"]
    assert len(scatters) == 3
    assert set().union(*map(options, scatters)) <= known(COMMANDS["scatter"])


def test_the_image_is_that_of_this_release_or_of_the_environment(monkeypatch):
    monkeypatch.delenv("RUNWIDE_IMAGE", raising=False)
    assert base_image() == f"runwide:{__version__}"
    minor = ".".join(platform.python_version_tuple()[:2]).replace(".", "")
    assert base_image("shop").endswith(f"/shop/runwide/runwide:{__version__}-py{minor}")
    assert base_image(python="3.13", version="2.0.0") == "runwide:2.0.0-py313"
    with pytest.raises(InputError, match=r"no image with Python 3\.9"):
        base_image("shop", python="3.9")
    monkeypatch.setenv("RUNWIDE_IMAGE", "registry/runwide@sha256:00")
    assert base_image("shop", python="3.13") == "registry/runwide@sha256:00"
    assert base_image() == "registry/runwide@sha256:00"


def test_a_command_that_is_asked_for_more_than_it_knows_says_which_release_it_is():
    done = subprocess.run(
        [sys.executable, "-m", "runwide.cli", "gather", "job", "--from-the-future", "1"],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 2
    assert "No such option" in done.stderr
    assert done.stderr.splitlines()[-1].startswith(
        f"runwide: this is {__version__}; a pipeline made by another release"
    )


def test_the_step_of_a_shard_names_its_image_in_a_variable():
    container = steps_of("runwide:1").shard.component_spec.implementation.container
    assert container.env == {"RUNWIDE_IMAGE": "runwide:1"}
