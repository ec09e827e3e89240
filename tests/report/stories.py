"""Made-up jobs and batches: events as runs would write them, with all kinds of trouble."""

from __future__ import annotations

import random

from runwide._report.reading import Story
from runwide.events import lines as events
from runwide.events.model import ObjectEvent, Run, TaskEvent, WorkerSums
from runwide.events.reading import Reader
from runwide.records import Failure, FailureKind
from runwide_components import Batch, PipelineRun, RunState

START = 1_795_000_000.0
GIB = 1 << 30
HOST = {
    "workers": 2,
    "physical": 2,
    "logical": 4,
    "usable": 2,
    "quota": None,
    "memory": 8 * GIB,
    "python": "3.11.7",
    "runwide": "0.1.0",
    "hypervisor": "KVM",
}


class Shard:
    """One run of a shard, written line by line."""

    def __init__(
        self, index, *, start=START, sampled=1.0, host=HOST, job="a-20261124t000000-0123456789abcdef"
    ):
        self.index = index
        self.start = start
        self.clock = [start + 1.0] * host["workers"]  # imports and processes take a second
        self.run = Run(
            id=f"run{index}-{start}", started=start, shard=index, sampled=sampled, job=job, host=host
        )
        self.lines = [events.run_line(self.run, 0)]
        self.sums = {}
        self.left_out = 0

    def attempt(self, item, seconds, *, name="task.ended", attempt=1, worker=None, cpu=0.95, **known):
        worker = worker if worker is not None else min(range(len(self.clock)), key=self.clock.__getitem__)
        started = self.clock[worker] + 0.0005
        self.clock[worker] = ended = started + seconds
        event = TaskEvent(
            name, ended, item, worker, 100 + worker, attempt, seconds, queued=started - 0.0004, started=started,
            cpu_seconds=cpu * seconds, cpu=worker, bytes=128, **{"peak_rss": GIB // 2, **known},
        )  # fmt: skip
        self.sums.setdefault(worker, WorkerSums()).add(event)
        if name != "task.ended" or events.is_written(item, self.run.sampled):
            self.lines.append(events.task_line(event, item=item, shard=self.index))
        else:
            self.left_out += 1

    def moved(self, name, size):
        now = max(self.clock)
        self.lines.append(events.object_line(ObjectEvent(name, now, 0.05, size, f"shards/{self.index}")))

    def memory(self, used):
        self.lines.append(events.memory_line(max(self.clock), int(used)))

    def text(self, *, killed=False):
        end = max(self.clock) + 0.3
        self.lines.append(events.sums_line(end, self.sums, self.left_out))
        if not killed:
            self.lines.append(events.end_line(end))
        return "".join(self.lines).encode()


def story_of(texts, *, items, failures=(), shards=None, function="score", **known):
    reader = Reader()
    for index, text in enumerate(texts):
        reader.read(text, shard=index)
    assert reader.unreadable == 0
    count = shards or len(texts)
    return Story(
        title="a-20261124t000000-0123456789abcdef",
        function=function,
        items=items,
        shards=count,
        finished=len(texts),
        runs=reader.runs(),
        failures=tuple(failures),
        uri="gs://bucket/runs/a-20261124t000000-0123456789abcdef",
        created="2026-11-24T00:00:00",
        environment={"python": "3.11.7", "cloudpickle": "3.1.3", "runwide": "0.1.0"},
        **known,
    )


TRACEBACK = """Traceback (most recent call last):
  File "/app/score.py", line 12, in score
    return row["amount"] / row["count"]
ZeroDivisionError: division by zero
"""


def troubled():
    """Six shards of 60 items with exceptions, retries, OOM kills, a timeout, a crash and a straggler: texts and failures."""
    chance = random.Random(8)
    texts, failures = [], []
    for index in range(6):
        shard = Shard(index)
        shard.moved("items.fetched", 3_000_000)
        for item in range(60 * index, 60 * index + 60):
            seconds = chance.lognormvariate(-1.6, 0.5)
            if item % 60 == 7:
                shard.attempt(
                    item, seconds, name="task.retried", kind=FailureKind.EXCEPTION, detail="OSError: gone"
                )
                shard.attempt(item, seconds, attempt=2)
            elif item in (20, 140, 260):
                failures.append(
                    Failure(item, FailureKind.EXCEPTION, "ZeroDivisionError", "division by zero", TRACEBACK)
                )
                shard.attempt(
                    item,
                    seconds,
                    name="task.failed",
                    kind=FailureKind.EXCEPTION,
                    detail="ZeroDivisionError: division by zero",
                )
            elif item == 100:
                oom = {
                    "kind": FailureKind.OUT_OF_MEMORY,
                    "detail": "the worker was killed for lack of memory",
                }
                shard.attempt(item, 2.0, name="task.retried", cpu=0, peak_rss=6 * GIB, **oom)
                shard.attempt(item, 2.5, name="task.failed", attempt=2, cpu=0, peak_rss=7 * GIB, **oom)
                failures.append(
                    Failure(item, FailureKind.OUT_OF_MEMORY, "WorkerOutOfMemory", "killed", attempts=2)
                )
            elif item == 200:
                stopped = {"kind": FailureKind.TIMEOUT, "detail": "the worker was stopped after the timeout"}
                shard.attempt(item, 5.0, name="task.failed", cpu=0, **stopped)
                failures.append(
                    Failure(item, FailureKind.TIMEOUT, "TaskTimeout", "the task ran longer than 5 s")
                )
            elif item == 215:
                shard.attempt(
                    item, 0.3, name="task.retried", kind=FailureKind.CRASH, detail="the worker exited", cpu=0
                )
                shard.attempt(item, 0.4, attempt=2)
            elif item == 359:
                shard.attempt(item, 40.0)  # the straggler
            else:
                shard.attempt(item, seconds)
            if item % 10 == 0:
                shard.memory((7.5 if index == 1 else 4.0) * GIB * (0.8 + 0.2 * chance.random()))
        shard.moved("chunk.spilled", 7_680)
        texts.append(shard.text())
    return texts, failures


def brief():
    """Three shards of 40 items with one exception, one OOM kill and a straggler: texts and failures."""
    chance = random.Random(3)
    texts, failures = [], []
    oom = {"kind": FailureKind.OUT_OF_MEMORY, "detail": "the worker was killed for lack of memory", "cpu": 0}
    for index in range(3):
        shard = Shard(index, job="forecast")
        for item in range(40 * index, 40 * index + 40):
            seconds = chance.lognormvariate(-0.9, 0.5)
            if item == 23:
                failed = "KeyError: 'Oslo'"
                failures.append(Failure(item, FailureKind.EXCEPTION, "KeyError", "'Oslo'"))
                shard.attempt(item, seconds, name="task.failed", kind=FailureKind.EXCEPTION, detail=failed)
            elif item == 60:
                shard.attempt(item, 2.0, name="task.retried", peak_rss=6 * GIB, **oom)
                shard.attempt(item, 2.5, attempt=2, peak_rss=6 * GIB)
            else:
                shard.attempt(item, 8.0 if item == 83 else seconds)
        texts.append(shard.text())
    return texts, failures


def many(tasks, *, shards=20, sampled=1.0, job_items=None):
    """A large healthy job, with a failure now and then."""
    chance = random.Random(5)
    texts = []
    each = tasks // shards
    for index in range(shards):
        shard = Shard(index, start=START + 3 * index, sampled=sampled)
        for item in range(index * each, (index + 1) * each):
            seconds = chance.lognormvariate(-5, 0.6)
            if item % 997 == 5:
                shard.attempt(
                    item, seconds, name="task.failed", kind=FailureKind.EXCEPTION, detail="ValueError: no"
                )
            else:
                shard.attempt(item, seconds)
        texts.append(shard.text())
    return story_of(texts, items=job_items or tasks)


CONSOLE = "https://console.cloud.google.com/vertex-ai/locations/europe-west1/pipelines/runs/"


def forecasts():
    """Twelve runs of a forecast, four at a time: two fail alike, one is slow, one still runs, one was there before."""
    found = []
    for number, market in enumerate(["fr", "de", "it", "es", "pt", "nl", "be", "at", "ch", "dk", "se", "no"]):
        seconds, state, error, outputs = 60.0 + 3 * number, RunState.SUCCEEDED, "", {"rmse": 0.1 * number}
        if market in ("it", "nl"):
            state, error, outputs = RunState.FAILED, "step train failed: ValueError: no rows", {}
        if market == "ch":
            seconds = 400.0
        if market == "no":
            seconds, state, outputs = 0.0, RunState.RUNNING, {}
        found.append(
            PipelineRun(
                f"forecast-{market}", {"market": market, "days": 7, "store": "gs://bucket/runs"}, state, outputs, error,
                run=f"run-{market}", logs=f"{CONSOLE}forecast-{market}?project=shop", attempts=2 if market == "pt" else 1,
                seconds=seconds, started=START + 70 * (number // 4), reused=market == "fr",
            )
        )  # fmt: skip
    return Batch(found)
