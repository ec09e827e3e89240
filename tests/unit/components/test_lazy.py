"""The cost of importing the packages, and the names available inside of a lightweight component."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

import runwide
import runwide.job
import runwide.pool
import runwide_components


def said(program: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True, text=True, check=False, env={**os.environ, **environment}, timeout=60,
    )  # fmt: skip
    return done.stdout + done.stderr


@pytest.mark.parametrize("package", [runwide, runwide.pool, runwide.job, runwide_components])
def test_every_public_name_can_be_had_and_no_other(package):
    assert all(getattr(package, name) is not None for name in package.__all__)
    with pytest.raises(AttributeError, match=f"module '{package.__name__}' has no attribute 'no_such_name'"):
        package.no_such_name  # noqa: B018 - it raises


def test_importing_the_components_imports_no_kfp():
    assert said("import runwide_components, sys; print('kfp' in sys.modules)") == "False\n"


def test_inside_of_a_lightweight_component_the_image_and_the_records_are_there():
    program = "import kfp.dsl\nfrom runwide_components import Batch, RunState, base_image\nprint(base_image('shop')[:12])"
    assert said(program, _KFP_RUNTIME="true", RUNWIDE_IMAGE="") == "europe-west1\n"


@pytest.mark.parametrize("name", ["Components", "Kubeflow", "Local", "Pipelines", "Vertex", "fan_out"])
def test_inside_of_a_lightweight_component_names_that_need_the_compiler_raise_one_line(name):
    last = said(f"from runwide_components import {name}", _KFP_RUNTIME="true").splitlines()[-1]
    assert last.startswith(
        f"runwide.errors.InputError: {name} defines or runs pipelines, and inside of a component kfp"
    )
