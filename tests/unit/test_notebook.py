"""Each cell of a notebook shows its own output, log lines and progress."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import nbclient
import nbformat
import pytest

pytestmark = pytest.mark.xdist_group(
    "notebook"
)  # one worker runs all of them, so that fixtures are made once

WIDGET = "application/vnd.jupyter.widget-view+json"
SETUP = """
import logging, sys, time
import runwide
from runwide.log import Log
def talk(x):
    print("said", x, flush=True)
    print("complained", x, file=sys.stderr)
    logging.warning("logged %s", x)
    time.sleep(x)
    return x
"""


class Cells:
    """The cells of a notebook that has been executed."""

    def __init__(self, notebook):
        self.outputs = [cell.outputs for cell in notebook.cells]

    def stream(self, number, name):
        return "".join(
            one.text for one in self.outputs[number] if one.output_type == "stream" and one.name == name
        )

    def widgets(self, number):
        shown = [
            one for one in self.outputs[number] if one.output_type == "display_data" and WIDGET in one.data
        ]
        return [one.data["text/plain"] for one in shown]


@pytest.fixture(scope="module")
def execute(tmp_path_factory):
    """Executes cells as Jupyter would."""
    home = tmp_path_factory.mktemp("jupyter")

    def run(*cells, **variables):
        notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
        kept = {name: value for name, value in os.environ.items() if not name.startswith("RUNWIDE_")}
        given = {"IPYTHONDIR": str(home), "JUPYTER_RUNTIME_DIR": str(home), "HOME": str(home), **variables}
        client = nbclient.NotebookClient(notebook, timeout=120, kernel_name="python3")
        client.execute(env={**kept, **given}, cwd=str(home))
        return Cells(notebook)

    return run


@pytest.fixture(
    scope="module", params=["", pytest.param("6.29.5", marks=pytest.mark.slow)], ids=["newest", "6"]
)
def cells(execute, request, tmp_path_factory):
    """A notebook whose cells use the same workers; ipykernel 6 records which cell has started a thread."""
    older = tmp_path_factory.mktemp("ipykernel")
    if request.param:
        install = [
            "-m",
            "pip",
            "install",
            "-q",
            "--no-deps",
            "--target",
            str(older),
            f"ipykernel=={request.param}",
        ]
        subprocess.run([sys.executable, *install], check=True)
    return execute(
        SETUP,
        "runwide.map(talk, [0.0, 0.25], workers=1)",
        "runwide.map(talk, [1.5, 0.5], workers=1)",
        "for value in runwide.imap(talk, [0.125], workers=1): print(value)",
        "with runwide.Executor(1) as executor: print(executor.submit(talk, 0.0625).result())",
        "Log('pool').warning('thing.happened', item=3)",
        "runwide.shutdown()",
        PYTHONPATH=str(older),
    )


@pytest.mark.parametrize(
    ("cell", "items", "named"),
    [(1, ["0.0", "0.25"], True), (2, ["1.5", "0.5"], True), (3, ["0.125"], True), (4, ["0.0625"], False)],
    ids=["map", "long-map", "imap", "executor"],
)
def test_each_cell_has_the_output_of_its_own_tasks(cells, cell, items, named):
    prefixes = [f"[{number}] " if named else "" for number in range(len(items))]
    said = [line for line in cells.stream(cell, "stdout").splitlines() if "said" in line]
    assert said == [f"{prefix}said {item}" for prefix, item in zip(prefixes, items, strict=True)]
    error = cells.stream(cell, "stderr").splitlines()
    for prefix, item in zip(prefixes, items, strict=True):
        assert {f"{prefix}complained {item}", f"{prefix}WARNING:root:logged {item}"} <= set(error)


def test_the_bar_of_a_long_map_is_the_widget_in_its_own_cell(cells):
    bars = [len(cells.widgets(number)) for number in range(6)]
    assert bars[2] == 1
    # A map may also be long because workers start or the machine is busy; the other cells have no map.
    assert [bars[number] for number in (0, 4, 5)] == [0, 0, 0]
    assert bars[1] <= 1
    assert bars[3] <= 1
    # Its text is that of its first drawing.
    assert re.search(r"\b[012]/2 \[", cells.widgets(2)[0])
    assert "%|" not in cells.stream(2, "stderr")


def test_a_log_line_is_text_in_its_cell(cells):
    assert "[warning] thing.happened [runwide.pool] item=3" in cells.stream(5, "stderr")


def test_a_notebook_in_a_pod_has_no_log_collector(execute):
    cells = execute(SETUP, "runwide.map(talk, [0.0], workers=1); Log('pool').warning('thing.happened')",
                    "runwide.shutdown()", KUBERNETES_SERVICE_HOST="10.0.0.1")  # fmt: skip
    assert "[0] said 0.0" in cells.stream(1, "stdout")
    assert "[warning] thing.happened" in cells.stream(1, "stderr")
    assert "{" not in cells.stream(1, "stderr")
