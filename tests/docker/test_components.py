"""The image as base of components: kfp starts them in it, as kfp does.

No ``from __future__ import annotations`` here: kfp reads the annotations of nested functions as objects.
"""

import json
import os

import pytest

pytestmark = [pytest.mark.docker, pytest.mark.mounts]


@pytest.fixture
def kfp_in_containers(tmp_path):
    """kfp.local with containers that reach no network, as the user who owns the pipeline root."""
    from kfp import local

    def init(**options):
        runner = local.DockerRunner(network_mode="none", user=f"{os.getuid()}:{os.getgid()}", **options)
        local.init(
            runner=runner,
            pipeline_root=str(tmp_path),
            workspace_root=str(tmp_path / "workspace"),
            raise_on_error=True,
        )

    return init


@pytest.mark.parametrize("install_kfp_package", [True, False], ids=["pip-step", "no-pip-step"])
def test_a_lightweight_component_runs_in_it(image, kfp_in_containers, install_kfp_package):
    from kfp import dsl

    @dsl.component(base_image=image, install_kfp_package=install_kfp_package)
    def total(numbers: list, store: dsl.OutputPath(str)) -> int:
        from pathlib import Path

        import runwide

        Path(store).write_text("written")
        return int(sum(runwide.map(lambda x: x * x, numbers)))

    kfp_in_containers()
    task = total(numbers=[1, 2, 3])
    assert task.outputs == {"Output": 14, "store": "written"}


def test_kfp_loads_its_run_time_half_only_in_a_lightweight_component(image, kfp_in_containers):
    from kfp import dsl

    @dsl.component(base_image=image, install_kfp_package=False)
    def loaded() -> list:
        import sys

        return [name for name in ("kfp.dsl", "kfp.client", "kubernetes") if name in sys.modules]

    kfp_in_containers()
    assert loaded().output == ["kfp.dsl"]


def test_a_lightweight_component_knows_its_cores(image, kfp_in_containers):
    from kfp import dsl

    @dsl.component(base_image=image, install_kfp_package=False)
    def counted() -> list:
        import os

        import loky

        import runwide

        return [int(os.environ["LOKY_MAX_CPU_COUNT"]), loky.cpu_count(), runwide.cores().usable]

    kfp_in_containers()
    assert len(set(counted().output)) == 1


def test_a_lightweight_component_brings_its_own_packages(image, kfp_in_containers, wheel):
    from kfp import dsl

    extra = wheel("greeting", "1.0", "word = 'hello'\n")

    @dsl.component(base_image=image, packages_to_install=[str(extra)])
    def greet() -> str:
        import greeting

        return greeting.word

    kfp_in_containers()
    assert greet().output == "hello"


def test_a_container_component_starts_our_own_command(image, kfp_in_containers):
    from kfp import dsl

    @dsl.container_component
    def cores(found: dsl.OutputPath(str)):
        return dsl.ContainerSpec(
            image=image,
            command=["sh", "-c", 'mkdir -p "$(dirname "$0")" && runwide cores --json > "$0"'],
            args=[found],
        )

    kfp_in_containers()
    assert json.loads(cores().outputs["found"])["count"] >= 1
