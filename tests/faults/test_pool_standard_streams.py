"""In whatever state this program's standard streams are, nothing that goes wrong with them stops a map or loses a line."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys

import pytest

import runwide
from runwide import streams
from runwide.log import Log

pytestmark = pytest.mark.faults

SURFACES = """
import asyncio, json, os, sys
import runwide
from runwide import progress

progress.QUIET_SECONDS = 0.0  # a bar is due at once

def die_at_five(x):
    print("working on", x)
    if x == 5:
        os._exit(1)
    return x

def raises(_event):
    raise OSError("no reader")

def described(results):
    return [one.type if isinstance(one, runwide.Failure) else one for one in results]

def all_surfaces():
    "What each surface gives for the same items, one of which kills its worker; then what a pool does afterwards."
    found = []
    for more in ({}, {"progress": True}, {"on_event": raises}, {"store": "memory://s"}):
        found.append(described(runwide.map(die_at_five, range(8), workers=1, on_error="return", **more)))
    found.append(described(runwide.imap(die_at_five, range(8), workers=1, on_error="return")))
    found.append(described(asyncio.run(runwide.amap(die_at_five, range(8), workers=1, on_error="return"))))
    with runwide.Executor(1) as executor:
        futures = [executor.submit(die_at_five, x) for x in range(8)]
        found.append([type(f.exception()).__name__ if f.exception() else f.result() for f in futures])
    with runwide.Pool(1) as pool:
        try:
            pool.map(die_at_five, range(8))
        except runwide.RunwideError as error:
            found.append(described(error.__cause__.results))
    return found
"""
RIGHT = [[0, 1, 2, 3, 4, "WorkerDied", 6, 7]] * 8

STATES = {
    "a broken pipe": "r, w = os.pipe(); os.dup2(w, 2); os.close(r); os.close(w)",
    "full": "os.dup2(os.open('/dev/full', os.O_WRONLY), 2)",
    "a closed descriptor": "os.close(2)",
    "a closed stream": "sys.stderr.close()",
    "none": "sys.stderr = None",
    "an object without anything": "sys.stderr = object()",
    "an object that raises": """
class Raises:
    def write(self, text): raise RuntimeError("no")
    def isatty(self): raise KeyError("no")
    def flush(self): raise ValueError("no")
sys.stderr = Raises()
""",
    "an object without flush": """
class Writes:
    encoding = 7
    def write(self, text): pass
    def isatty(self): return True
sys.stderr = Writes()
""",
    "a terminal without a reader": "m, s = os.openpty(); os.dup2(s, 2); os.close(m)",
}


BOTH = ("a broken pipe", "full", "none", "a closed descriptor")


@pytest.mark.parametrize(
    ("state", "stdout_too"), [*((one, False) for one in STATES), *((one, True) for one in BOTH)]
)
def test_whatever_standard_error_is_no_result_is_lost_and_nothing_else_fails(state, stdout_too, tmp_path):
    change = STATES[state]
    if stdout_too:
        change += "\n" + change.replace("stderr", "stdout").replace(", 2)", ", 1)").replace(
            "close(2)", "close(1)"
        )
    answer = tmp_path / "answer.json"
    program = f"{SURFACES}\n{change}\nfound = all_surfaces()\njson.dump(found, open({str(answer)!r}, 'w'))\n"
    program += "os._exit(0)"  # what Python itself makes of such streams at its end is not ours
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=280
    )
    assert json.loads(answer.read_text()) == RIGHT
    assert "Traceback" not in done.stderr
    assert "Exception in thread" not in done.stderr


@pytest.mark.parametrize(
    "closed", ["2>&-", "1>&- 2>&-", "0>&- 1>&- 2>&-", "0<&-", "2>/dev/full", "1>/dev/full"]
)
def test_a_program_may_start_with_standard_streams_closed_or_full(closed, tmp_path):
    answer = tmp_path / "answer.json"
    program = tmp_path / "program.py"
    program.write_text(
        f"{SURFACES}\nif __name__ == '__main__':\n    json.dump(all_surfaces(), open({str(answer)!r}, 'w'))\n"
    )
    done = subprocess.run(
        ["sh", "-c", f'"$@" {closed}', "sh", sys.executable, str(program)],
        capture_output=True, text=True, check=False, timeout=280,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(answer.read_text()) == RIGHT
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "meanwhile", ["pass", "with resources.spare_released(): pass"], ids=["nothing", "reserve"]
)
def test_descriptors_that_the_program_closes_while_a_pool_lives_are_nobodys_sockets(tmp_path, meanwhile):
    program = f"""
import os, json, runwide
from runwide.pool import resources
with runwide.Pool(2) as pool:
    first = pool.map(abs, [-1])
    for number in (0, 1, 2):
        os.close(number)
    {meanwhile}
    try:
        pool.map(lambda x: os._exit(3), [0])
    except runwide.RunwideError as error:
        died = error.exitcode
    os.write(2, b"from native code")  # would be taken for a message
    second = pool.map(lambda x: x + 1, range(100))
    kinds = [os.readlink(f"/proc/self/fd/{{number}}") for number in (0, 1, 2)]
json.dump([first, died, second == list(range(1, 101)), kinds], open({str(tmp_path / "answer")!r}, "w"))
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
    assert json.loads((tmp_path / "answer").read_text()) == [[1], 3, True, ["/dev/null"] * 3]


def test_the_command_for_a_shard_runs_with_its_standard_streams_closed(tmp_path):
    (tmp_path / "talks.py").write_text("def talk(x):\n    print('hello')\n    return x\n")
    runwide_command = os.path.join(os.path.dirname(sys.executable), "runwide")  # noqa: PTH118, PTH120 - of a program
    scattered = subprocess.run(
        [runwide_command, "scatter", "--function", "talks:talk", "--items-json", "[1, 2, 3]", "--store",
         str(tmp_path / "store"), "--shards", "1"], cwd=tmp_path, capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    words = [runwide_command, "shard", scattered.stdout.strip(), "0", "--manifest-out", str(tmp_path / "out")]
    subprocess.run(
        ["sh", "-c", '"$@" 0<&- 2>&- >/dev/null', "sh", *words], cwd=tmp_path, check=True, timeout=60
    )
    assert (tmp_path / "out").read_text().startswith("0:")


TALK = r"""
import os, sys, runwide

def talk(x):
    if x == 500:
        print("naïve \u2713 \udc80 \U0001f600")
        os.write(1, b"raw \xff\xc3( bytes\n")
        sys.stderr.write("Fehler: \u00fc\n")
        sys.stdout.write("\u00e9" * 40000 + "\n")
    else:
        print("line", x)
    return x

if __name__ == "__main__":
    print(sum(runwide.map(talk, range(1000), workers=2)))
"""

ENCODINGS = {
    "ascii": {"PYTHONIOENCODING": "ascii"},
    "strict ascii": {"PYTHONIOENCODING": "ascii:strict"},
    "latin-1": {"PYTHONIOENCODING": "latin-1"},
    "C": {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"},
    "utf-8": {"PYTHONIOENCODING": "utf-8"},
    "utf-16": {"PYTHONIOENCODING": "utf-16"},
    "an unknown handler": {"PYTHONIOENCODING": "ascii:xmlcharrefreplace"},
}


@pytest.mark.parametrize("name", ENCODINGS)
def test_no_line_is_lost_where_a_stream_cannot_encode_one(name, tmp_path):
    (tmp_path / "talk.py").write_text(TALK)
    environment = {
        key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "LC_", "LANG"))
    }
    done = subprocess.run(
        [sys.executable, str(tmp_path / "talk.py")], env={**environment, **ENCODINGS[name]}, capture_output=True,
        check=True, timeout=60,
    )  # fmt: skip
    out = done.stdout.decode("utf-16" if name == "utf-16" else "latin-1")
    lines = out.splitlines()
    assert sum(line.startswith("line ") for line in lines) == 999
    assert lines[-1] == "499500"
    # As they were printed, where the encoding has such bytes at all.
    shown = {"utf-16": "raw \\xff\\xc3( bytes", "an unknown handler": "raw &#56575;&#56515;( bytes"}
    assert shown.get(name, "raw \xff\xc3( bytes") in lines
    assert any("\\udc80" in line for line in lines)
    error = done.stderr.decode("utf-16" if name == "utf-16" else "latin-1")
    assert "Fehler: " in error
    if name == "ascii":
        assert "Fehler: \\xfc" in error
        assert any("na\\xefve \\u2713 \\udc80 \\U0001f600" in line for line in lines)
        assert out.count("\\xe9") == 40000
    if name == "utf-8":
        assert done.stdout.count("é".encode()) == 40000


def test_a_log_collectors_lines_are_ascii_and_whole(tmp_path):
    (tmp_path / "talk.py").write_text(TALK)
    done = subprocess.run(
        [sys.executable, str(tmp_path / "talk.py")], env={**os.environ, "RUNWIDE_LOG": "json", "PYTHONIOENCODING": "ascii"},
        capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert sum(line["message"].startswith("line ") for line in lines) == 999
    assert sum(line["message"].count("é") for line in lines) == 40000
    assert "Fehler: ü" in [json.loads(line)["message"] for line in done.stderr.splitlines()]


class Notebook:
    """As a notebook's stream: a method to write, and little else."""

    def __init__(self):
        self.text = ""

    def write(self, text):
        self.text += text


class Narrow(Notebook):
    """A stream that has no encoding to tell, and takes ASCII."""

    def write(self, text):
        self.text += text.encode("ascii").decode()


@pytest.mark.parametrize(("stream", "said"), [(io.StringIO(), "é"), (Notebook(), "é"), (Narrow(), "\\xe9")])
def test_prints_come_out_of_any_replacement_of_standard_output(stream, said, monkeypatch):
    monkeypatch.setattr(sys, "stdout", stream)
    runwide.map(lambda x: print("é" if x == 50 else x), range(100), workers=1)
    text = stream.getvalue() if isinstance(stream, io.StringIO) else stream.text
    assert len(text.splitlines()) == 100
    assert said in text.splitlines()


def test_a_terminal_that_does_not_block_loses_nothing():
    reading, writes = os.pipe()
    os.set_blocking(writes, False)
    with (
        io.TextIOWrapper(io.BufferedWriter(io.FileIO(writes, "w")), "utf-8") as stream,
        subprocess.Popen(["wc", "-c"], stdin=reading, stdout=subprocess.PIPE, text=True) as count,
    ):
        os.close(reading)
        for _ in range(100):
            streams.write(stream, "x" * 9999 + "\n")
        stream.close()
        assert count.stdout.read().strip() == "1000000"


def test_a_line_with_a_field_that_cannot_be_shown_stops_no_task(capsys):
    class Mute:
        def __str__(self):
            raise RuntimeError("no text")

        __repr__ = __str__

    Log("room").warning("thing.happened", mute=Mute())
    Log("room").warning("thing.happened", item=1)
    assert "thing.happened" in capsys.readouterr().err


def test_a_wrong_setting_of_the_log_does_not_come_out_of_a_log_line(monkeypatch):
    monkeypatch.setenv("RUNWIDE_LOG", "xml")
    Log("room").warning("thing.happened")
