"""A fan-out whose packages are installed by its steps. No annotations as strings: kfp takes them as objects."""

from pathlib import Path

import pytest
import wheels
from kfp import dsl

from runwide_components import Local, fan_out


@pytest.fixture
def index(tmp_path):
    """The URL of an index that has a package of its own."""
    (tmp_path / "wheels").mkdir()
    wheels.written(tmp_path / "wheels", "tiny_fixture", "1.0", "class Value(dict):\n    pass")
    with wheels.index(tmp_path / "wheels") as url:
        yield url


def test_all_steps_of_a_fan_out_install_what_it_requires(tmp_path, index):
    (tmp_path / "requirements.txt").write_text("tiny_fixture==1.0\n")

    def function(x):
        import tiny_fixture

        return tiny_fixture.Value(x=x)

    @dsl.pipeline(name="packages")
    def packages() -> dsl.Dataset:
        # the scatter step runs items to see how long they take, and the gather step loads results for its dataset
        return fan_out(
            function, [1, 2], components="auto", store=str(tmp_path / "store"), dataset=True, report=False,
            requirements=tmp_path / "requirements.txt", env={"PIP_INDEX_URL": index},
        ).dataset  # fmt: skip

    (output,) = Local("subprocess", pipeline_root=tmp_path / "root").run(packages).values()
    assert Path(output["uri"]).read_text().splitlines() == ['{"x": 1}', '{"x": 2}']
