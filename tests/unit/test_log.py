"""Every line says where it comes from, in the form that its reader expects, and no line has a secret."""

from __future__ import annotations

import json
import logging
import os
import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import structlog
from outside import environment

import runwide
from runwide import log
from runwide.errors import InputError
from runwide.job.reference import parse
from runwide.log import handler

CLOUD = {"CLOUD_ML_JOB_ID": "123"}
LABELS = "logging.googleapis.com/labels"
LOCATION = "logging.googleapis.com/sourceLocation"
TRACE = "logging.googleapis.com/trace"


def strict(line):
    """Parse a line like Cloud Logging's agent: one JSON object, without NaN and infinity, which only Python accepts."""

    def refuse(word):
        raise ValueError(word)

    parsed = json.loads(line, parse_constant=refuse)
    assert isinstance(parsed, dict), line
    return parsed


def lines_of(text):
    return [strict(line) for line in text.splitlines()]


@pytest.fixture
def program(tmp_path):
    """Run a program, and return the finished process."""

    def run(text, *words, **variables):
        (tmp_path / "program.py").write_text(text)
        return subprocess.run(
            [sys.executable, "program.py", *words], cwd=tmp_path, env=environment(**variables), capture_output=True,
            text=True, check=True, timeout=120,
        )  # fmt: skip

    return run


@pytest.fixture(autouse=True)
def as_it_was():
    """Restore the defaults after each test."""
    handlers, level = list(logging.getLogger().handlers), logging.getLogger().level
    yield
    logging.getLogger("runwide").setLevel(logging.NOTSET)
    handler._adopt(handler.Configuration())
    log.take_over_logging()
    logging.getLogger().handlers[:] = handlers
    logging.getLogger().setLevel(level)


# -- in a component, where a collector reads --

TALKING = """
import logging, sys

def talk(item):
    print("printed", item)
    print("complained", file=sys.stderr)
    logging.getLogger("mine").warning("logged %s", item, extra={"customer": 7, "time": "3 s", "event": "sale"})
    logging.info("https://b/o?X-Goog-Signature=0badc0de")
    print('{"message": "my own", "severity": "NOTICE"}')
    try:
        1 / 0
    except ZeroDivisionError:
        logging.exception("failed to divide")
    if item == 11:
        raise ValueError("no eleven")
    return item
"""


@pytest.fixture
def shard(tmp_path):
    """Run a shard of a job like a container; return its output and the job's reference."""
    (tmp_path / "talking.py").write_text(TALKING)

    def run(*words, **variables):
        return subprocess.run(
            [str(Path(sys.executable).with_name("runwide")), *words], cwd=tmp_path, env=environment(**variables),
            capture_output=True, text=True, check=False, timeout=120,
        )  # fmt: skip

    def of(function="talking:talk", *words, items=(10, 11), shards=1, **variables):
        given = ["--function", function, "--items-json", json.dumps(list(items))]
        scattered = run("scatter", *given, "--store", str(tmp_path / "store"), "--shards", str(shards))
        job = scattered.stdout.strip()
        return run("shard", job, "0", "--workers", "1", "--retries", "1", *words, **variables), job

    return of


def test_prints_and_logging_of_a_task_carry_job_shard_item_worker_and_attempt(shard):
    done, job = shard(**CLOUD)
    job_id = parse(job).folder.rpartition("/")[2]
    written = lines_of(done.stderr)
    for message, severity in [("printed 11", "INFO"), ("complained", "WARNING"), ("logged 11", "WARNING")]:
        mine = [line for line in written if line["message"] == message]
        labels = [line[LABELS] for line in mine if line[LABELS]["item"] == "1"]
        assert [one["attempt"] for one in labels] == ["1", "2"], message
        for one in labels:
            assert one == {"job": job_id, "shard": "0", "item": "1", "worker": "0", "attempt": one["attempt"]}
        assert {line["severity"] for line in mine} == {severity}
        assert all(re.fullmatch(r"2\d{3}-.*Z", line["time"]) for line in mine)


def test_standard_output_is_the_reference_alone(shard):
    done, _ = shard(**CLOUD)
    (reference,) = done.stdout.splitlines()
    assert "shards/" in reference


def test_a_line_of_the_users_own_json_stays_as_it_is(shard):
    done, _ = shard(**CLOUD)
    assert done.stderr.splitlines().count('{"message": "my own", "severity": "NOTICE"}') == 3


def test_an_exception_is_one_line_with_its_traceback_and_its_place(shard):
    done, _ = shard(**CLOUD)
    line = next(line for line in lines_of(done.stderr) if line["message"].startswith("failed to divide"))
    assert "ZeroDivisionError: division by zero" in line["message"]
    assert line["severity"] == "ERROR"
    assert line[LOCATION]["function"] == "talk"
    assert line[LOCATION]["file"].endswith("talking.py")
    assert int(line[LOCATION]["line"]) > 0


def test_extra_fields_of_logging_are_fields_and_none_is_taken_for_one_of_the_collectors(shard):
    done, _ = shard(**CLOUD)
    line = next(line for line in lines_of(done.stderr) if line["message"] == "logged 10")
    assert (line["customer"], line["time_"], line["event_"], line["logger"]) == (7, "3 s", "sale", "mine")
    assert line["time"].startswith("2")


def test_signed_urls_do_not_reach_the_log(shard):
    done, _ = shard(**CLOUD)
    assert "X-Goog-Signature=[redacted]" in done.stderr
    assert "0badc0de" not in done.stderr + done.stdout


def test_every_line_of_the_shard_itself_is_bound_too(shard):
    done, _ = shard(**CLOUD)
    ours = [line for line in lines_of(done.stderr) if line.get("logger", "").startswith("runwide.")]
    assert {"shard.started", "shard.finished"} <= {line["message"] for line in ours}
    for line in ours:
        assert line[LABELS]["shard"] == "0"
        assert line[LOCATION]["file"].startswith(str(Path(runwide.__file__).parent))


def test_outside_a_cloud_lines_are_short_text_and_prints_have_the_item_in_front(shard):
    done, _ = shard()
    lines = done.stderr.splitlines()
    assert {"[1] printed 11", "[1] complained"} <= set(lines)
    ours = [line for line in lines if "[runwide.job]" in line]
    assert all(
        re.match(r"\d\d:\d\d:\d\d \[info\] shard\.\w+ \[runwide\.job\] job=\S+ shard=0 ", line)
        for line in ours
    )
    assert len(ours) == 2


def test_the_trace_is_named_where_there_is_one(shard):
    trace = "0af7651916cd43dd8448eb211c80319c"
    done, _ = shard(**CLOUD, TRACEPARENT=f"00-{trace}-b7ad6b7169203331-01", GOOGLE_CLOUD_PROJECT="p")
    traces = {line[TRACE] for line in lines_of(done.stderr) if line["message"] != "my own"}
    assert traces == {f"projects/p/traces/{trace}"}


@pytest.mark.parametrize("more", [(), ("--on-error", "return")], ids=["raise", "return"])
def test_the_line_with_which_a_command_fails_is_an_entry_too(shard, more):
    done, _ = shard("talking:talk", "--timeout", "-1", *more, **CLOUD)
    assert done.returncode == 2
    errors = [line["message"] for line in lines_of(done.stderr) if line["severity"] == "ERROR"]
    assert errors
    assert all("timeout" in message and message.count("runwide: ") == 1 for message in errors)


NASTY = r"""
import atexit, json, logging, math, os, subprocess, sys, threading, warnings

class Mute:
    def __str__(self):
        raise RuntimeError("no text")
    __repr__ = __str__

CIRCLE = {}
CIRCLE["self"] = CIRCLE

def shout(item):
    print('{"value": NaN}'); print('{"value": 1e999}'); print('{"half":'); print("{}"); print('["a", "list"]')
    print("naïve ✓ \udc80 \U0001f600 \x00 \x1e \x1f \x1b[31m"); print("a\rb\r"); print('{"crlf": 1}\r')
    print("\u2028 \x85 \x0c")
    print("x" * 300_000); print('{"' + "y" * 300_000); print("no end", end=""); sys.stdout.flush()
    sys.stdout.buffer.write(b"\xff\xfe latin \xe9\n"); sys.stdout.flush()
    os.write(1, b"native \xff\n"); os.write(2, b"native half"); os.write(2, b" line\n")
    subprocess.run(["sh", "-c", "printf 'child\\n'; printf 'child of stderr\\n' >&2"])
    sys.stderr.write("\r 10%|#   |"); sys.stderr.flush()
    logging.warning("after a bar")
    logging.warning("x" * 300_000)
    logging.warning("fields", extra={"nan": math.nan, "circle": CIRCLE, "keys": {(1, 2): 3}, "mute": Mute(), "b": b"\xff"})
    logging.warning("bad %d arguments", "x")
    logging.log(25, "between"); logging.getLogger().critical("beyond\nlines")
    warnings.warn("old")
    thread = threading.Thread(target=lambda: 1 / 0); thread.start(); thread.join()
    return item
"""


@pytest.mark.parametrize("encoding", ["utf-8", "ascii", "latin-1:strict"])
def test_each_printed_line_is_one_json_object(shard, tmp_path, encoding):
    (tmp_path / "nasty.py").write_text(NASTY)
    done, _ = shard("nasty:shout", items=[1], PYTHONIOENCODING=encoding, **CLOUD)
    assert done.returncode == 0, done.stderr[-2000:]
    lines = lines_of(done.stderr)
    messages = [line.get("message", "") for line in lines]
    for said in (
        "native \\xff",
        "native half line",
        "child",
        "child of stderr",
        "after a bar",
        "between",
        "beyond\nlines",
    ):
        assert said in messages, said
    assert '{"value": NaN}' in messages
    assert '{"crlf": 1}' in done.stderr.splitlines()
    assert any("UserWarning: old" in message for message in messages)
    severities = {line["severity"] for line in lines if "severity" in line}
    assert severities == {"INFO", "WARNING", "CRITICAL"}
    assert any(message.startswith("bad %d arguments (TypeError: ") for message in messages)
    assert all(len(line) <= 262_144 for line in done.stderr.splitlines())
    assert sum(message.count("x") for message in messages if set(message) == {"x"}) == 300_000
    (fields,) = [line for line in lines if line.get("message") == "fields"]
    assert fields["nan"] == "nan"
    assert fields[LABELS]["item"] == "0"


def test_a_killed_workers_last_output_is_text(monkeypatch):
    monkeypatch.setenv("RUNWIDE_LOG", "json")

    def die(_):
        print("help", file=sys.stderr)
        os._exit(3)

    (failure,) = runwide.map(die, [0], workers=1, on_error="return")
    assert failure.exception.stderr == "help"


def test_lines_of_warm_workers_carry_what_the_call_has_bound(monkeypatch, capfd):
    monkeypatch.setenv("RUNWIDE_LOG", "json")
    for job in ("a", "b"):
        with log.bound(job=job):
            runwide.map(lambda _: (print("out"), logging.getLogger("mine").warning("logged")), [0], workers=1)
    out, err = capfd.readouterr()
    for text, message in ((out, "out"), (err, "logged")):
        assert [line["job"] for line in lines_of(text) if line["message"] == message] == ["a", "b"]


# -- without a log collector --


DYING = """
import os, runwide
def die(x):
    os._exit(3)
if __name__ == "__main__":
    print(runwide.map(abs, range(-100, 0), workers=2) == list(range(100, 0, -1)))
    {more}
"""
CALLBACK = "runwide.map(abs, [-1], workers=1, on_event=lambda _: 1 / 0)"


@pytest.mark.parametrize("variables", [{}, {"RUNWIDE_LOG": "json"}, CLOUD], ids=["alone", "json", "cloud"])
def test_a_map_without_a_store_writes_nothing_below_warning(program, variables):
    done = program(DYING.replace("{more}", "pass"), **variables)
    assert (done.stdout, done.stderr) == ("True\n", "")


@pytest.mark.parametrize(
    ("variables", "text"),
    [
        ({}, True),
        ({"RUNWIDE_LOG": "text"}, True),
        ({"RUNWIDE_LOG": "json"}, False),
        (CLOUD, False),
        ({"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, False),
        ({"RUNWIDE_LOG": "text", **CLOUD}, True),
    ],
    ids=["file", "text", "json", "vertex", "kubernetes", "text-on-vertex"],
)
def test_lines_are_json_only_where_a_collector_reads(program, variables, text):
    done = program(DYING.replace("{more}", CALLBACK), **variables)
    (line,) = done.stderr.splitlines()
    if text:
        shown = r"\d\d:\d\d:\d\d \[error\] callback\.failed \[runwide\.pool\] type=ZeroDivisionError error='.* by zero'"
        assert re.fullmatch(shown, line)
    else:
        assert strict(line)["message"] == "callback.failed"


@pytest.mark.parametrize(("level", "lines"), [("debug", 1), ("warning", 1), ("critical", 0)])
def test_the_level_is_that_of_the_environment(program, level, lines):
    done = program(DYING.replace("{more}", CALLBACK), RUNWIDE_LOG_LEVEL=level)
    assert len(done.stderr.splitlines()) == lines


def test_in_a_terminal_of_a_pod_lines_are_text(program, tmp_path):
    (tmp_path / "program.py").write_text(DYING.replace("{more}", CALLBACK))
    done = subprocess.run(
        ["script", "-qec", f"{sys.executable} program.py", "/dev/null"], cwd=tmp_path,
        env=environment(KUBERNETES_SERVICE_HOST="10.0.0.1"), capture_output=True, text=True, check=True, timeout=120,
    )  # fmt: skip
    assert "callback.failed" in done.stdout
    assert "{" not in done.stdout


def test_lines_that_are_not_due_load_no_structlog(program):
    text = "import runwide.log, sys; log = runwide.log.Log('room'); log.debug('a.b'); print('structlog' in sys.modules); "
    done = program(text + "log.info('a.b'); print('structlog' in sys.modules)")
    assert done.stdout == "False\nTrue\n"


def test_a_shard_loads_structlog_once_its_first_task_has_been_sent(shard, program, tmp_path):
    _, job = shard(shards=2)
    watched = """
import os, sys, threading
def hook(event, arguments):
    if event == "import" and arguments[0] == "structlog":
        os.write(2, b"\\nloaded by " + threading.current_thread().name.encode() + b"\\n")
sys.addaudithook(hook)
from runwide.cli import main
main()
"""
    done = program(watched, "shard", job, "1", "--workers", "1", PYTHONPATH=str(tmp_path))
    assert "loaded by runwide-log" in done.stderr.splitlines() + done.stdout.splitlines()


def test_lines_held_back_keep_their_time_their_place_and_their_order(capsys, monkeypatch):
    monkeypatch.setenv("RUNWIDE_LOG", "json")
    with log.held():
        log.Log("room").info("one.began")
        with log.bound(job="a"):
            log.Log("room").info("two.began")
        assert capsys.readouterr().err == ""
        log.Log("room").warning("three.happened")
        shown = lines_of(capsys.readouterr().err)
        assert [line["message"] for line in shown] == ["one.began", "two.began", "three.happened"]
        assert [line["time"] for line in shown] == sorted(line["time"] for line in shown)
        assert shown[1]["job"] == "a"
        assert {line[LOCATION]["function"] for line in shown} == {
            "test_lines_held_back_keep_their_time_their_place_and_their_order"
        }


# -- loggers of the standard library --


def test_our_lines_are_records_of_standard_loggers(caplog):
    runwide.map(abs, [-1], workers=1, on_event=lambda _: 1 / 0)
    (record,) = caplog.records
    assert (record.name, record.levelname, record.funcName) == ("runwide.pool", "ERROR", "undisturbed")
    assert record.pathname.endswith("callbacks.py")
    assert record.getMessage() == "callback.failed type='ZeroDivisionError' error='division by zero'"
    assert record.msg["type"] == "ZeroDivisionError"


def test_a_level_set_on_a_logger_counts(caplog):
    caplog.set_level(logging.CRITICAL, logger="runwide.pool")
    runwide.map(abs, [-1], workers=1, on_event=lambda _: 1 / 0)
    log.Log("room").debug("not.said")
    caplog.set_level(logging.DEBUG, logger="runwide")
    log.Log("room").debug("thing.happened")
    assert caplog.messages == ["thing.happened"]


def test_a_filter_on_a_logger_counts(caplog):
    logger = logging.getLogger("runwide.room")
    refuse = lambda record: record.msg["item"] != 3
    logger.addFilter(refuse)
    try:
        for item in (2, 3):
            log.Log("room").warning("thing.happened", item=item)
    finally:
        logger.removeFilter(refuse)
    assert caplog.messages == ["thing.happened item=2"]


@pytest.mark.parametrize(
    ("setup", "expected"),
    [
        ("logging.basicConfig()", "ERROR:runwide.pool:callback.failed type="),
        ("logging.basicConfig(level='CRITICAL')", ""),
        ("logging.getLogger('runwide').addHandler(logging.StreamHandler())", "callback.failed type="),
        ("logging.getLogger('runwide.pool').setLevel('CRITICAL')", ""),
        ("logging.getLogger('runwide').propagate = False", "[error] callback.failed"),
        ("logging.basicConfig(filename='log.txt')", "[error] callback.failed"),
        ("logging.getLogger('runwide').addHandler(logging.NullHandler())", "[error] callback.failed"),
    ],
)
def test_handlers_of_the_user_write_our_lines_once(program, setup, expected):
    done = program(f"import logging\n{setup}\n" + DYING.replace("{more}", CALLBACK))
    assert expected in done.stderr
    assert len(done.stderr.splitlines()) == bool(expected)


def test_structlog_as_the_user_has_set_it_up_renders_our_lines_too(program):
    setup = """
import logging, structlog
handler = logging.StreamHandler()
handler.setFormatter(structlog.stdlib.ProcessorFormatter(processors=[
    structlog.stdlib.ProcessorFormatter.remove_processors_meta, structlog.processors.LogfmtRenderer()]))
logging.getLogger().addHandler(handler)
"""
    done = program(setup + DYING.replace("{more}", CALLBACK))
    assert "event=callback.failed" in done.stderr
    assert "type=ZeroDivisionError" in done.stderr


def test_logging_that_the_user_has_set_up_is_left_alone(monkeypatch):
    monkeypatch.setenv("RUNWIDE_LOG", "json")
    root = logging.getLogger()
    mine = logging.NullHandler()
    root.addHandler(mine)
    before = list(root.handlers)
    log.take_over_logging()
    assert root.handlers == before


def test_bound_fields_end_with_their_block_also_in_other_threads():
    seen = []

    def look():
        thread = threading.Thread(target=lambda: seen.append(log.fields()))
        thread.start()
        thread.join()

    with log.bound(job="a"):
        with log.bound(shard=1):
            look()
        look()
    look()
    assert seen == [{"job": "a", "shard": 1}, {"job": "a"}, {}]


def test_our_own_lines_name_the_caller_and_have_no_secret(capsys, monkeypatch):
    monkeypatch.setenv("RUNWIDE_LOG", "json")
    with log.bound(job="a-1"), structlog.contextvars.bound_contextvars(tenant="t-1"):
        log.Log("room").warning("thing.happened", url="https://b/o?X-Goog-Signature=0bad", token="t")
    (line,) = lines_of(capsys.readouterr().err)
    assert (line["message"], line["severity"], line["logger"]) == (
        "thing.happened",
        "WARNING",
        "runwide.room",
    )
    assert line[LOCATION]["function"] == "test_our_own_lines_name_the_caller_and_have_no_secret"
    assert (line[LABELS], line["tenant"]) == ({"job": "a-1"}, "t-1")
    assert (line["url"], line["token"]) == ("https://b/o?X-Goog-Signature=[redacted]", "[redacted]")


# -- configure --


def test_a_call_without_arguments_restores_the_defaults(program):
    text = """
import logging, runwide.log
before = logging.getLogger().level, list(logging.getLogger().handlers)
runwide.log.configure(level="debug", format="json")
assert logging.getLogger().handlers
runwide.log.configure()
print((logging.getLogger().level, list(logging.getLogger().handlers)) == before)
"""
    assert program(text).stdout == "True\n"


def test_processors_see_lines_of_ours_of_logging_of_workers_and_prints(capfd, monkeypatch):
    monkeypatch.setenv("RUNWIDE_LOG", "json")
    log.configure(processors=[lambda _logger, _method, event: {**event, "team": "forecasts"}])

    def task(x):
        print("printed")
        logging.getLogger("mine").warning("logged")

    runwide.map(task, [0], workers=1, on_event=lambda _: 1 / 0)
    out, err = capfd.readouterr()
    found = {line["message"]: line["team"] for line in lines_of(out + err)}
    assert found == dict.fromkeys(("printed", "logged", "callback.failed"), "forecasts")


def test_a_processor_may_drop_a_line_and_say_what_the_collector_reads(capfd, monkeypatch):
    monkeypatch.setenv("RUNWIDE_LOG", "json")

    def choose(_logger, _method, event):
        if event["event"] == "dull.happened":
            raise structlog.DropEvent
        return {**event, "severity": "NOTICE", LABELS: {"tenant": "t"}}

    log.configure(processors=[choose])
    log.Log("room").warning("dull.happened")
    log.Log("room").warning("thing.happened", item=1)
    logging.getLogger("runwide.theirs").warning("dull.happened")

    def task(x):
        print("dull.happened")
        logging.getLogger("mine").warning("dull.happened")

    runwide.map(task, [0], workers=1)
    out, err = capfd.readouterr()
    (line,) = lines_of(out + err)
    assert (line["message"], line["severity"], line[LABELS]) == (
        "thing.happened",
        "NOTICE",
        {"item": "1", "tenant": "t"},
    )


@pytest.mark.parametrize(
    "wrong", [lambda *_: 1 / 0, lambda *_: None, lambda _l, _m, event: event.clear() or event]
)
def test_a_processor_that_fails_costs_no_line(capsys, wrong):
    log.configure(format="json", processors=[wrong])
    log.Log("room").warning("thing.happened", item=1)
    logging.getLogger("runwide.theirs").warning("theirs")
    lines = lines_of(capsys.readouterr().err)
    assert [line["message"] for line in lines] == ["thing.happened", "theirs"]
    assert all(line["processor_failed"].startswith("<lambda>: ") for line in lines)
    assert lines[0]["item"] == 1


def test_secrets_are_taken_out_after_processors(capsys):
    log.configure(
        format="json",
        processors=[lambda _l, _m, event: {**event, "url": "https://b/o?X-Goog-Signature=0bad"}],
    )
    log.Log("room").warning("thing.happened")
    assert "0bad" not in capsys.readouterr().err


def test_a_file_gets_the_lines_of_the_program_and_of_its_workers(tmp_path, capfd):
    log.configure(file=tmp_path / "log.jsonl", format="json")
    runwide.map(
        lambda _: (logging.getLogger("mine").warning("logged"), None)[1],
        range(20),
        workers=2,
        on_event=lambda _: 1 / 0,
    )
    lines = lines_of((tmp_path / "log.jsonl").read_text())
    messages = [line["message"] for line in lines]
    assert (messages.count("logged"), messages.count("callback.failed")) == (20, 1)
    assert capfd.readouterr().err == ""


def test_levels_hold_by_logger(program):
    text = """
import logging, runwide.log
runwide.log.configure(level="error", levels={"runwide.room": "debug", "noisy": logging.CRITICAL})
runwide.log.Log("room").debug("room.said")
runwide.log.Log("pool").warning("pool.said")
logging.getLogger("noisy").error("noisy")
logging.getLogger("mine").error("mine")
logging.getLogger("mine").warning("quiet")
"""
    done = program(text)
    assert [line.split()[2] for line in done.stderr.splitlines()] == ["room.said", "mine"]


def test_configure_takes_precedence_over_the_environment(program):
    text = "import runwide.log; runwide.log.configure(format='text', level='info'); runwide.log.Log('room').info('a.b')"
    done = program(text, RUNWIDE_LOG="json", RUNWIDE_LOG_LEVEL="error")
    assert re.fullmatch(r"\d\d:\d\d:\d\d \[info\] a\.b \[runwide\.room\]\n", done.stderr)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"format": "xml"}, "invalid format='xml': expected 'json' or 'text'"),
        ({"level": "loud"}, "invalid level 'loud': expected debug, info"),
        ({"levels": {"runwide": True}}, "invalid level True"),
        ({"processors": [3]}, "invalid processor 3: expected a callable"),
        ({"file": "/no/such/folder/log"}, "the log file /no/such/folder/log cannot be written: No such file"),
        ({"processors": [threading.Lock().acquire]}, "cannot be sent to workers"),
    ],
)
def test_a_wrong_argument_is_one_clear_error(options, message):
    with pytest.raises(InputError, match=message):
        log.configure(**options)


@pytest.mark.parametrize("project", ["", "p"])
def test_lines_within_a_span_carry_its_ids_in_workers_too(capfd, monkeypatch, project):
    from opentelemetry.sdk.trace import TracerProvider

    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", project)
    monkeypatch.setenv("RUNWIDE_LOG", "json")

    def task(_):
        from opentelemetry.sdk.trace import TracerProvider

        with TracerProvider().get_tracer("tests").start_as_current_span("work") as span:
            logging.getLogger("mine").warning("logged")
        return span.get_span_context().trace_id, span.get_span_context().span_id

    with TracerProvider().get_tracer("tests").start_as_current_span("work") as span:
        log.Log("room").warning("thing.happened")
    mine = span.get_span_context()
    log.Log("room").warning("all.over")
    ((trace, id_),) = runwide.map(task, [0], workers=1)
    lines = lines_of(capfd.readouterr().err)
    start = "projects/p/traces/" if project else ""
    ids = [(line.get(TRACE), line.get("logging.googleapis.com/spanId")) for line in lines]
    assert ids == [
        (f"{start}{mine.trace_id:032x}", f"{mine.span_id:016x}"),
        (None, None),
        (f"{start}{trace:032x}", f"{id_:016x}"),
    ]
    assert lines[0]["logging.googleapis.com/trace_sampled"] is True
