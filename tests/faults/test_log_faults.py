"""Nothing that goes wrong with logs, prints or bars ends a map, holds it up, or loses a line in silence."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import terminal
from outside import environment

pytestmark = pytest.mark.faults


@pytest.fixture
def program(tmp_path):
    """Runs a program of its own; returns what has come of it."""

    def run(text, *, code=0, **variables):
        (tmp_path / "program.py").write_text(text)
        done = subprocess.run(
            [sys.executable, "program.py"], cwd=tmp_path, env=environment(**variables), capture_output=True,
            check=False, timeout=120,
        )  # fmt: skip
        assert done.returncode == code, done.stderr[-3000:].decode()
        done.out, done.err = done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")
        return done

    return run


def messages(text):
    return [json.loads(line)["message"] for line in text.splitlines() if line.startswith("{")]


@pytest.mark.parametrize("error", ["SystemExit", "KeyboardInterrupt", "GeneratorExit", "ZeroDivisionError"])
def test_whatever_a_processor_raises_costs_no_print_and_no_map(program, error):
    text = f"""
import runwide, runwide.log
def bad(logger, method, event):
    if event["event"].startswith("said"):
        raise {error}
    return event
def work(x):
    print("said", x)
    return x
if __name__ == "__main__":
    runwide.log.configure(format="json", processors=[bad])
    assert runwide.map(work, range(20), workers=2) == list(range(20))
"""
    assert sorted(messages(program(text).out)) == sorted(f"said {x}" for x in range(20))


def test_processors_whose_module_does_not_load_in_workers_cost_no_map(program, tmp_path):
    (tmp_path / "mine.py").write_text(
        "import sys\nif 'runwide.pool.worker' in sys.modules and sys.modules['runwide.pool.worker'].inside: sys.exit(3)\n"
        "def add(logger, method, event):\n    return {**event, 'mine': 1}\n"
    )
    text = """
import logging, runwide, runwide.log
import mine
def work(x):
    logging.warning("logged")
    return x
if __name__ == "__main__":
    runwide.log.configure(format="json", processors=[mine.add])
    assert runwide.map(work, [1], workers=1) == [1]
"""
    written = messages(program(text).err)
    assert "logged" in written
    assert any("processors.lost" in message for message in written)


def test_a_bar_of_the_users_that_fails_costs_no_print_and_no_map(program):
    text = """
import sys, runwide
from tqdm import tqdm
class Bad(tqdm):
    def clear(self, *args, **options):
        raise OSError("no screen")
def work(x):
    print("said", x)
    return x
if __name__ == "__main__":
    bar = Bad(total=3, file=sys.stdout)
    assert runwide.map(work, range(200), workers=2) == list(range(200))
"""
    assert sum("said" in line for line in program(text).out.splitlines()) == 200


FRAMES = r"""
import os, subprocess, sys, runwide
def work(x):
    os.write(1, b"abc "); print("hello")
    sys.stdout.buffer.write(b"raw "); print("hello")
    subprocess.run(["printf", "sub "]); print("hello")
    return x
if __name__ == "__main__":
    runwide.map(work, [0], workers=1)
"""


def test_what_native_code_begins_and_python_ends_is_a_line(program, tmp_path):
    lines = [f"{word} hello" for word in ("abc", "raw", "sub")]
    assert program(FRAMES).out.splitlines() == lines
    entries = [json.loads(line) for line in program(FRAMES, RUNWIDE_LOG="json").out.splitlines()]
    assert [(entry["message"], entry["item"]) for entry in entries] == [(line, 0) for line in lines]
    shown = terminal.run([sys.executable, "program.py"], cwd=tmp_path, env=environment(TERM="xterm"))
    assert [line for line in shown.screen() if "%|" not in line] == [f"[0] {line}" for line in lines]


@pytest.mark.parametrize("sign", ["x", "\\r", "é"])
def test_a_line_that_does_not_end_is_passed_on_as_it_is(program, sign):
    text = f"""
import runwide
def work(x):
    for _ in range(300):
        print("{sign}" * 100_000, end="", flush=True)
if __name__ == "__main__":
    runwide.map(work, [0], workers=1)
"""
    expected = ("\r" if sign == "\\r" else sign) * 30_000_000
    assert program(text).stdout == expected.encode()


def test_a_signal_in_the_midst_of_a_print_loses_nothing(program):
    text = """
import runwide, signal
def work(x):
    signal.signal(signal.SIGALRM, lambda *_: None)
    signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
    print("y" * 6_000_000)
    signal.setitimer(signal.ITIMER_REAL, 0)
if __name__ == "__main__":
    runwide.map(work, [0], workers=1)
"""
    assert program(text).stdout == b"y" * 6_000_000 + b"\n"


def test_lines_of_structlog_as_the_user_has_set_it_up_have_no_secrets_and_their_tracebacks(program):
    text = """
import logging, structlog, runwide.log
structlog.configure(processors=[structlog.stdlib.add_log_level, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
                    logger_factory=structlog.stdlib.LoggerFactory(), wrapper_class=structlog.stdlib.BoundLogger)
runwide.log.configure(format="json")
log = structlog.get_logger("mine")
log.warning("login", password="hunter22", url="https://u:hunter22@h/")
try:
    1 / 0
except ZeroDivisionError:
    log.exception("broken")
"""
    login, broken = [json.loads(line) for line in program(text).err.splitlines()]
    assert "hunter22" not in json.dumps(login)
    assert login["time"].startswith("2")
    assert broken["message"].startswith("broken\nTraceback")


@pytest.mark.parametrize(
    "setup",
    [
        "logging.config.dictConfig({'version': 1, 'loggers': {'mine': {'level': 'INFO'}}})",
        "logging.disable(logging.CRITICAL)",
        "runwide.log.configure(processors=[drop])",
        "runwide.log.configure(file='/dev/full')",
        "logging.getLogger('runwide').setLevel(100)",
    ],
)
def test_what_ends_a_program_is_an_entry_past_all_that_is_set_up(program, setup):
    text = f"""
import logging.config, structlog, sys, runwide.log
def drop(logger, method, event):
    raise structlog.DropEvent
sys.excepthook = lambda *_: print("my hook", file=sys.stdout)
runwide.log.take_over_logging()
{setup}
raise ValueError("crashed, token=abc")
"""
    done = program(text, code=1, RUNWIDE_LOG="json")
    (entry,) = [json.loads(line) for line in done.err.splitlines()]
    assert entry["severity"] == "CRITICAL"
    assert entry["message"].endswith("ValueError: crashed, token=[redacted]")
    assert done.out == "my hook\n"


NOISY = """
import os, sys, threading, warnings
print("import out"); print("import err", file=sys.stderr)
sys.stdout.buffer.write(b"bytes \\xff\\n"); sys.stdout.flush()
warnings.warn("old")
thread = threading.Thread(target=lambda: 1 / 0); thread.start(); thread.join()
print("half", end="")
def work(x):
    return x
"""


def test_a_command_writes_entries_alone_where_a_collector_reads(tmp_path):
    (tmp_path / "noisy.py").write_text(NOISY)
    (tmp_path / "items.json").write_text("[1, 2]")
    done = subprocess.run(
        [str(Path(sys.executable).with_name("runwide")), "map", "noisy:work", "items.json"], cwd=tmp_path,
        env=environment(RUNWIDE_LOG="json"), capture_output=True, text=True, check=True, timeout=120,
    )  # fmt: skip
    assert done.stdout == "1\n2\n"
    entries = [json.loads(line) for line in done.stderr.splitlines()]
    said = {entry["message"]: entry["severity"] for entry in entries}
    assert said["import out"] == "INFO"
    assert said["import err"] == "WARNING"
    assert {"bytes \\xff", "half", "ZeroDivisionError: division by zero"} <= set(said)


def test_a_command_that_prints_a_key_or_drops_its_lines_shows_no_key_and_says_why_it_fails(tmp_path):
    key = "-----BEGIN PRIVATE KEY-----\\nMIIEvQ\\n-----END PRIVATE KEY-----"
    (tmp_path / "noisy.py").write_text(f"""
import structlog, runwide.log
print("{key}")
def drop(logger, method, event):
    raise structlog.DropEvent
runwide.log.configure(processors=[drop])
print("dropped")
def work(x):
    raise ValueError("no")
""")
    (tmp_path / "items.json").write_text("[1]")
    done = subprocess.run(
        [str(Path(sys.executable).with_name("runwide")), "map", "noisy:work", "items.json"], cwd=tmp_path,
        env=environment(RUNWIDE_LOG="json"), capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 1
    assert "MIIEvQ" not in done.stderr
    *said, error = [json.loads(line)["message"] for line in done.stderr.splitlines()]
    assert said == ["[redacted]"] * 3
    assert error.startswith("runwide: TasksFailed: 1 of 1 items failed")


def test_a_shard_that_is_killed_leaves_entries_alone(tmp_path):
    (tmp_path / "dying.py").write_text(
        "import faulthandler, os, signal\n"
        "def work(x):\n    faulthandler.enable(); os.kill(os.getppid(), signal.SIGSEGV)\n    import time; time.sleep(60)\n"
    )
    command = str(Path(sys.executable).with_name("runwide"))
    options = {
        "cwd": tmp_path,
        "env": environment(RUNWIDE_LOG="json", PYTHONFAULTHANDLER="1"),
        "timeout": 120,
    }
    where = [
        "--function",
        "dying:work",
        "--items-json",
        "[1]",
        "--store",
        str(tmp_path / "store"),
        "--shards",
        "1",
    ]
    job = subprocess.run(
        [command, "scatter", *where], capture_output=True, text=True, check=True, **options
    ).stdout
    done = subprocess.run(
        [command, "shard", job.strip(), "0", "--on-error", "return"],
        capture_output=True,
        text=True,
        check=True,
        **options,
    )
    written = [json.loads(line)["message"] for line in done.stderr.splitlines()]
    assert any("Fatal Python error: Segmentation fault" in message for message in written)
    assert "shard.died" in written


def test_a_fork_of_a_program_with_a_bar_does_not_wait_for_its_lock(program):
    text = """
import os, sys, threading, time
from tqdm import tqdm
from runwide.log import Log
bar = tqdm(total=3)
held = threading.Event()
def hold():
    with tqdm.get_lock():
        held.set()
        time.sleep(1)
threading.Thread(target=hold, daemon=True).start()
held.wait()
if os.fork() == 0:
    Log("pool").warning("thing.happened")
    os._exit(0)
os.wait()
"""
    assert "thing.happened" in program(text).err


def test_a_processor_that_logs_ends(program):
    text = """
import logging, runwide.log
def add(logger, method, event):
    logging.getLogger("library").debug("one"); logging.getLogger("library").warning("two")
    runwide.log.Log("pool").warning("three.happened")
    return {**event, "mine": 1}
runwide.log.configure(format="json", level="debug", processors=[add])
logging.warning("outer")
"""
    entries = [json.loads(line) for line in program(text).err.splitlines()]
    assert [(entry["message"], entry.get("mine")) for entry in entries] == [
        ("one", None), ("two", None), ("three.happened", None), ("outer", 1)
    ]  # fmt: skip


def test_logging_that_is_set_up_with_force_is_the_users_from_then_on(program):
    text = """
import logging, runwide, sys
def work(x):
    logging.basicConfig(force=True, format="MINE %(message)s")
    logging.warning("one"); runwide.log.Log("pool").warning("two.happened"); logging.warning("three")
if __name__ == "__main__":
    import runwide.log
    runwide.map(work, [0], workers=1)
"""
    entries = [json.loads(line) for line in program(text, RUNWIDE_LOG="json").err.splitlines()]
    said = [entry["message"] for entry in entries if "one" in entry["message"] or "three" in entry["message"]]
    assert said == ["MINE one", "MINE three"]


@pytest.mark.parametrize(
    "handler",
    [
        "logging.handlers.MemoryHandler(1000)",
        "logging.handlers.SMTPHandler('nowhere', 'a@b', ['c@d'], 'e')",
        "logging.StreamHandler()",
        "logging.FileHandler('log.txt')",
    ],
)
def test_a_handler_that_does_not_show_a_line_does_not_silence_it(program, handler):
    text = f"""
import logging.handlers
handler = {handler}
handler.setLevel(logging.CRITICAL)
logging.getLogger().addHandler(handler)
from runwide.log import Log
Log("pool").warning("thing.happened")
"""
    assert program(text).err.count("thing.happened") == 1


def test_lines_that_cannot_be_shown_or_written_are_there_all_the_same(program):
    text = """
import logging, runwide.log
class Mute:
    def __str__(self):
        raise RuntimeError("no text")
runwide.log.configure(format="json", file="/dev/full")
logging.error(Mute())
logging.error("to a full disk")
"""
    first, second = messages(program(text).err)
    assert first.startswith("<Mute> (RuntimeError: no text)")
    assert second == "to a full disk"


def test_a_stream_that_logs_what_it_is_given_does_not_go_round(program):
    text = """
import logging, sys, runwide.log
class Logging:
    def write(self, text):
        logging.getLogger("stream").warning(text)
    def flush(self): pass
runwide.log.configure(format="json")
sys.stderr = Logging()
logging.warning("once")
"""
    done = program(text)
    assert "once" in done.err
    assert len(done.err.splitlines()) == 1


def test_each_configuration_replaces_the_last(program):
    text = """
import logging, runwide.log
from runwide.log import Log
runwide.log.configure(level="debug", levels={"runwide.pool": "debug", "mine": "critical"})
runwide.log.configure(level="error")
for name in ("pool", "job"):
    Log(name).debug("debug.said"); Log(name).warning("warning.said"); Log(name).error("error.said")
logging.getLogger("mine").error("mine"); logging.info("root")
runwide.log.configure()
Log("job").info("info.said")
"""
    assert [line.split()[2] for line in program(text).err.splitlines()] == [
        "error.said",
        "error.said",
        "mine",
        "info.said",
    ]


def test_a_task_that_configures_keeps_the_form_of_the_program(tmp_path):
    (tmp_path / "program.py").write_text("""
import logging, runwide
def work(x):
    import runwide.log
    runwide.log.configure(levels={"noisy": "error"})
    logging.warning("logged")
if __name__ == "__main__":
    runwide.map(work, [0], workers=1)
""")
    shown = terminal.run(
        [sys.executable, "program.py"],
        cwd=tmp_path,
        env=environment(KUBERNETES_SERVICE_HOST="10.0.0.1", TERM="xterm"),
    )
    assert "logged [root]" in shown.text
    assert "{" not in shown.text


@pytest.mark.parametrize(
    ("where", "code", "said"),
    [
        (">&-", 0, ""),
        (">/dev/full", 1, "Error: standard output cannot be written: No space left on device"),
        ("| true", None, ""),
    ],
)
def test_results_that_cannot_be_written_go_nowhere_else(tmp_path, where, code, said):
    (tmp_path / "quiet.py").write_text("def work(x):\n    return f'result {x}'\n")
    (tmp_path / "items.json").write_text(json.dumps(list(range(100))))
    command = f"{Path(sys.executable).with_name('runwide')} map quiet:work items.json --workers 1 {where}"
    done = subprocess.run(
        ["bash", "-c", command],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    if code is not None:
        assert done.returncode == code, done.stderr
    assert done.stderr.strip() == said
    assert "result" not in done.stdout
