"""Workers load a job's function, before their first task."""

from __future__ import annotations

import os
import sys

import pytest

import runwide
from runwide.errors import WorkerDied
from runwide.job import status
from runwide.job._scatter import scatter_pickled


@pytest.fixture
def job_of(tmp_path, monkeypatch):
    """Makes a job of a function in a module with that text; the module is importable in workers."""
    monkeypatch.syspath_prepend(tmp_path)

    def make(text: str, items: list[int]) -> str:
        (tmp_path / "theirs.py").write_text(f"{text}\ndef function(x):\n    return x + 1\n")
        pickled = b"\x80\x04ctheirs\nfunction\n."
        store = str(tmp_path / "store")
        return scatter_pickled(pickled, items, store=store, shards=1, name="theirs:function")

    yield make
    sys.modules.pop("theirs", None)


def test_the_function_is_loaded_by_workers_and_not_by_the_process_that_runs_the_shard(job_of, tmp_path):
    job = job_of(f"import os; open(f'{tmp_path}/loaded-{{os.getpid()}}', 'w')", [1, 2])
    assert runwide.gather(job, [runwide.shard(job, 0, workers=1)]) == [2, 3]
    (loaded,) = tmp_path.glob("loaded-*")
    assert loaded.name != f"loaded-{os.getpid()}"
    assert "theirs" not in sys.modules


def test_the_functions_imports_do_not_count_for_the_timeout_of_a_task(job_of):
    job = job_of("import time; time.sleep(1.5)", [1])
    assert runwide.gather(job, [runwide.shard(job, 0, workers=1, timeout=0.7)]) == [2]


def test_an_import_that_kills_the_process_is_not_charged_to_an_item(job_of):
    job = job_of("import os; os._exit(7)", [1, 2, 3])
    with pytest.raises(WorkerDied, match="no worker starts: the last one exited with status 7"):
        runwide.shard(job, 0, workers=1)
    (shard,) = status(job).shards
    assert not shard.finished
