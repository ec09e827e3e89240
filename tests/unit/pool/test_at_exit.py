"""Work that is given to a pool while the program ends: it is done or refused in clear words, and the program ends."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import atexit, sys, threading

WHERE = sys.argv[1]

def act(print=print, flush=sys.stdout.flush):
    try:
        print("done:", call())
    except Exception as error:
        print("RuntimeError:" if isinstance(error, RuntimeError) else type(error), error)
    flush()

class Last:
    def __del__(self, act=act):
        act()

if WHERE == "atexit, last":  # the first registered function is called last
    atexit.register(act)
import runwide
{prepared}
call = lambda: {call}
if WHERE == "atexit":
    atexit.register(act)
elif WHERE == "thread":
    threading.Thread(target=lambda: (threading.main_thread().join(), act())).start()
elif WHERE == "__del__":
    _last = Last()  # such a name is cleared first
"""

INTERPRETER = "RuntimeError: cannot schedule new futures after interpreter shutdown"
NO_THREADS = "RuntimeError: can't create new thread at interpreter shutdown"  # of some Pythons since 3.12
TASKS = "RuntimeError: cannot run tasks after interpreter shutdown"
CLOSED = "RuntimeError: Pool not running"
EXECUTOR = "executor = runwide.Executor(1)"
JOBLIB = "import joblib; runwide.register_joblib()"
PARALLEL = "joblib.Parallel(2, backend='runwide')"
USED = f"{EXECUTOR}; executor.submit(abs, -1).result()"
ANYWHERE = ("atexit, last", "atexit", "thread", "__del__")
LATE = ("atexit, last", "__del__")  # the pools of the program have ended before

CASES = [
    *((where, USED, "executor.submit(abs, -2).result()", INTERPRETER) for where in ANYWHERE),
    *((where, USED, "list(executor.map(abs, [-2]))", INTERPRETER) for where in ANYWHERE),
    *((where, EXECUTOR, "executor.submit(abs, -2).result()", INTERPRETER) for where in ANYWHERE),
    *(
        (where, USED, "runwide.Executor(1).submit(abs, -2).result()", INTERPRETER)
        for where in ("atexit", "__del__")
    ),
    (
        "atexit",
        f"{USED}; executor.shutdown()",
        "executor.submit(abs, -2)",
        "RuntimeError: cannot schedule new futures after shutdown",
    ),
    *((where, "pool = runwide.Pool(1)", "pool.map(abs, [-2])", CLOSED) for where in LATE),
    *((where, "pool = runwide.Pool(1)", "list(pool.imap(abs, iter([-2])))", CLOSED) for where in LATE),
    ("__del__", "pool = runwide.Pool(1)", "pool.apply(abs, (-2,))", CLOSED),
    ("__del__", "from runwide import Pool", "Pool(1).map(abs, [-2])", TASKS),
    ("__del__", "runwide.map(abs, [-1], workers=1)", "runwide.map(abs, [-2], workers=1)", TASKS),
    (
        "__del__",
        "list(runwide.imap(abs, [-1], workers=1))",
        "list(runwide.imap(abs, [-2], workers=1))",
        TASKS,
    ),
    ("atexit", "import asyncio", "asyncio.run(runwide.amap(abs, [-2], workers=1))", TASKS),
    (
        "__del__",
        f"{JOBLIB}; run = {PARALLEL}; run([joblib.delayed(abs)(-1)])",
        "run([joblib.delayed(abs)(-2)])",
        INTERPRETER,
    ),
    # A thread may go on when the main thread has ended, and so may its pools.
    ("thread", "pool = runwide.Pool(1); pool.map(abs, [-1])", "pool.map(abs, [-2])", "done: [2]"),
    ("thread", "pass", "runwide.map(abs, [-2], workers=1)", "done: [2]"),
    ("thread", "pass", "list(runwide.imap(abs, iter([-2]), workers=1))", "done: [2]"),
    ("thread", JOBLIB, f"{PARALLEL}([joblib.delayed(abs)(-2)])", "done: [2]"),
]


@pytest.mark.parametrize(
    ("where", "prepared", "call", "said"),
    CASES,
    ids=[f"{where}: {prepared}: {call}" for where, prepared, call, _ in CASES],
)
def test_calls_made_while_the_program_ends(where, prepared, call, said, tmp_path):
    program = tmp_path / "program.py"
    program.write_text(PROGRAM.format(prepared=prepared, call=call))
    assert run(program, where) in ([said], [NO_THREADS] if said.startswith("done") else [])


def run(program, *args):
    """Lines that a program wrote to its end, without an error."""
    ended = subprocess.run(
        [sys.executable, str(program), *args], capture_output=True, text=True, timeout=60, check=False
    )
    assert ended.returncode == 0, ended.stderr
    assert "Traceback" not in ended.stderr
    return ended.stdout.splitlines()


@pytest.mark.parametrize("end", ["pool.terminate(); pool.join()", "pool.close(); pool.join()", "pool.kill()"])
def test_a_pool_that_was_opened_last_of_all_can_be_ended_when_threads_do_not_run_any_more(end, tmp_path):
    program = tmp_path / "program.py"
    program.write_text(
        "import atexit\n"
        "class Last:\n"
        f"    def __del__(self): {end}\n"
        "def open():\n"
        "    global pool, _last\n"
        "    pool, _last = runwide.Pool(1), Last()\n"
        "    print('done:', pool.map(abs, [-2]))\n"
        "def attempt():\n"
        "    try: open()\n"
        "    except RuntimeError as error: print('RuntimeError:', error)\n"
        "atexit.register(attempt)\n"
        "import runwide\n"
    )
    assert run(program) in (["done: [2]"], [NO_THREADS])
