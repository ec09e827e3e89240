"""The processes that measure."""

from __future__ import annotations

import sys

import pytest

from runwide.errors import TaskError
from runwide.host.measuring.gains import Plan
from runwide.host.measuring.team import Team, run


@pytest.fixture
def module(tmp_path, monkeypatch):
    """A module of the user's, in the directory from which the command is run."""
    (tmp_path / "mine.py").write_text(
        "import os, sys, time\n"
        "def threads(item): assert os.environ['OMP_NUM_THREADS'] == '1', os.environ['OMP_NUM_THREADS']\n"
        "def echo(item):\n    assert item in ({'a': 1}, 'b'), item\n    print('noise', item)\n"
        "def slow(item): time.sleep(0.02)\n"
        "def boom(item): raise KeyError('no such\\nroute')\n"
        "def leave(item): sys.exit(3)\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)


def test_every_number_of_workers_is_measured_in_every_round():
    done = []
    with Team(2) as team:
        samples = run(team, Plan((1, 2), 2, 0.05), progress=lambda *state: done.append(state))
    assert {count: len(rounds) for count, rounds in samples.items()} == {1: 2, 2: 2}
    assert all(sample.throughput > 0 for rounds in samples.values() for sample in rounds)
    assert done == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_the_users_function_gets_its_items_and_may_print(module):
    with Team(1, function="mine:echo", items=['{"a": 1}', '"b"']) as team:
        assert team.sample(1, seconds=0.05).throughput > 0


def test_the_users_function_runs_with_one_thread_a_worker(module):
    with Team(2, function="mine:threads") as team:
        assert team.sample(2, seconds=0.05).throughput > 0


def test_waiting_shows_as_a_small_share_of_a_cpu(module):
    with Team(1, function="mine:slow") as team:
        assert team.sample(1, seconds=0.2).share < 0.5


@pytest.mark.parametrize(
    ("function", "words"),
    [
        ("mine:boom", "KeyError: 'no such\\\\nroute'"),
        ("mine:absent", "AttributeError"),
        ("absent:thing", "ModuleNotFoundError"),
        ("mine:leave", "exit status 3"),
    ],
)
def test_a_function_that_cannot_run_is_a_task_error_in_one_line(module, function, words):
    with pytest.raises(TaskError, match=words) as caught:
        Team(2, function=function)
    assert "\n" not in str(caught.value)


def test_members_are_plain_processes_of_this_interpreter():
    with Team(1) as team:
        (member,) = team._members
        assert member.args[0] == sys.executable
    assert member.returncode == 0
