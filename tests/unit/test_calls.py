"""The forms of a map: several iterables, constants, unpacked items, references, event loops, stores."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import threading
from functools import partial

import pytest

import runwide
from runwide import sigterm
from runwide.errors import InputError, Preempted, TasksFailed
from runwide.records import Failure


def pair(one, other, *, third=0):
    return one, other, third


def fails(x):
    if x % 2:
        raise ValueError(f"odd: {x}")
    return x


WAYS = {
    "map": runwide.map,
    "map(store=)": partial(runwide.map, store="memory://calls"),
    "imap": lambda *given, **options: list(runwide.imap(*given, **options)),
    "imap(store=)": lambda *given, **options: list(runwide.imap(*given, store="memory://calls", **options)),
    "imap_unordered": lambda *given, **options: sorted(runwide.imap_unordered(*given, **options)),
    "amap": lambda *given, **options: asyncio.run(runwide.amap(*given, **options)),
    "amap(store=)": lambda *given, **options: asyncio.run(
        runwide.amap(*given, store="memory://calls", **options)
    ),
    "aimap": lambda *given, **options: asyncio.run(_taken(*given, **options)),
}


async def _taken(*given, **options):
    return [one async for one in runwide.aimap(*given, **options)]


@pytest.mark.parametrize("way", WAYS)
def test_several_iterables_end_with_the_shortest_and_constants_are_the_same_for_all(way):
    found = WAYS[way](pair, [1, 2, 3], iter("ab"), constants={"third": 9}, workers=1)
    assert found == [(1, "a", 9), (2, "b", 9)]


def test_starmap_unpacks_items():
    assert runwide.starmap(pair, [(1, 2), (3, 4)], constants={"third": 5}) == [(1, 2, 5), (3, 4, 5)]
    assert runwide.starmap(pow, [(2, 3), (3, 2)], store="memory://calls", reduce=max) == 9


@pytest.mark.parametrize(
    ("given", "error", "said"),
    [
        (((pair, [1], 5), {}), TypeError, "items is an int, not an iterable"),
        (((fails, [1]), {"constants": ["third"]}), TypeError, "expected keyword arguments by name"),
        (
            ((fails, [1]), {"constants": {"y": 1}}),
            InputError,
            "constants= does not fit the function: got an unexpected keyword argument 'y'",
        ),
        (((fails, [1]), {"on": runwide.Pool}), InputError, "expected a place such as Components"),
    ],
    ids=["iterable", "constants", "constant", "place"],
)
def test_an_invalid_argument_is_rejected_in_one_line(given, error, said):
    for way in (runwide.map, runwide.imap, runwide.imap_unordered, runwide.aimap):
        with pytest.raises(error, match=said) as caught:
            way(*given[0], **given[1])
        assert "\n" not in str(caught.value)


def test_a_reference_among_several_iterables_gives_its_results():
    job = runwide.map(abs, [-1, -2], store="memory://calls").job
    assert runwide.map(pair, job, "xy") == [(1, "x", 0), (2, "y", 0)]
    assert runwide.map(pair, "xy", job, store="memory://calls") == [("x", 1, 0), ("y", 2, 0)]
    assert list(runwide.imap(abs, job)) == [1, 2]


@pytest.mark.parametrize("options", [{}, {"store": "memory://calls"}], ids=["here", "store"])
def test_amap_takes_items_outside_of_the_event_loop_and_raises_like_map(options):
    taken_on = []

    def items():
        for item in range(4):
            taken_on.append(threading.current_thread())
            yield item

    with pytest.raises(ValueError, match="odd: 1") as caught:
        asyncio.run(runwide.amap(fails, items(), workers=1, **options))
    assert threading.main_thread() not in taken_on
    assert isinstance(caught.value.__cause__, TasksFailed)
    assert [failure.index for failure in caught.value.__cause__.failures] == [1, 3]
    found = asyncio.run(runwide.amap(fails, range(4), workers=1, on_error="return", **options))
    assert [isinstance(one, Failure) for one in found] == [False, True, False, True]
    assert found.report().metrics["results"] == 2


def test_leaving_an_async_loop_with_a_store_stops_the_tasks_and_keeps_stored_results(tmp_path):
    async def first():
        results = runwide.aimap(
            abs, range(-500, 0), store=tmp_path / "store", name="left", workers=1, chunksize=1
        )
        found = await anext(results)
        await results.aclose()
        return found

    assert asyncio.run(first()) == 500
    assert not [thread for thread in threading.enumerate() if "stored-stream" in thread.name]
    again = runwide.imap_unordered(abs, range(-500, 0), store=tmp_path / "store", name="left")
    assert sorted(again) == list(range(1, 501))


_SIGTERM = """
import asyncio, os, signal, sys, threading, time
import runwide

def task(path):
    open(path + ".begun", "w").close()
    time.sleep(1)
    open(path, "w").close()

def stop(path):
    while not os.path.exists(path + ".begun"):
        time.sleep(0.01)
    os.kill(os.getpid(), signal.SIGTERM)

if __name__ == "__main__":
    threading.Thread(target=stop, args=(sys.argv[1],), daemon=True).start()
    asyncio.run(runwide.amap(task, [sys.argv[1], sys.argv[1] + "-second"], workers=1, chunksize=1))
"""


def test_sigterm_reaches_the_pool_of_an_event_loop(tmp_path):
    (tmp_path / "program.py").write_text(_SIGTERM)
    done = subprocess.run(
        [sys.executable, "program.py", "first"], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120
    )  # fmt: skip
    assert done.returncode == 143, done.stderr
    assert (tmp_path / "first").exists()
    assert not (tmp_path / "first-second").exists()


def test_a_handler_of_sigterm_whose_block_has_ended_does_nothing():
    """It may stay behind when the garbage collector closes an iterator on another thread."""
    before = signal.getsignal(signal.SIGTERM)
    came = []

    def block():
        with sigterm.handled(lambda *_: came.append("left behind")):
            yield

    left = block()
    next(left)
    closing = threading.Thread(target=left.close)
    closing.start()
    closing.join()
    with pytest.raises(Preempted), sigterm.leaves_on_sigterm():
        signal.raise_signal(signal.SIGTERM)
    assert not came
    assert signal.getsignal(signal.SIGTERM) == before


def test_either_of_two_handlers_of_sigterm_may_end_first():
    before = signal.getsignal(signal.SIGTERM)
    first, second = sigterm.leaves_on_sigterm(), sigterm.handled(lambda *_: None)
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    second.__exit__(None, None, None)
    assert signal.getsignal(signal.SIGTERM) == before
