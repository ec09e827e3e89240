"""Every line says where it comes from, in the form that Cloud Logging parses, and no line has a secret."""

from __future__ import annotations

import json
import logging
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import runwide
from runwide import log
from runwide.job.reference import parse

CLOUD = {"RUNWIDE_LOG": "", "CLOUD_ML_JOB_ID": "123"}
LABELS = "logging.googleapis.com/labels"
LOCATION = "logging.googleapis.com/sourceLocation"

PROGRAM = """
import logging, sys

def talk(item):
    print("printed", item)
    print("complained", file=sys.stderr)
    logging.getLogger("mine").warning("logged %s", item)
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


def lines_of(text):
    return [json.loads(line) for line in text.splitlines()]


@pytest.fixture
def shard(tmp_path):
    """Runs a shard of a job as a container would; returns what it writes, and the job's reference."""
    (tmp_path / "talking.py").write_text(PROGRAM)
    command = Path(sys.executable).with_name("runwide")

    def run(*words, **environment):
        env = {
            key: value for key, value in os.environ.items() if key not in ("CLOUD_ML_JOB_ID", "RUNWIDE_LOG")
        }
        return subprocess.run(
            [str(command), *words], cwd=tmp_path, env={**env, **environment}, capture_output=True, text=True,
            check=False, timeout=60,
        )  # fmt: skip

    scattered = run("scatter", "--function", "talking:talk", "--items-json", json.dumps(list(range(10, 14))),
                    "--store", str(tmp_path / "store"), "--shards", "2")  # fmt: skip
    job = scattered.stdout.strip()
    return lambda **environment: (
        run("shard", job, "0", "--workers", "1", "--retries", "1", **environment),
        job,
    )


def test_prints_and_logging_of_a_task_carry_job_shard_item_worker_and_attempt(shard):
    done, job = shard(**CLOUD)
    job_id = parse(job).folder.rpartition("/")[2]
    said = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    written = lines_of(done.stderr)
    for message, severity, source in [
        ("printed 11", "INFO", said),
        ("complained", "WARNING", written),
        ("logged 11", "WARNING", written),
    ]:
        mine = [line for line in source if line["message"] == message]
        labels = [line[LABELS] for line in mine if line[LABELS]["item"] == "1"]
        assert [one["attempt"] for one in labels] == ["1", "2"], message
        for one in labels:
            assert one == {"job": job_id, "shard": "0", "item": "1", "worker": "0", "attempt": one["attempt"]}
        assert {line["severity"] for line in mine} == {severity}
        assert all(re.fullmatch(r"2\d{3}-.*Z", line["time"]) for line in mine)


def test_a_line_of_the_users_own_json_stays_as_it_is(shard):
    done, _ = shard(**CLOUD)
    assert done.stdout.count('{"message": "my own", "severity": "NOTICE"}\n') == 3


def test_an_exception_is_one_line_with_its_traceback_and_its_place(shard):
    done, _ = shard(**CLOUD)
    line = next(line for line in lines_of(done.stderr) if line["message"].startswith("failed to divide"))
    assert "ZeroDivisionError: division by zero" in line["message"]
    assert line["severity"] == "ERROR"
    assert line[LOCATION]["function"] == "talk"
    assert line[LOCATION]["file"].endswith("talking.py")
    assert int(line[LOCATION]["line"]) > 0


def test_signed_urls_do_not_reach_the_log(shard):
    done, _ = shard(**CLOUD)
    assert "X-Goog-Signature=[redacted]" in done.stderr
    assert "0badc0de" not in done.stderr + done.stdout


def test_every_line_of_the_shard_itself_is_bound_too(shard):
    done, _ = shard(**CLOUD)
    for line in lines_of(done.stderr):
        if line.get("logger") in ("job", "pool"):
            assert line[LABELS]["shard"] == "0"
            assert line[LOCATION]["file"].startswith(str(Path(runwide.__file__).parent))


def test_outside_a_cloud_prints_stay_text_with_the_item_in_front(shard):
    done, _ = shard(RUNWIDE_LOG="")
    assert "[1] printed 11" in done.stdout.splitlines()
    assert "[1] complained" in done.stderr.splitlines()


def test_the_trace_is_named_where_there_is_one(shard):
    trace = "0af7651916cd43dd8448eb211c80319c"
    done, _ = shard(**CLOUD, TRACEPARENT=f"00-{trace}-b7ad6b7169203331-01", GOOGLE_CLOUD_PROJECT="p")
    traces = {line.get("logging.googleapis.com/trace") for line in lines_of(done.stderr)}
    assert traces == {f"projects/p/traces/{trace}"}


def test_a_killed_workers_last_words_are_text(tmp_path, monkeypatch):
    monkeypatch.setenv("RUNWIDE_LOG", "json")

    def die(_):
        print("help", file=sys.stderr)
        os._exit(3)

    (failure,) = runwide.map(die, [0], workers=1, on_error="return")
    assert failure.exception.stderr == "help"


def test_our_own_lines_name_the_caller(capsys, monkeypatch):
    monkeypatch.setattr(log, "_root", None)
    monkeypatch.setenv("RUNWIDE_LOG", "json")
    with log.bound(job="a-1"):
        log.Log("room").warning("thing.happened", url="https://b/o?X-Goog-Signature=0bad", token="t")
    (line,) = lines_of(capsys.readouterr().err)
    assert (line["message"], line["severity"], line["logger"]) == ("thing.happened", "WARNING", "room")
    assert line[LOCATION]["function"] == "test_our_own_lines_name_the_caller"
    assert line[LABELS] == {"job": "a-1"}
    assert (line["url"], line["token"]) == ("https://b/o?X-Goog-Signature=[redacted]", "[redacted]")
    monkeypatch.setattr(log, "_root", None)


def test_logging_that_the_user_has_set_up_is_left_alone(monkeypatch):
    monkeypatch.setenv("RUNWIDE_LOG", "json")
    root = logging.getLogger()
    mine = logging.NullHandler()
    root.addHandler(mine)
    try:
        before = list(root.handlers)
        log.take_over_logging()
        assert root.handlers == before
    finally:
        root.removeHandler(mine)


def test_what_is_bound_ends_with_its_block_also_in_other_threads():
    import threading

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


def test_lines_of_json_cost_no_structlog():
    program = (
        "import runwide.log, sys; runwide.log.Log('room').info('a.b'); print('structlog' in sys.modules)"
    )
    env = {**os.environ, "RUNWIDE_LOG": "json"}
    done = subprocess.run(
        [sys.executable, "-c", program], env=env, capture_output=True, text=True, check=True
    )
    assert done.stdout == "False\n"
    assert json.loads(done.stderr)["message"] == "a.b"


@pytest.mark.parametrize(
    ("variables", "text"), [({}, True), ({"CLOUD_ML_JOB_ID": "1"}, False), ({"RUNWIDE_LOG": "json"}, False)]
)
def test_lines_are_text_in_a_notebook_unless_they_are_collected(variables, text):
    # The module alone says that this is a notebook's kernel.
    program = "import sys; sys.modules['ipykernel'] = sys; from runwide.log import Log; Log('pool').info('map.done', n=3)"
    env = {key: value for key, value in os.environ.items() if key not in ("CLOUD_ML_JOB_ID", "RUNWIDE_LOG")}
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**env, **variables},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert "map.done" in done.stderr
    assert done.stderr.startswith("{") is not text


def test_text_for_people_is_structlogs_and_has_no_secret_either(capsys, monkeypatch):
    monkeypatch.setattr(log, "_root", None)
    monkeypatch.setenv("RUNWIDE_LOG", "text")
    monkeypatch.setenv("RUNWIDE_LOG_LEVEL", "warning")
    log.Log("room").info("nothing.said")
    log.Log("room").warning("thing.happened", item=3, token="t")
    written = capsys.readouterr().err
    assert re.fullmatch(
        r"2\d{3}-\S+Z \[warning  \] thing\.happened +\[room\] item=3 token=\[redacted\]\n", written
    )
    monkeypatch.setattr(log, "_root", None)
