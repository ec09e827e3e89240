"""The progress of a map, on a terminal and without one."""

from __future__ import annotations

import importlib
import io
import os
import re
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest
import terminal

import runwide
from runwide import progress
from runwide.records import Failure, FailureKind, Outcome

pytestmark = pytest.mark.xdist_group("progress")  # shared objects are made once


def arriving(number, failed=()):
    for index in range(number):
        failure = Failure(index, FailureKind.EXCEPTION, "OSError", "x") if index in failed else None
        yield Outcome(index, index, failure)


@pytest.fixture
def watched(monkeypatch):
    """Make standard error a terminal; pytest would reset it after a fixture."""

    def look(stream):
        stream.isatty = lambda: True
        monkeypatch.setattr(sys, "stderr", stream)
        return stream

    return look


@pytest.mark.parametrize("place", [{}, {"store": "memory://bars"}])
def test_a_bar_knows_how_many_items_there_are_with_a_store_too(place, monkeypatch, capsys):
    monkeypatch.setattr(progress, "QUIET_SECONDS", 0.0)
    assert runwide.map(abs, [-1, -2, -3], workers=1, progress=True, **place) == [1, 2, 3]
    assert "3/3" in capsys.readouterr().err


def test_a_bar_on_a_terminal_says_how_many_have_failed(watched, monkeypatch):
    monkeypatch.setattr(progress, "QUIET_SECONDS", 0)
    stream = watched(io.StringIO())
    assert len(list(progress.with_progress(arriving(50, failed=[3]), 50, wanted=None))) == 50
    assert "50/50" in stream.getvalue()
    assert "failed=1" in stream.getvalue()


def test_no_progress_is_shown_for_a_short_map_or_with_progress_false(watched, monkeypatch):
    stream = watched(io.StringIO())
    monkeypatch.setattr(progress, "QUIET_SECONDS", 3600)  # however busy the machine is
    list(progress.with_progress(arriving(50), 50, wanted=None))
    monkeypatch.setattr(progress, "QUIET_SECONDS", 0)
    list(progress.with_progress(arriving(50), 50, wanted=False))
    assert stream.getvalue() == ""


def test_a_bar_in_a_notebook_without_widgets_is_text_and_warns_of_nothing(monkeypatch, capsys):
    def autonotebook(name, *rest):
        if name == "tqdm.auto":
            import warnings

            from tqdm import TqdmWarning

            warnings.warn("IProgress not found", TqdmWarning, stacklevel=2)
        return load(name, *rest)

    import builtins

    load = builtins.__import__
    monkeypatch.setattr(builtins, "__import__", autonotebook)  # warnings are errors in these tests
    progress.bar(3, 1, 0.0).close()
    assert "1/3" in capsys.readouterr().err


WAITING = """
import sys, time, runwide
def work(x):
    time.sleep(0.6)
    return x
def slowly():
    yield from (time.sleep(3) or x for x in range(1))
WAYS = {
    "map": lambda: runwide.map(lambda x: time.sleep(3), range(2), workers=2),
    "store": lambda: runwide.map(lambda x: time.sleep(3), range(2), workers=2, store="memory://waiting"),
    "imap": lambda: list(runwide.imap(lambda x: time.sleep(3), range(2), workers=2)),
    "amap": lambda: __import__("asyncio").run(runwide.amap(lambda x: time.sleep(3), range(2), workers=2)),
    "slow": lambda: runwide.map(abs, slowly(), workers=1),
    "pace": lambda: runwide.map(work, range(12), workers=1),
}
if __name__ == "__main__":
    WAYS[sys.argv[1]]()
"""


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    """Return the displays of waiting programs, each in a terminal, all at once."""
    folder = tmp_path_factory.mktemp("waiting")
    (folder / "program.py").write_text(WAITING)
    options = {"cwd": folder, "env": {**os.environ, "TERM": "xterm"}}
    ways = ("map", "store", "imap", "amap", "slow", "pace")
    with ThreadPoolExecutor(len(ways)) as threads:
        running = {
            way: threads.submit(terminal.run, [sys.executable, "program.py", way], **options) for way in ways
        }
        return {way: run.result() for way, run in running.items()}


def on_its_clock(bar, text):
    """The seconds that a bar has counted."""
    minutes, seconds = re.search(bar, text).groups()
    return 60 * int(minutes) + int(seconds)


@pytest.mark.parametrize("way", ["map", "store", "imap", "amap"])
def test_the_bar_is_there_before_the_first_result_with_the_clock_of_the_map(shown, way):
    found = shown[way]
    came, first = next(one for one in found.pieces if "0/2" in one[1])
    assert 1 <= on_its_clock(r"0/2 \[(\d\d):(\d\d)<\?", first) <= came
    assert 3 <= on_its_clock(r"2/2 \[(\d\d):(\d\d)", "\n".join(found.screen())) <= found.pieces[-1][0]


def test_the_bar_is_there_while_the_items_are_waited_for(shown):
    found = shown["slow"]
    assert on_its_clock(r"0 ?items \[(\d\d):(\d\d)", found.text) <= found.pieces[-1][0]


def test_the_estimate_is_right_from_the_first_results(shown):
    found = re.findall(r" (\d+)/12 \[00:(\d\d)<(\d\d):(\d\d)", shown["pace"].text)
    left = {int(done): (int(passed), 60 * int(minutes) + int(rest)) for done, passed, minutes, rest in found}
    drawn = [done for done in left if 2 <= done <= 10]  # on a busy machine not all are
    assert len(drawn) >= 3
    assert min(drawn) <= 4
    for done in drawn:
        passed, seconds = left[done]  # both without their fractions
        assert passed / done * (12 - done) - 1 <= seconds <= (passed + 1) / done * (12 - done), left


def test_what_had_ended_before_is_no_part_of_the_pace():
    drawn = progress.bar(100, 50, time.time() - 10)
    drawn.n = 60
    assert drawn.format_dict["initial"] == 50
    assert round((drawn.n - drawn.format_dict["initial"]) / drawn.format_dict["elapsed"]) == 1
    drawn.close()


@pytest.fixture
def quick(monkeypatch):
    """Lines come after a tenth of a second."""
    clock = progress.Clock(0.005, 0.02)
    monkeypatch.setattr(progress, "_clock", clock)
    monkeypatch.setattr(progress, "LOG_SECONDS", 0.1)
    yield
    clock.rest()


@pytest.fixture
def clock(monkeypatch):
    """A clock for lines, in seconds, which moves only when the test sets it."""
    now = [0.0]
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: now[0], time=time.time))
    return now


@pytest.mark.parametrize("place", [{}, {"store": "memory://lines"}])
def test_without_a_terminal_lines_come_with_a_store_and_without(quick, caplog, place):
    runwide.map(lambda x: time.sleep(1) or 1 / x, [1, 0], workers=1, on_error="return", **place)
    lines = [record.msg for record in caplog.records if record.msg["event"] == "map.progressed"]
    assert len(lines) >= 3
    assert (lines[0]["done"], lines[0]["total"]) == (0, 2)
    assert {record.name for record in caplog.records if record.msg["event"] == "map.progressed"} == {
        "runwide.progress"
    }


def test_each_line_comes_when_the_map_has_taken_half_as_long_again(quick, clock, caplog, until):
    shows = progress.display(10, lambda: (0, 0), wanted=None)
    for seconds, due in [(9, True), (13, False), (14, True), (20, False), (22, True)]:
        caplog.clear()
        clock[0] = seconds
        if due:
            until(lambda: caplog.records)
            assert [record.msg["seconds"] for record in caplog.records] == [seconds]
        else:
            shows.tick()
            assert caplog.records == []
    shows.close()


def test_a_line_says_how_long_it_will_take(quick, clock, caplog, until):
    shows = progress.display(10, lambda: (5, 1), wanted=None, known=3)
    clock[0] = 4.0
    until(lambda: caplog.records)
    shows.close()
    line = caplog.records[0].msg
    assert (line["done"], line["total"], line["failed"]) == (5, 10, 1)
    assert line["seconds_left"] == 10


def test_a_program_that_loads_ipykernel_is_no_notebook(quick, caplog, until):
    importlib.import_module("ipykernel.iostream")  # as ipywidgets does, in whatever program

    shows = progress.display(10, lambda: (5, 1), wanted=None)
    until(lambda: caplog.records)
    shows.close()


def test_a_short_map_writes_no_line(caplog, clock):
    runwide.map(abs, [-1], workers=1)
    assert caplog.records == []


def test_one_thread_serves_one_map_after_the_other_and_ends(quick, until):
    import threading

    for _ in range(3):
        list(progress.with_progress(arriving(3), 3, wanted=None))
    threads = [one for one in threading.enumerate() if one.name == "runwide-progress"]
    assert len(threads) <= 1
    until(lambda: not any(one.is_alive() for one in threads))


def test_a_bar_that_cannot_be_drawn_stops_no_map(watched, monkeypatch):
    monkeypatch.setattr(progress, "QUIET_SECONDS", 0)

    class Broken(io.StringIO):
        def write(self, text):
            raise OSError("no terminal any more")

    watched(Broken())
    assert runwide.map(abs, [-1, -2], workers=1) == [1, 2]


def test_a_terminal_that_reports_no_width_has_a_bar(tmp_path):
    (tmp_path / "program.py").write_text(
        "import runwide\nfrom runwide import progress\nprogress.QUIET_SECONDS = 0\n"
        "if __name__ == '__main__': runwide.map(abs, [-1, -2], workers=1, progress=True)\n"
    )
    env = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
    found = terminal.run([sys.executable, "program.py"], columns=0, cwd=tmp_path, env=env)
    assert found.code == 0
    last = found.screen()[-1]
    assert "2/2" in last
    assert "#" in last or "\N{FULL BLOCK}" in last
    assert 60 < len(last) <= 80
