"""An iterable that waits for ever does not hold up a consumer that leaves, SIGTERM, or the end of the program."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import textwrap
import threading
import time
from contextlib import contextmanager

import pytest

import runwide
from runwide.errors import PoolClosed, TooManyFailures

SECONDS = 60  # until what should happen at once has not happened


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


def test_a_pool_that_is_closed_finishes_a_lazy_input_whose_results_are_not_consumed(tmp_path):
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
    with pytest.raises(PoolClosed, match=r"^cannot schedule new futures after shutdown$"):
        next(results)
    stuck.go_on.set()


@pytest.mark.parametrize("surface", ["map", "amap"])
def test_a_map_takes_a_bounded_number_of_items_ahead_of_those_that_have_ended(surface, tmp_path, until):
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


@contextmanager
def program(tmp_path, body):
    path = tmp_path / "program.py"
    path.write_text(textwrap.dedent(PROGRAM) + textwrap.indent(textwrap.dedent(body), "    "))
    with subprocess.Popen(
        [sys.executable, str(path), str(tmp_path / "store")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as running:
        try:
            yield running
        finally:
            running.kill()


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
def test_sigterm_ends_a_map_whose_iterable_waits(how, tmp_path, sigterm):
    with program(tmp_path, SIGTERM[how]) as running:
        lines = []
        while not {"waits\n", *(["2\n"] if how == "imap" else [])} <= set(lines):
            lines.append(running.stdout.readline())
            assert lines[-1], running.communicate()
        sigterm(running.pid)
        # the grace is 20 s, and the iterable waits for ever
        out, errors = running.communicate(timeout=SECONDS)
    assert running.returncode == 143, errors
    assert errors == ""
    if how != "imap":
        assert out in ("[1, 2]\n", "[1]\n", "[]\n", "[None, 2]\n")
