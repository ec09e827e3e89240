"""A map with a store whose items come slowly: they are started as they come, and stored once all are there."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import pytest

import runwide
from runwide.errors import InputError, NoItems, StoreError
from runwide.store.base import open_store

SECONDS = 60  # until what should happen at once has not happened


def marking(folder):
    def mark(x):
        Path(folder, str(x)).touch()
        return x * x

    return mark


def marked(folder):
    """The items that were run since the last time this was asked."""
    found = sorted(int(path.name) for path in Path(folder).iterdir())
    for item in found:
        Path(folder, str(item)).unlink()
    return found


@pytest.fixture
def ran(tmp_path):
    folder = tmp_path / "ran"
    folder.mkdir()
    return folder


def pool(name):
    def run(function, items, store):
        with runwide.Pool(2, store=store) as made:
            return list(getattr(made, name)(function, items))

    return run


SURFACES = {
    "map": lambda function, items, store: runwide.map(function, items, store=store, workers=2),
    "map, named": lambda function, items, store: runwide.map(
        function, items, store=store, name="n", workers=2
    ),
    "map, shards": lambda function, items, store: runwide.map(
        function, items, store=store, shards=2, workers=2
    ),
    "Pool.map": pool("map"),
    "Pool.imap": pool("imap"),
    "Pool.imap_unordered": pool("imap_unordered"),
}


@pytest.mark.parametrize("surface", SURFACES)
def test_an_item_is_started_before_the_next_has_arrived(surface, memory, ran, until):
    def items():
        for x in range(4):
            yield x
            until((ran / str(x)).exists)

    assert SURFACES[surface](marking(ran), items(), memory) == [0, 1, 4, 9]


def test_the_items_are_taken_on_the_callers_thread(memory):
    threads = set()

    def items():
        for x in range(3):
            threads.add(threading.get_ident())
            yield x

    assert runwide.map(abs, items(), store=memory, workers=1) == [0, 1, 2]
    assert threads == {threading.get_ident()}


def test_a_second_call_computes_nothing_and_other_items_are_an_error(memory, ran):
    for expected in ([0, 1, 2], []):
        found = runwide.map(marking(ran), (x for x in range(3)), store=memory, name="n", shards=2, workers=1)
        assert found == [0, 1, 4]
        assert marked(ran) == expected
    with pytest.raises(InputError, match="other items"):
        runwide.map(marking(ran), (x for x in range(4)), store=memory, name="n", workers=1)
    assert marked(ran) == []


def test_it_is_the_same_job_as_that_of_a_list(memory, ran):
    assert runwide.map(marking(ran), (x for x in range(3)), store=memory, name="n", workers=1) == [0, 1, 4]
    assert runwide.map(marking(ran), [0, 1, 2], store=memory, name="n", workers=1) == [0, 1, 4]
    assert marked(ran) == [0, 1, 2]
    (reference,) = {
        f"{memory}/{info.name}" for info in open_store(memory).list() if info.name.endswith("/job.json")
    }
    assert reference


def test_failures_are_stored_and_run_again(memory, ran):
    def fails(x):
        return 1 / (x - 1)

    found = runwide.map(fails, iter(range(3)), store=memory, name="n", shards=2, workers=1, on_error="return")
    assert (found[0], found[1].index, found[1].type, found[2]) == (-1.0, 1, "ZeroDivisionError", 1.0)
    again = runwide.map(marking(ran), iter(range(3)), store=memory, name="n", workers=1, reuse="results")
    assert again == [-1.0, 1, 1.0]
    assert marked(ran) == [1]


def test_the_report_and_the_listener_get_every_task(memory):
    events = []

    def task(x):
        return 1 / x

    results = runwide.map(
        task,
        (x for x in range(100)),
        store=memory,
        shards=3,
        workers=2,
        on_event=events.append,
        on_error="return",
    )
    assert sorted(event.index for event in events) == list(range(100))
    metrics = results.report().metrics
    assert (metrics["items"], metrics["results"], metrics["failed_items"]) == (100, 99, 1)
    assert sum(sums.ended for run in results.report().story.runs for sums in run.sums.values()) == 99


def test_results_that_have_no_frame_fail_their_items(memory):
    class Once:
        """Crosses from the worker, and not again."""

        def __reduce__(self):
            return _once, ()

    results = runwide.map(
        lambda x: Once() if x else x, iter(range(2)), store=memory, on_error="return", workers=1
    )
    assert results[0] == 0
    assert (results[1].index, results[1].type) == (1, "ResultNotPicklable")


def _once():
    return threading.Lock()


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"name": ""}, InputError),
        ({"shards": 0}, InputError),
        ({"on_error": "ignore"}, InputError),
        ({"colour": "red"}, TypeError),
        ({"store": "/proc/nowhere"}, StoreError),
    ],
)
def test_invalid_calls_are_an_error_before_anything_is_run(options, error, memory, ran):
    with pytest.raises(error):
        runwide.map(marking(ran), iter(range(3)), **{"store": memory, **options})
    assert marked(ran) == []


def test_an_iterable_that_is_empty_or_fails_makes_no_job(memory):
    def broken():
        yield 1
        raise LookupError("the input")

    with pytest.raises(NoItems):
        runwide.map(abs, iter(()), store=memory, name="n")
    with pytest.raises(LookupError, match="the input"):
        runwide.map(abs, broken(), store=memory, name="n")
    with runwide.Pool(1, store=memory) as pool:
        assert pool.map(abs, iter(())) == []
        assert list(pool.imap(abs, iter(()))) == []
    assert not [info.name for info in open_store(memory).list() if info.name.endswith(".json")]


def test_a_tasks_own_lack_of_items_is_its_failure(memory):
    with runwide.Pool(1, store=memory) as pool, pytest.raises(NoItems):
        pool.map(lambda _: runwide.map(abs, []), [1])


PROGRAM = """
    import queue, sys
    import runwide

    def items():
        yield from [1, 2]
        print("waits", flush=True)
        queue.Queue().get()

    if __name__ == "__main__":
        {call}
"""


@pytest.mark.parametrize(
    "call",
    [
        "runwide.map(abs, items(), store=sys.argv[1])",
        "runwide.map(abs, items(), store=sys.argv[1], name='n')",
        "[runwide.map(abs, part, store=sys.argv[1], name='n') for part in ([1, 2], items())]",
        "list(runwide.Pool(store=sys.argv[1]).imap(abs, items()))",
    ],
)
def test_sigterm_ends_it_while_the_iterable_waits(call, tmp_path, sigterm):
    path = tmp_path / "program.py"
    path.write_text(textwrap.dedent(PROGRAM).format(call=call))
    command = [sys.executable, str(path), str(tmp_path / "store")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as program:
        assert program.stdout.readline() == "waits\n"
        sigterm(program.pid)
        _, errors = program.communicate(timeout=SECONDS)
    assert program.returncode == 143
    assert "Traceback" not in errors
