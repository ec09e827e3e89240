"""Blocks of README, of the guide and of the pages of code and logs work, copied word for word.

Each fenced block of ``python`` or ``sh`` is run, in order, in one empty directory for each page. A block that names its
file is written there under that name. A block after a comment ``<!-- not run: reason -->`` is not run, and one after
``<!-- run in a checkout -->`` is run in a copy of this checkout.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
PAGES = ("README.md", "docs/code.md", "docs/guide.md", "docs/logs.md", "docs/stores.md", "docs/streams.md")
BLOCK = re.compile(
    r"(?:^<!-- (?P<where>not run: .+?|run in a checkout) -->\n+)?"
    r"^```(?P<language>\w+)(?: file=(?P<file>\S+))?\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
RUN = {"python": [sys.executable, "-W", "error"], "sh": ["bash", "-euo", "pipefail"]}
PATH = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"


def blocks(page: str) -> list[re.Match[str]]:
    text = (ROOT / page).read_text(encoding="utf-8")
    return [block for block in BLOCK.finditer(text) if block["language"] in RUN]


def program(file: str) -> str:
    """Return the program that README shows under that name."""
    (found,) = [block["text"] for block in blocks("README.md") if block["file"] == file]
    return found


def ran(command: list[str], where: Path, **environment: str) -> str:
    done = subprocess.run(
        command,
        cwd=where,
        env={**os.environ, "PATH": PATH, **environment},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.mark.parametrize("page", PAGES)
def test_a_page_shows_programs_and_commands_that_run(page):
    shown = [block for block in blocks(page) if not (block["where"] or "").startswith("not run")]
    assert {block["language"] for block in shown} == set(RUN)


@pytest.mark.parametrize("page", PAGES)
def test_the_blocks_of_a_page_work(page, tmp_path):
    for number, block in enumerate(blocks(page)):
        if block["where"]:
            continue
        file = tmp_path / (block["file"] or f"block-{number}")
        file.write_text(block["text"], encoding="utf-8")
        ran([*RUN[block["language"]], file.name], tmp_path)


def test_readme_installs_a_checkout(tmp_path):
    (block,) = [block for block in blocks("README.md") if block["where"] == "run in a checkout"]
    checkout = tmp_path / "checkout"
    checkout.mkdir()
    for name in ("README.md", "LICENSE", "pyproject.toml"):
        shutil.copy(ROOT / name, checkout)
    for name in ("runtime", "components"):
        shutil.copytree(ROOT / name, checkout / name, ignore=shutil.ignore_patterns("__pycache__"))
    # Dependencies and build tools are those of this environment, so that pip asks no index.
    venv.create(tmp_path / "venv", with_pip=True)
    site = Path(sysconfig.get_path("purelib", vars={"base": str(tmp_path / "venv")}))
    (site / "here.pth").write_text(sysconfig.get_path("purelib"))
    ran(
        ["bash", "-euo", "pipefail", "-c", block["text"]],
        checkout,
        PATH=f"{tmp_path / 'venv' / 'bin'}{os.pathsep}{os.environ['PATH']}",
        PIP_NO_INDEX="1",
        PIP_NO_BUILD_ISOLATION="0",  # pip takes this for "no isolation"
        PIP_DISABLE_PIP_VERSION_CHECK="1",
    )
    assert (site / "runwide" / "__init__.py").exists()


@pytest.mark.parametrize(
    ("file", "function"),
    [("one.py", "forecast"), ("many.py", "nightly")],
)
def test_the_pipelines_of_readme_compile_for_our_image(file, function, tmp_path):
    (tmp_path / file).write_text(program(file), encoding="utf-8")
    ran(
        ["kfp", "dsl", "compile", "--py", file, "--output", "out.yaml", "--function", function],
        tmp_path,
        RUNWIDE_IMAGE="runwide:dev",
    )
    spec = next(yaml.safe_load_all((tmp_path / "out.yaml").read_text(encoding="utf-8")))
    executors = spec["deploymentSpec"]["executors"].values()
    assert {executor["container"]["image"] for executor in executors} == {"runwide:dev"}


def test_the_component_of_readme_gives_what_the_function_gives(tmp_path):
    (tmp_path / "one.py").write_text(program("one.py"), encoding="utf-8")
    said = ran([sys.executable, "one.py"], tmp_path)
    assert said.splitlines()[-1] == "['Lyon: 4 sold', 'Oslo: 4 sold']"


def test_the_same_function_gives_the_same_from_a_script_and_in_a_pipeline(tmp_path):
    (tmp_path / "many.py").write_text(program("many.py"), encoding="utf-8")
    said = ran([sys.executable, "many.py"], tmp_path)
    assert said.splitlines()[-2:] == ["['Lyon: 4 sold', 'Oslo: 4 sold']"] * 2


@pytest.mark.docker
def test_the_component_of_readme_runs_in_the_image(image, tmp_path):
    text = program("one.py").replace('"runwide:dev"', repr(image)).replace('Local("subprocess")', "Local()")
    assert text.count("Local()") == 2  # the program's, and its comment's
    (tmp_path / "one.py").write_text(text, encoding="utf-8")
    assert ran([sys.executable, "one.py"], tmp_path).splitlines()[-1] == "['Lyon: 4 sold', 'Oslo: 4 sold']"
