"""Lines that tasks print come out unchanged; with `runwide.map` on a terminal, they start with their item."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import terminal

pytestmark = pytest.mark.xdist_group("prints")  # shared objects are made once

PRINTING = r"""
import os, subprocess, sys
import runwide

def work(x):
    print("line", x)
    print("naïve ✓", flush=True)
    sys.stdout.buffer.write(b"bytes \xff\xe9\n"); sys.stdout.flush()
    os.write(1, b"native \xc3\n")
    print(".", end="", flush=True)
    print(".", end="")
    print()
    print('{"json": true}')
    print("[7] mine")
    print("\ttabs\x0b\x0c \x85 and \u2028 separators")
    sys.stdout.flush()
    subprocess.run(["echo", "child"])
    print("dangling", end="")

def by_pool():
    with runwide.Pool(1) as pool:
        pool.map(work, range(2))

def by_executor():
    with runwide.Executor(1) as executor:
        list(executor.map(work, range(2)))

def by_submit():
    with runwide.Executor(1) as executor:
        for x in range(2):
            executor.submit(work, x).result()

def by_joblib():
    from joblib import Parallel, delayed, parallel_config
    import runwide.joblib
    with parallel_config(backend="runwide", n_jobs=2):
        for x in range(2):
            Parallel(batch_size=1)([delayed(work)(x)])

def by_loop():
    for x in range(2):
        work(x)

WAYS = {
    "map": lambda: runwide.map(work, range(2), workers=1),
    "store": lambda: runwide.map(work, range(2), workers=1, store="memory://prints"),
    "imap": lambda: list(runwide.imap(work, range(2), workers=1)),
    "unordered": lambda: list(runwide.imap_unordered(work, range(2), workers=1)),
    "pool": by_pool, "executor": by_executor, "submit": by_submit, "joblib": by_joblib, "loop": by_loop,
}
if __name__ == "__main__":
    for name in sys.argv[1:]:
        WAYS[name]()
        sys.stdout.flush()
        os.write(1, b"=====")
"""
QUIET = ("pool", "executor", "submit", "joblib")
NAMING = ("map", "store", "imap", "unordered")


@pytest.fixture
def program(tmp_path):
    """Runs a program whose output is a file; returns its bytes."""

    def run(text, *words, **variables):
        (tmp_path / "program.py").write_text(text)
        with (tmp_path / "out").open("wb") as out:
            subprocess.run(
                [sys.executable, "program.py", *words], cwd=tmp_path, check=True, timeout=120, stdout=out,
                env={**os.environ, "RUNWIDE_LOG_LEVEL": "error", **variables},
            )  # fmt: skip
        return (tmp_path / "out").read_bytes()

    return run


@pytest.fixture(scope="module", params=["", "1"], ids=["buffered", "unbuffered"])
def printed(request, tmp_path_factory):
    """Return the text that each way prints into a file."""
    folder = tmp_path_factory.mktemp("printed")
    (folder / "program.py").write_text(PRINTING)
    names = ["loop", *NAMING, *QUIET]
    with (folder / "out").open("wb") as out:
        subprocess.run(
            [sys.executable, "program.py", *names], cwd=folder, check=True, timeout=120, stdout=out,
            env={**os.environ, "RUNWIDE_LOG_LEVEL": "error", "PYTHONUNBUFFERED": request.param},
        )  # fmt: skip
    return dict(zip(names, (folder / "out").read_bytes().split(b"====="), strict=False))


@pytest.mark.parametrize("way", [*NAMING, *QUIET])
def test_in_a_file_it_is_byte_for_byte_what_a_loop_prints(printed, way):
    assert len(printed["loop"]) > 200
    assert printed[way] == printed["loop"]


@pytest.mark.parametrize("encoding", ["ascii:backslashreplace", "latin-1:replace"])
def test_in_another_encoding_text_is_as_a_loop_would_print_it(program, encoding):
    text = "import runwide\ndef work(x):\n    print('na\\u00efve \\u2713', x)\nif __name__ == '__main__':\n    {}"
    ours = program(text.format("runwide.map(work, range(3), workers=1)"), PYTHONIOENCODING=encoding)
    assert ours == program(text.format("list(map(work, range(3)))"), PYTHONIOENCODING=encoding)


@pytest.fixture
def shown(tmp_path):
    """Runs a program in a terminal."""

    def run(text, *words, **options):
        (tmp_path / "program.py").write_text(text)
        env = {**os.environ, "RUNWIDE_LOG_LEVEL": "error", "TERM": "xterm"}
        found = terminal.run([sys.executable, "program.py", *words], cwd=tmp_path, env=env, **options)
        assert found.code == 0, found.text
        return found

    return run


SHORT = PRINTING.replace("def work(x):", "def work(x):\n    print('said', x); print('{\"x\": 1}'); return\n")


def test_on_a_terminal_a_map_says_of_which_item_a_line_is_and_a_pool_does_not(shown):
    lines = shown(SHORT, *NAMING, *QUIET).text.split("=====")
    for way, text in zip((*NAMING, *QUIET), lines, strict=False):
        screen = [
            line for line in terminal.screen(text) if "%|" not in line
        ]  # on a busy machine there is a bar
        first, second = ("[0] ", "[1] ") if way in NAMING else ("", "")
        assert screen == [f"{first}said 0", '{"x": 1}', f"{second}said 1", '{"x": 1}'], way


def test_what_was_flushed_is_there_before_the_line_ends(shown, tmp_path):
    text = """
import pathlib, time, runwide
def work(x):
    print("half", end="", flush=True)
    while not pathlib.Path("seen").exists():
        time.sleep(0.01)
    print(" whole")
if __name__ == "__main__":
    with runwide.Executor(1) as executor:
        executor.submit(work, 1).result()
"""
    found = shown(text, on_text=lambda so_far: "half" in so_far and (tmp_path / "seen").touch())
    assert found.screen() == ["half whole"]


def test_a_print_never_breaks_the_line_of_a_bar(shown):
    text = """
import logging, sys, time, runwide
from runwide.log import Log
def work(x):
    print("out of", x)
    print("half", end="", flush=True)
    time.sleep(0.15)
    print(" line")
    print("error of", x, file=sys.stderr)
    return x
if __name__ == "__main__":
    runwide.map(work, range(16), workers=1, on_event=lambda _: Log("pool").error("thing.happened"))
"""
    lines = shown(text).screen()
    *before, bar = lines
    assert bar.startswith("100%|")
    assert re.search(r"16/16 \[\d\d:\d\d", bar)
    said = [line for line in before if not line.endswith("thing.happened [runwide.pool]")]
    assert len(before) - len(said) == 16
    for x in range(16):
        assert {f"[{x}] out of {x}", f"[{x}] half line", f"[{x}] error of {x}"} <= set(said)
    assert len(said) == 48


def test_a_bar_of_the_users_own_stays_whole_too(shown):
    text = """
import time, runwide
from tqdm import tqdm
def work(x):
    print("said", x)
    time.sleep(0.05)
    return x
if __name__ == "__main__":
    for _ in tqdm(runwide.imap(work, range(10), workers=1, progress=False), total=10):
        pass
"""
    *said, bar = shown(text).screen()
    assert said == [f"[{x}] said {x}" for x in range(10)]
    assert "10/10" in bar


# -- commands --

CHATTY = """
import os, subprocess, sys
print("imported")
os.write(1, b"native\\n")
subprocess.run(["echo", "child"])

def work(x):
    print("said", x)
    os.write(1, b"native\\n")
    subprocess.run(["echo", "child"])
    print("complained", file=sys.stderr)
    if x == 2:
        raise ValueError("no two")
    return x
"""


@pytest.fixture
def command(tmp_path):
    """Runs a command of runwide's whose output goes to a file; returns its lines, and those of standard error."""
    (tmp_path / "chatty.py").write_text(CHATTY)
    (tmp_path / "items.json").write_text("[1, 2, 3]")

    def run(*words):
        with (tmp_path / "out").open("wb") as out:
            done = subprocess.run(
                [str(Path(sys.executable).with_name("runwide")), *words], cwd=tmp_path, stdout=out,
                stderr=subprocess.PIPE, text=True, check=False, timeout=120,
            )  # fmt: skip
        return (tmp_path / "out").read_text().splitlines(), done.stderr.splitlines()

    return run


def scattered(command, tmp_path, shards="1"):
    where = ["--function", "chatty:work", "--items-file", "items.json", "--store", str(tmp_path / "store")]
    return command("scatter", *where, "--shards", shards)


def test_runwide_map_writes_results_alone_to_standard_output(command):
    out, error = command("map", "chatty:work", "items.json", "--workers", "1")
    assert out == ["1", "null", "3"]
    assert {"imported", "native", "child", "[0] said 1", "[1] complained"} <= set(error)


@pytest.mark.parametrize("shards", ["1", "auto"])
def test_runwide_scatter_writes_the_reference_alone(command, tmp_path, shards):
    out, error = scattered(command, tmp_path, shards)
    assert len(out) == 1
    assert "job.json#sha256=" in out[0]
    assert "imported" in error


def test_runwide_shard_rerun_and_replay_write_references_and_results_alone(command, tmp_path):
    ((job,), _) = scattered(command, tmp_path)
    out, error = command("shard", job, "0", "--workers", "1")
    assert [line.partition("#")[2][:7] for line in out] == ["sha256="]
    assert {"[0] said 1", "native", "child"} <= set(error)
    out, error = command("rerun", job, "--workers", "1")
    assert len(json.loads(out[0])) == len(out) == 1
    assert "[1] said 2" in error
    out, error = command("replay", job, "2")
    assert out == ["3"]
    assert {"said 3", "native", "child"} <= set(error)


def test_where_standard_output_is_closed_a_command_says_so_and_its_prints_do_not(tmp_path, command):
    command("map", "chatty:work", "items.json")
    done = subprocess.run(
        f"{Path(sys.executable).with_name('runwide')} map chatty:work items.json --workers 1 | true", shell=True,
        cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert "Traceback" not in done.stderr
