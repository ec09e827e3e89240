"""Items that come slowly: each is started as soon as it is there, and nobody waits for the next against their will."""

from __future__ import annotations

import asyncio
import multiprocessing
import queue
import signal
import sqlite3
import subprocess
import sys
import textwrap
import threading
import time
from contextvars import ContextVar

import pytest

import runwide
from runwide.errors import NoItems, PoolClosed, TooManyFailures
from runwide.pool import outcomes

SECONDS = 5  # until what should happen at once has not happened


def pool(name, *args):
    def run(function, items):
        with runwide.Pool(2) as made:
            found = getattr(made, name)(function, items, *args)
            return list(found.get(SECONDS) if name.endswith("_async") else found)

    return run


def executor(**options):
    def run(function, items):
        with runwide.Executor(2) as made:
            return list(made.map(function, items, **options))

    return run


def starmap(function, items):
    with runwide.Pool(2) as made:
        return made.starmap(function, ((item,) for item in items))


STREAMS = {
    "imap": lambda function, items: list(runwide.imap(function, items, workers=2)),
    "imap_unordered": lambda function, items: list(runwide.imap_unordered(function, items, workers=2)),
    "outcomes": lambda function, items: [end.value for end in outcomes(function, items, workers=2)],
    "Pool.imap": pool("imap"),
    "Pool.imap, chunks": pool("imap", 3),
    "Pool.imap_unordered": pool("imap_unordered"),
    "Executor.map, buffersize": executor(buffersize=2),
}
LISTS = {
    "map": lambda function, items: runwide.map(function, items, workers=2),
    "map, chunks": lambda function, items: runwide.map(function, items, workers=2, chunksize=3),
    "amap": lambda function, items: asyncio.run(runwide.amap(function, items, workers=2)),
    "Pool.map": pool("map"),
    "Pool.map_async": pool("map_async"),
    "Pool.starmap": starmap,
    "Executor.map": executor(),
}
EVERYTHING = STREAMS | LISTS


def until(condition):
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.005)


@pytest.mark.parametrize("surface", EVERYTHING)
def test_an_item_is_started_before_the_next_is_there(surface, tmp_path):
    def items():
        for x in range(3):
            yield x
            until((tmp_path / str(x)).exists)

    def task(x):
        (tmp_path / str(x)).touch()
        return x

    assert sorted(EVERYTHING[surface](task, items())) == [0, 1, 2]


@pytest.mark.parametrize("surface", ["map", "imap", "imap_unordered", "Pool.map", "Executor.map, buffersize"])
def test_items_that_come_together_are_started_together_however_quick_those_before_were(surface, tmp_path):
    def items():
        for x in range(50):
            yield x
            until((tmp_path / str(x)).exists)
        yield from (50, 51)

    def task(x):
        (tmp_path / str(x)).touch()
        if x >= 50:
            until((tmp_path / str(101 - x)).exists)
        return x

    assert sorted(EVERYTHING[surface](task, items())) == list(range(52))


def with_feedback(results, function, run):
    """Items that are made of earlier results."""

    def items():
        while (item := results.get(timeout=SECONDS)) < 50:
            yield item

    results.put(1)
    for result in run(function, items()):
        results.put(result)
    return result


def double(x):
    return 2 * x


@pytest.mark.parametrize("surface", ["imap", "imap_unordered", "Pool.imap", "Executor.map"])
def test_items_may_be_made_of_earlier_results(surface):
    with runwide.Pool(2) as made, runwide.Executor(2) as standard:
        run = {
            "imap": lambda function, items: runwide.imap(function, items, workers=2),
            "imap_unordered": lambda function, items: runwide.imap_unordered(function, items, workers=2),
            "Pool.imap": made.imap,
            "Executor.map": lambda function, items: standard.map(function, items, buffersize=3),
        }[surface]
        assert with_feedback(queue.Queue(), double, run) == 64


def test_items_may_be_made_of_earlier_results_inside_a_worker_too():
    def nested(_):
        with runwide.Pool(2) as made, runwide.Executor(2) as standard:
            return [
                with_feedback(queue.Queue(), double, runwide.imap),
                with_feedback(queue.Queue(), double, made.imap),
                with_feedback(
                    queue.Queue(), double, lambda function, items: standard.map(function, items, buffersize=3)
                ),
            ]

    assert runwide.map(nested, [0], workers=1) == [[64, 64, 64]]


def numbers(**options):
    connection = sqlite3.connect(":memory:", **options)
    connection.executescript("create table t (x); insert into t values (1), (2), (3)")
    return connection, connection.execute("select x from t order by x")


def first(row):
    return row[0]


@pytest.mark.parametrize("surface", [name for name in LISTS if name != "amap"])
def test_what_returns_a_list_takes_the_items_on_the_callers_thread(surface):
    connection, cursor = numbers()
    assert LISTS[surface](abs if surface == "Pool.starmap" else first, taken_apart(surface, cursor)) == [
        1,
        2,
        3,
    ]
    connection.close()


def taken_apart(surface, cursor):
    return (row[0] for row in cursor) if surface == "Pool.starmap" else cursor


@pytest.mark.parametrize("surface", [*STREAMS, "amap"])
def test_streams_take_them_on_another_as_the_standard_pool_does(surface):
    connection, cursor = numbers(check_same_thread=False)
    assert sorted(EVERYTHING[surface](first, cursor)) == [1, 2, 3]
    connection.close()
    connection, cursor = numbers()
    with pytest.raises(sqlite3.ProgrammingError, match="same thread"):
        EVERYTHING[surface](first, cursor)
    with multiprocessing.Pool(1) as standard, pytest.raises(sqlite3.ProgrammingError, match="same thread"):
        list(standard.imap(first, cursor))
    connection.close()


tenant = ContextVar("tenant", default="none")


@pytest.mark.parametrize("surface", EVERYTHING)
def test_the_iterable_sees_the_callers_context(surface):
    def items():
        for x in range(3):
            yield f"{tenant.get()}-{x}"

    token = tenant.set("ours")
    try:
        assert sorted(EVERYTHING[surface](str, items())) == ["ours-0", "ours-1", "ours-2"]
    finally:
        tenant.reset(token)


class Broken(Exception):
    pass


@pytest.mark.parametrize("error", [Broken, SystemExit])
@pytest.mark.parametrize("surface", EVERYTHING)
def test_the_iterables_own_exception_reaches_the_caller(surface, error):
    def items():
        yield 1
        raise error("the input")

    with pytest.raises(error, match="the input"):
        EVERYTHING[surface](abs, items())


@pytest.mark.parametrize("surface", STREAMS)
def test_what_came_before_it_is_done(surface):
    def items():
        yield from [-1, -2, -3]
        raise Broken

    with runwide.Pool(2) as made, runwide.Executor(2) as standard:
        stream = {
            "imap": lambda: runwide.imap(abs, items(), workers=2),
            "imap_unordered": lambda: runwide.imap_unordered(abs, items(), workers=2),
            "outcomes": lambda: (end.value for end in outcomes(abs, items(), workers=2)),
            "Pool.imap": lambda: made.imap(abs, items()),
            "Pool.imap, chunks": lambda: made.imap(abs, items(), 2),
            "Pool.imap_unordered": lambda: made.imap_unordered(abs, items()),
            "Executor.map, buffersize": lambda: standard.map(abs, items(), buffersize=5),
        }[surface]()
        assert sorted(next(stream) for _ in range(3)) == [1, 2, 3]
        with pytest.raises(Broken):
            next(stream)


@pytest.mark.parametrize("surface", ["map", "amap", "imap", "imap_unordered"])
def test_an_iterable_that_brings_nothing_is_named(surface):
    with pytest.raises(NoItems, match="no items"):
        EVERYTHING[surface](abs, iter(()))


class Stuck:
    """Brings some items, then nothing until it is let go; knows whether it was closed."""

    def __init__(self, *items):
        self.items = items
        self.waits = threading.Event()
        self.go_on = threading.Event()
        self.closed = threading.Event()

    def __iter__(self):
        try:
            yield from self.items
            self.waits.set()
            self.go_on.wait(SECONDS)
            yield "late"
        finally:
            self.closed.set()


@pytest.mark.parametrize("surface", ["imap", "imap_unordered", "Pool.imap", "Executor.map"])
def test_leaving_a_stream_does_not_wait_for_the_iterable(surface, tmp_path):
    stuck = Stuck(-1, -2)
    with runwide.Pool(2) as made, runwide.Executor(2) as standard:
        stream = {
            "imap": lambda: runwide.imap(abs, stuck, workers=2),
            "imap_unordered": lambda: runwide.imap_unordered(abs, stuck, workers=2),
            "Pool.imap": lambda: made.imap(abs, stuck),
            "Executor.map": lambda: standard.map(abs, stuck, buffersize=5),
        }[surface]()
        assert {next(stream), next(stream)} == {1, 2}
        assert stuck.waits.wait(SECONDS)
        stream.close()
        assert not stuck.go_on.is_set()
        stuck.go_on.set()
        assert stuck.closed.wait(SECONDS)
        assert made.map(abs, [-5]) == [5]
        assert standard.submit(abs, -6).result(SECONDS) == 6


def test_a_generator_is_closed_with_the_stream_that_it_waits_for():
    stuck = Stuck(*range(1_000))
    stream = runwide.imap(abs, iter(stuck), workers=2)
    assert next(stream) == 0
    stream.close()
    assert stuck.closed.wait(SECONDS)
    assert not stuck.waits.is_set()


def test_terminating_a_pool_ends_the_streams_whose_iterables_wait():
    stuck = Stuck(-1)
    pool = runwide.Pool(2)
    stream = pool.imap(abs, stuck)
    assert next(stream) == 1
    assert stuck.waits.wait(SECONDS)
    pool.terminate()
    pool.join()
    with pytest.raises(PoolClosed):
        next(stream)
    stuck.go_on.set()


def test_a_pool_that_is_closed_finishes_a_lazy_input_that_nobody_consumes(tmp_path):
    pool = runwide.Pool(2)
    pool.imap(lambda x: (tmp_path / str(x)).touch(), (x for x in range(50)))
    pool.close()
    pool.join()
    assert len(list(tmp_path.iterdir())) == 50


def test_an_executor_that_is_shut_down_takes_no_more_of_an_endless_input():
    stuck = Stuck(-1, -2)
    with runwide.Executor(2) as executor:
        results = executor.map(abs, stuck, buffersize=5)
        assert stuck.waits.wait(SECONDS)
    assert [next(results), next(results)] == [1, 2]
    with pytest.raises(PoolClosed, match="shut down before all items were taken"):
        next(results)
    stuck.go_on.set()


@pytest.mark.parametrize("surface", ["map", "amap"])
def test_a_map_takes_a_bounded_number_of_items_ahead_of_those_that_have_ended(surface, tmp_path):
    taken = []

    def items():
        for x in range(200):
            taken.append(x)
            yield x

    def task(x):
        if x == 0:
            until((tmp_path / "go on").exists)
        return x

    def release():
        until(lambda: len(taken) > 1)
        time.sleep(0.5)  # in which all would be taken
        seen.append(len(taken))
        (tmp_path / "go on").touch()

    seen = []
    releasing = threading.Thread(target=release)
    releasing.start()
    run = {"map": runwide.map, "amap": lambda *args, **options: asyncio.run(runwide.amap(*args, **options))}[
        surface
    ]
    assert run(task, items(), workers=1) == list(range(200))
    releasing.join()
    assert 2 <= seen[0] <= 8


def test_a_map_that_has_failed_too_often_takes_no_more_items():
    taken = []

    def items():
        for x in range(1_000):
            taken.append(x)
            yield x
            time.sleep(0.01)

    with pytest.raises(TooManyFailures):
        runwide.map(lambda x: 1 / 0, items(), workers=2, max_failures=1)
    assert len(taken) < 1_000


def test_amap_takes_no_item_on_the_event_loop():
    async def main():
        loop_thread, threads = threading.get_ident(), set()

        class Items:
            def __len__(self):
                threads.add(threading.get_ident())
                return 2

            def __iter__(self):
                for x in range(2):
                    threads.add(threading.get_ident())
                    yield x

        assert await runwide.amap(abs, Items(), workers=1) == [0, 1]
        assert threads
        assert loop_thread not in threads

    asyncio.run(main())


def test_cancelling_amap_does_not_wait_for_the_iterable():
    stuck = Stuck(-1)

    async def main():
        running = asyncio.create_task(runwide.amap(abs, stuck, workers=1))
        assert await asyncio.to_thread(stuck.waits.wait, SECONDS)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

    asyncio.run(main())
    assert not stuck.closed.is_set()
    stuck.go_on.set()
    assert stuck.closed.wait(SECONDS)


PROGRAM = """
    import queue, sys, time
    import runwide
    from runwide.errors import Preempted

    def items():
        yield from [-1, -2]
        print("waits", flush=True)
        queue.Queue().get()
        yield "never"

    if __name__ == "__main__":
"""


def program(tmp_path, body):
    path = tmp_path / "program.py"
    path.write_text(textwrap.dedent(PROGRAM) + textwrap.indent(textwrap.dedent(body), "    "))
    return subprocess.Popen(
        [sys.executable, str(path), str(tmp_path / "store")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


LEAVING = {
    "imap": """
        stream = runwide.imap(abs, items(), workers=2)
        print(next(stream), next(stream))
    """,
    "Pool.imap": """
        pool = runwide.Pool(2)
        stream = pool.imap(abs, items())
        print(next(stream), next(stream))
        pool.terminate()
    """,
    "Executor.map": """
        with runwide.Executor(2) as executor:
            stream = executor.map(abs, items(), buffersize=5)
            print(next(stream), next(stream))
    """,
    "an executor that is left open": """
        executor = runwide.Executor(2)
        stream = executor.map(abs, items(), buffersize=5)
        print(next(stream), next(stream))
    """,
    "an executor that is dropped": """
        stream = runwide.Executor(2).map(abs, items(), buffersize=5)
    """,
}


@pytest.mark.parametrize("how", LEAVING)
def test_an_iterable_that_waits_for_ever_does_not_keep_the_program(how, tmp_path):
    with program(tmp_path, LEAVING[how]) as running:
        out, errors = running.communicate(timeout=SECONDS)
    assert running.returncode == 0, errors
    assert "dropped" in how or "1 2" in out


SIGTERM = {
    "map": """
        try:
            runwide.map(abs, items(), workers=2)
        except Preempted as error:
            print(error.results)
            raise
    """,
    "map, seen by a generator that goes on": """
        def stubborn():
            try:
                yield from items()
            except BaseException:
                yield from range(1_000_000_000)

        try:
            runwide.map(abs, stubborn(), workers=2)
        except Preempted as error:
            print(error.results[:2])
            raise
    """,
    "imap": """
        print([x for x in runwide.imap(abs, items(), workers=2) if not print(x, flush=True)])
    """,
}


@pytest.mark.parametrize("how", SIGTERM)
def test_sigterm_ends_a_map_whose_iterable_waits(how, tmp_path):
    with program(tmp_path, SIGTERM[how]) as running:
        lines = []
        while not {"waits\n", *(["2\n"] if how == "imap" else [])} <= set(lines):
            lines.append(running.stdout.readline())
            assert lines[-1], running.communicate()
        running.send_signal(signal.SIGTERM)
        out, errors = running.communicate(
            timeout=SECONDS
        )  # the grace is 20 s, and the iterable waits for ever
    assert running.returncode == 143, errors
    assert errors == ""
    if how != "imap":
        assert out in ("[1, 2]\n", "[1]\n", "[]\n", "[None, 2]\n")
