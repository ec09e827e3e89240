"""Each option has an effect on each surface, or is rejected by name."""

from __future__ import annotations

import asyncio
import inspect
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import get_args

import pytest
from click.testing import CliRunner

import runwide
import runwide_components
from runwide.cli.commands import cli
from runwide.cli.options import names_on
from runwide.errors import InputError, TooManyFailures, WrongType
from runwide.options import record as known
from runwide.options.record import OPTIONS, Options, RunOptions
from runwide.records import Failure

NOT_ON_COMMAND_LINES = {
    "fresh",
    "initargs",
    "on_event",
}  # a command always starts new workers, and a text is not a callable
_TABLE = Path(__file__).parents[2] / "docs" / "options.md"


# The surfaces: each takes a function, items and options, and returns results in order, with failures among them.


def _map(function, items, **options):
    return runwide.map(function, items, on_error="return", **options)


def _stored(function, items, **options):
    return runwide.map(function, items, on_error="return", store="memory://options", **options)


def _imap(function, items, **options):
    return list(runwide.imap(function, items, on_error="return", **options))


def _stored_imap(function, items, **options):
    return list(runwide.imap(function, items, on_error="return", store="memory://options", **options))


def _aimap(function, items, **options):
    async def main():
        return [one async for one in runwide.aimap(function, items, on_error="return", **options)]

    return asyncio.run(main())


def _executor(function, items, **options):
    with runwide.Executor(**options) as executor:
        return [_end_of(future.result) for future in [executor.submit(function, item) for item in items]]


def _pool(function, items, **options):
    with runwide.Pool(**options) as pool:
        return [_end_of(result.get) for result in [pool.apply_async(function, (item,)) for item in items]]


def _shard(function, items, **options):
    job = runwide.scatter(function, items, store="memory://options", shards=1)
    return runwide.gather(job, [runwide.shard(job, 0, **options)], on_error="return")


def _rerun(function, items, **options):
    job = runwide.scatter(function, items, store="memory://options", shards=1)
    return runwide.gather(job, runwide.rerun(job, **options), on_error="return")


def _end_of(get):
    try:
        return get()
    except Exception as error:
        return error


SURFACES = {
    "map": (_map, known.MAP), "map(store=)": (_stored, known.MAP), "imap": (_imap, known.MAP),
    "imap(store=)": (_stored_imap, known.MAP), "aimap": (_aimap, known.MAP), "Executor": (_executor, known.EXECUTOR),
    "Pool": (_pool, known.POOL), "shard": (_shard, known.SHARD), "rerun": (_rerun, known.SHARD),
}  # fmt: skip


# The probes of options: each runs a surface, and raises an error if the option had no effect.


def _expect(found, wanted):
    if found != wanted:
        raise AssertionError(f"{found!r} is not {wanted!r}")


def _kind(result):
    return result.type if isinstance(result, Failure) else type(result).__name__


def _workers(run, folder):
    def meet(item):
        (folder / str(item)).touch()
        end = time.monotonic() + 60
        while len(list(folder.iterdir())) < 3:
            if time.monotonic() > end:
                return False
            time.sleep(0.01)
        return True

    _expect(run(meet, range(3), workers=3), [True] * 3)


def _timeout(run, folder):
    _expect([_kind(one) for one in run(time.sleep, [3600], timeout=0.2, workers=1)], ["TaskTimeout"])


def _retries(run, folder):
    def second_time(item):
        if not (folder / "once").exists():
            (folder / "once").touch()
            raise OSError("the first time")
        return item

    _expect(run(second_time, [7], retries=1, workers=1), [7])


def _max_crashes(run, folder):
    def dies_once(item):
        if not (folder / "once").exists():
            (folder / "once").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return item

    _expect([_kind(one) for one in run(dies_once, [7], max_crashes=1, workers=1)], ["WorkerDied"])


def _max_failures(run, folder):
    with pytest.raises(TooManyFailures):
        run(lambda x: 1 // x, [0, 0, 0], max_failures=1, workers=1)


def _replaced(name, value):
    def probe(run, folder):
        # the pool reads the memory of workers each second
        pids = run(lambda _: time.sleep(0.6) or os.getpid(), range(4), workers=1, **{name: value})
        if len(set(pids)) == 1:
            raise AssertionError("all tasks ran in one process")

    return probe


def _chunksize(run, folder):
    events = []
    run(abs, range(200), chunksize=1, workers=1, on_event=events.append)
    # without it, items of microseconds travel together once their pace is known
    _expect(len({event.queued for event in events}), 200)


def _fresh(run, folder):
    _expect(len({run(lambda _: os.getpid(), [0], workers=1, fresh=True)[0] for _ in range(2)}), 2)


def _initializer(run, folder):
    def prepare(name="prepared"):
        (folder / f"{name}-{os.getpid()}").touch()

    pids = run(lambda _: os.getpid(), range(2), workers=1, initializer=prepare)
    _expect({path.name for path in folder.iterdir()} >= {f"prepared-{pid}" for pid in pids}, True)


def _initargs(run, folder):
    def prepare(name):
        (folder / f"{name}-{os.getpid()}").touch()

    pids = run(lambda _: os.getpid(), range(2), workers=1, initializer=prepare, initargs=("args",))
    _expect({path.name for path in folder.iterdir()} >= {f"args-{pid}" for pid in pids}, True)


def _on_event(run, folder):
    events = []
    run(abs, [-1, -2], workers=1, on_event=events.append)
    _expect(sorted(event.index for event in events), [0, 1])


PROBES = {
    "workers": _workers, "timeout": _timeout, "retries": _retries, "max_crashes": _max_crashes,
    "max_failures": _max_failures, "max_tasks": _replaced("max_tasks", 1), "max_memory": _replaced("max_memory", 1),
    "chunksize": _chunksize, "fresh": _fresh, "initializer": _initializer, "initargs": _initargs, "on_event": _on_event,
}  # fmt: skip
_IN_A_PROGRAM = {"grace", "progress"}  # tested by a program of its own below
_VALUES = {
    "workers": 2, "timeout": 9.5, "retries": 1, "max_crashes": 1, "max_failures": 3, "max_tasks": 4, "max_memory": 10**9,
    "chunksize": 5, "grace": 2.5, "fresh": True, "initializer": print, "initargs": ("x",), "progress": True,
    "on_event": print,
}  # fmt: skip


def test_every_option_has_a_probe():
    assert PROBES.keys() | _IN_A_PROGRAM == OPTIONS.keys() == _VALUES.keys()


@pytest.mark.parametrize("name", sorted(PROBES))
@pytest.mark.parametrize("surface", SURFACES)
def test_an_option_has_an_effect_or_is_rejected_by_name(surface, name, tmp_path):
    run, about = SURFACES[surface]
    if name in about.refused:
        with pytest.raises(InputError, match=f"does not accept {name}="):
            run(abs, [-1], **{name: _VALUES[name]})
    else:
        PROBES[name](run, tmp_path)


_PROGRAM = """
import os, signal, sys, threading, time
sys.path.insert(0, {here!r})
from test_options import SURFACES

def task(folder):
    open(f"{{folder}}/begun", "w").close()
    time.sleep(1)
    open(f"{{folder}}/ended", "w").close()

if __name__ == "__main__":
    surface, name, value, folder = sys.argv[1:]
    run = SURFACES[surface][0]
    if name == "progress":
        run(time.sleep, [0.7, 0.7], workers=1, progress=value == "True")
        sys.exit()
    def stop():
        while not os.path.exists(f"{{folder}}/begun"):
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGTERM)
    threading.Thread(target=stop, daemon=True).start()
    run(task, [folder, folder], workers=1, grace=float(value))
"""


def _ran(tmp_path, surface, name, value):
    (tmp_path / "program.py").write_text(_PROGRAM.format(here=str(Path(__file__).parent)))
    folder = tmp_path / f"{value}"
    folder.mkdir()
    return folder, subprocess.run(
        [sys.executable, "program.py", surface, name, value, str(folder)],
        cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


@pytest.mark.parametrize("surface", SURFACES)
def test_running_tasks_have_the_grace_after_sigterm_or_it_is_rejected(surface, tmp_path):
    run, about = SURFACES[surface]
    if "grace" in about.refused:
        with pytest.raises(InputError, match="does not accept grace="):
            run(abs, [-1], grace=1)
        return
    folder, ended = _ran(tmp_path, surface, "grace", "60")
    assert (ended.returncode, (folder / "ended").exists()) == (143, True), ended.stderr
    folder, ended = _ran(tmp_path, surface, "grace", "0")
    assert (ended.returncode, (folder / "ended").exists()) == (143, False), ended.stderr


@pytest.mark.parametrize("surface", SURFACES)
def test_progress_is_shown_or_hidden_or_rejected(surface, tmp_path):
    run, about = SURFACES[surface]
    if "progress" in about.refused:
        with pytest.raises(InputError, match="does not accept progress="):
            run(abs, [-1], progress=True)
        return
    _, shown = _ran(tmp_path, surface, "progress", "True")
    _, silent = _ran(tmp_path, surface, "progress", "False")
    assert "2/2" in shown.stderr
    assert "2/2" not in silent.stderr


@pytest.mark.parametrize("command", ["map", "rerun", "shard", "submit"])
def test_a_command_has_every_option_that_a_command_line_can_have(command):
    shown = CliRunner().invoke(cli, [command, "--help"], terminal_width=200).output
    but = {"shard": {"initializer"}}.get(command, set())  # its job has it
    for name in OPTIONS.keys() - NOT_ON_COMMAND_LINES - but:
        assert f"--{name.replace('_', '-')}" in shown
    assert OPTIONS.keys() - set(names_on()) == NOT_ON_COMMAND_LINES


@pytest.mark.parametrize(
    "call", ["map", "starmap", "imap", "imap_unordered", "amap", "aimap", "shard", "rerun"]
)
def test_a_signature_and_its_help_list_every_option(call):
    found = getattr(runwide, call)
    shown = inspect.signature(found).parameters
    assert [name for name in shown if name in OPTIONS] == list(OPTIONS)
    for name, option in OPTIONS.items():
        assert f"        {name}: {option.help}\n" in found.__doc__
        assert shown[name].default == option.default


@pytest.mark.parametrize(("surface", "about"), [("Executor", known.EXECUTOR), ("Pool", known.POOL)])
def test_a_pool_lists_the_options_that_it_honours(surface, about):
    found = getattr(runwide, surface)
    shown = set(inspect.signature(found).parameters) & OPTIONS.keys()
    assert shown == OPTIONS.keys() - about.refused.keys()


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"workers": 0}, InputError, "invalid workers=0: expected 1 or more"),
        ({"workers": "all"}, InputError, "invalid workers='all': expected a number or 'per-gpu'"),
        ({"workers": 1.5}, WrongType, "invalid workers=1.5: expected a whole number"),
        ({"workers": True}, WrongType, "invalid workers=True: expected a whole number"),
        ({"timeout": 0}, InputError, "invalid timeout=0: expected a number of seconds, above 0"),
        ({"timeout": float("nan")}, InputError, "invalid timeout=nan: expected a number of seconds, above 0"),
        ({"timeout": "5"}, WrongType, "invalid timeout='5': expected a number of seconds"),
        ({"retries": -1}, InputError, "invalid retries=-1: expected 0 or more"),
        ({"retries": None}, WrongType, "invalid retries=None: expected a whole number"),
        ({"max_crashes": 0}, InputError, "invalid max_crashes=0: expected 1 or more"),
        ({"max_failures": -1}, InputError, "invalid max_failures=-1: expected 0 or more"),
        ({"max_memory": "2 apples"}, InputError, "invalid max_memory='2 apples': expected a size"),
        ({"chunksize": 0}, InputError, "invalid chunksize=0: expected 1 or more"),
        ({"grace": -1}, InputError, "invalid grace=-1: expected a number of seconds, 0 or more"),
        ({"initializer": 3}, WrongType, "invalid initializer=3: expected a callable"),
        ({"initargs": "ab"}, WrongType, "invalid initargs='ab': expected the arguments in a tuple"),
        ({"initargs": (1,)}, InputError, "initargs= are arguments of an initializer"),
        ({"timeout": "inf"}, WrongType, "invalid timeout='inf': expected a number of seconds"),
        ({"grace": float("inf")}, InputError, "grace=inf never ends"),
        ({"progress": "yes"}, WrongType, "invalid progress='yes': expected True or False"),
        ({"on_event": 1}, WrongType, "invalid on_event=1: expected a callable"),
        ({"retrys": 1}, TypeError, "unknown option 'retrys'; did you mean 'retries'?"),
    ],
    ids=str,
)
def test_an_invalid_value_is_rejected_in_one_line_before_anything_starts(options, error, said):
    with pytest.raises(error, match=said.replace("?", r"\?")) as caught:
        runwide.map(abs, [1], **options)
    assert "\n" not in str(caught.value)


def test_a_record_is_immutable_and_returns_changed_copies():
    record = RunOptions(workers=2, initargs=["a"])
    with pytest.raises(AttributeError, match="options are immutable"):
        record.workers = 3
    assert (record.but(workers=3).workers, record.initargs, record.workers) == (3, ("a",), 2)
    assert record == RunOptions(workers=2, initargs=("a",)) != RunOptions()


def test_a_misspelt_option_is_found_by_mypy(tmp_path):
    (tmp_path / "program.py").write_text(
        "import runwide\n"
        "runwide.map(abs, [1], retries=2)\n"
        "runwide.map(abs, [1], retrys=2)\n"
        "runwide.imap(abs, [1], max_failure=2)\n"
        "runwide.Executor(2, max_crash=1)\n"
        "runwide.map(abs, [1], timeout='5')\n"
        "from runwide_components import Components\n"
        "found: list[int] = runwide.map(abs, [1], on=Components(2), store=None)\n"
        "total: int = runwide.map(len, ['a'], reduce=lambda a, b: a + b, on=Components(2))\n"
        "for one in runwide.imap(abs, [1], on=Components(2)):\n    pass\n"
    )
    paths = [str(Path(one.__file__).parents[1]) for one in (runwide, runwide_components)]
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--follow-imports=silent", "program.py"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
        env={**os.environ, "MYPYPATH": os.pathsep.join(paths)},
    )  # fmt: skip
    lines = {line.split(":")[1] for line in done.stdout.splitlines() if ": error: " in line}
    assert lines == {"3", "4", "5", "6"}, done.stdout


def test_the_table_in_the_docs_is_correct():
    assert _table() in _TABLE.read_text()


def _table():
    columns = [
        "map, imap, …",
        "with store=",
        "Executor",
        "Pool",
        "on=Components",
        "fan_out",
        "shard, rerun",
        "command line",
    ]
    surfaces = [
        known.MAP,
        known.MAP,
        known.EXECUTOR,
        known.POOL,
        known.COMPONENTS,
        known.PIPELINE,
        known.SHARD,
    ]
    rows = [f"| option | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
    for name in OPTIONS:
        marks = ["no" if name in about.refused else "yes" for about in surfaces]
        rows.append(f"| `{name}` | {' | '.join([*marks, 'no' if name in NOT_ON_COMMAND_LINES else 'yes'])} |")
    return "\n".join(rows)


def test_the_typed_dict_is_the_source():
    assert list(Options.__annotations__) == list(OPTIONS)
    assert all(get_args(kind)[1] is OPTIONS[name] for name, kind in Options.__annotations__.items())
