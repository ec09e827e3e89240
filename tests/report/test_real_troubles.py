"""The page of a job with real troubles: the kernel's OOM kill, a crash, a timeout, failures, a retry and a straggler.

The job runs in a container with a memory limit; the expected numbers of the page are computed here from the events.
"""

from __future__ import annotations

import json
import re
import textwrap
from collections import Counter
from statistics import median

import pytest
from looking import number

import runwide
from runwide._report import report

pytestmark = [pytest.mark.docker, pytest.mark.mounts]

LIMIT = 512 << 20
# The crash comes after the kernel's kills: these may be three where a worker starts, and takes memory, at that moment.
GREEDY, CRASHING, ENDLESS, FAILING, FLAKY, SLOW = 7, 28, 18, 25, 33, 41
PROGRAM = f"""
import os, sys, time
import runwide
from runwide.host import memory

def task(x):
    if x == {GREEDY}:
        held = []
        while True:
            held.append(b"x" * (8 << 20))
    if x == {CRASHING}:
        os._exit(3)
    if x == {ENDLESS}:
        time.sleep(3600)
    if x == {FAILING}:
        raise ValueError("no such row: https://storage.googleapis.com/b/o?X-Goog-Signature=0badc0de")
    if x == {FLAKY} and not os.path.exists("/tmp/tried"):
        open("/tmp/tried", "x").close()
        raise OSError("try again")
    if x == {SLOW}:
        time.sleep(4)
    until = time.thread_time() + 0.02
    while time.thread_time() < until:
        pass
    return x

store = sys.argv[1]
job = runwide.scatter(task, range(60), store=store, shards=2)
for index in range(2):
    runwide.shard(job, index, workers=2, timeout=10, retries=1)
print(memory.oom_kills(), runwide.job.finish(job))
"""


@pytest.fixture(scope="module")
def troubled(engine, image, tmp_path_factory):
    """Run the job, and return the reference of its results and its events."""
    folder = tmp_path_factory.mktemp("troubles")
    folder.chmod(0o777)
    container = engine.containers.create(
        image, ["python3", "-c", textwrap.dedent(PROGRAM), str(folder)],
        network_mode="none", mem_limit=LIMIT, memswap_limit=LIMIT,
        volumes={str(folder): {"bind": str(folder), "mode": "rw"}},
    )  # fmt: skip
    try:
        container.start()
        status = container.wait(timeout=120)["StatusCode"]
        said = container.logs(stderr=True, stdout=False).decode()
        assert status == 0, said
        kills, result = container.logs(stderr=False).decode().split()
        assert int(kills) == 2  # by the kernel's own count
    finally:
        container.remove(force=True)
    parts = sorted(folder.glob("*/shards/*/events*.jsonl"))
    return result, [json.loads(line) for part in parts for line in part.read_text().splitlines()]


@pytest.fixture
def shown(browse, troubled):
    return browse(report(troubled[0]).html())


def attempts(lines):
    """Each attempt of the events, those that share a line apart."""
    for line in lines:
        if line["name"] == "tasks.ended":
            yield from (
                {"name": "task.ended", "item": item, "seconds": nanos / 1e9, "attempt": line["attempt"]}
                for item, nanos in zip(line["items"], line["lasted"], strict=True)
            )
        elif "item" in line:
            yield line


def test_the_events_tell_the_kernels_kill_from_a_crash_a_timeout_and_an_exception(troubled):
    bad = {}
    for one in attempts(troubled[1]):
        if one["name"] != "task.ended":
            bad.setdefault(one["item"], []).append((one["name"], one["kind"]))
    assert bad == {
        GREEDY: [("task.retried", "out-of-memory"), ("task.failed", "out-of-memory")],
        CRASHING: [("task.retried", "crash"), ("task.failed", "crash")],
        ENDLESS: [("task.failed", "timeout")],
        FAILING: [("task.retried", "exception"), ("task.failed", "exception")],
        FLAKY: [("task.retried", "exception")],
    }
    kills = [one for one in attempts(troubled[1]) if one.get("kind") == "out-of-memory"]
    assert all("lack of memory" in one["detail"] and 0 < one["peak_rss"] < LIMIT for one in kills)


def test_the_page_shows_them_and_its_numbers_are_those_of_the_events(shown, browse, troubled):
    lines = troubled[1]
    tasks = list(attempts(lines))
    good = [one for one in tasks if one["name"] == "task.ended"]
    assert number(shown, "ended") == len(good) == 56
    assert number(shown, "failed") == len({one["item"] for one in tasks if one["name"] == "task.failed"}) == 4
    assert number(shown, "retried") == sum(one["name"] == "task.retried" for one in tasks) == 4
    runs = [line for line in lines if line["name"] == "run.started" and not line["part"]]
    ends = [line["time"] for line in lines if line["name"] == "run.ended"]
    assert len(runs) == len(ends) == 2
    wall = max(ends) - min(run["time"] for run in runs)
    assert number(shown, "wall") == pytest.approx(wall, abs=1e-3)
    assert number(shown, "throughput") == pytest.approx(len(good) / wall, rel=1e-3)
    seconds = sorted(one["seconds"] for one in good)
    assert number(shown, "median") == pytest.approx(median(seconds), abs=1e-5)
    assert number(shown, "longest") == pytest.approx(seconds[-1], abs=1e-5)
    assert seconds[-1] > 4
    highest = max(line["memory"] for line in lines if line["name"] == "host.sampled")
    assert number(shown, "memory") == pytest.approx(highest / LIMIT)
    parts = {
        one.get_attribute("data-part"): float(one.get_attribute("value"))
        for one in shown.locator(".lost").all()
    }
    total = sum(run["host"]["workers"] * (end - run["time"]) for run, end in zip(runs, ends, strict=True))
    assert sum(parts.values()) == pytest.approx(total, abs=1e-2)
    assert parts["useful"] == pytest.approx(sum(seconds), abs=1e-2)
    bad = [one for one in tasks if one["name"] != "task.ended"]
    assert parts["wasted"] == pytest.approx(sum(one["seconds"] for one in bad), abs=1e-2)
    marks = {kind: shown.locator(f".lane .mark.{kind}").count() for kind in ("failed", "retried", "killed")}
    assert marks == {"failed": 1, "retried": 2, "killed": 5}
    operations = Counter(line["name"] for line in lines if "object" in line)
    for row in shown.locator(".operations").all():
        assert int(row.get_attribute("value")) == operations.pop(row.get_attribute("data-kind"))
    assert not operations
    assert browse.said == []
    assert browse.outside == []


def test_the_page_says_what_happened_and_what_to_do(shown):
    said = shown.locator(".findings").inner_text()
    assert "4 items of 60 failed" in said
    assert "2 workers were killed for lack of memory" in said
    assert "Raise the memory of the component, or use 1 worker." in said
    assert "1 attempt ran into the timeout" in said
    assert "2 workers died of a task" in said
    assert "The longest task took 4" in said
    failures = shown.locator("#failures > li")
    kinds = {item.get_attribute("data-kind") for item in failures.all()}
    assert kinds == {"out-of-memory", "crash", "timeout", "exception"}
    killed = shown.locator("#failures > li[data-kind=out-of-memory]")
    assert f"item {GREEDY}" in killed.inner_text()
    assert int(re.search(r"at (\d+) MB", killed.inner_text())[1]) > 0  # how much it had, at the last look
    raised = shown.locator("#failures > li[data-kind=exception]")
    raised.locator("summary").click()
    trace = raised.locator("pre").inner_text()
    assert "ValueError: no such row" in trace
    assert "0badc0de" not in shown.content()
    shown.get_by_role("combobox", name="Show").select_option("killed")
    assert failures.locator("visible=true").count() >= 3


def test_the_job_of_the_container_is_read_here_and_its_failures_are_those_of_the_page(troubled):
    results = runwide.load(troubled[0], on_error="return")
    failed = [one.index for one in results if isinstance(one, runwide.Failure)]
    assert failed == sorted([GREEDY, CRASHING, ENDLESS, FAILING])
    assert report(troubled[0]).metrics["out_of_memory_kills"] == 2
