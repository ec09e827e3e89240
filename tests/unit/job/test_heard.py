"""A listener in another process gets each attempt once, from the logs of shards, and items without a line at the end."""

from __future__ import annotations

import runwide
from runwide.job import close
from runwide.job.arrivals import Stream
from runwide.job.event_forwarding import EventForwarder
from runwide.job.manifest import read_job
from runwide.records import FailureKind


def fail_at_three(item):
    if item == 3:
        raise KeyError(item)
    return item


def test_events_are_those_of_the_shard_and_items_without_a_line_come_at_the_end(memory):
    reference = runwide.scatter(fail_at_three, range(100), store=memory, shards=2)
    job, there, here = read_job(reference), [], []
    logs = []
    with Stream(job, on_log=logs.append) as stream:
        heard = EventForwarder(stream.store, job, here.append)
        runwide.shard(reference, job.shard_of(3), workers=1, on_event=there.append)
        for outcome in stream.look():
            heard.add_end(outcome.index, outcome.failure)
        for name in logs:
            heard.add_part(name)
        heard.forward()
        assert len(here) == len(job.items_of(job.shard_of(3)))

        def facts(event):
            times = [round(time, 3) for time in (event.seconds, event.started, event.time)]
            return (
                event.index,
                event.name,
                event.attempt,
                event.worker,
                event.pid,
                event.kind,
                event.detail,
                times,
            )

        assert sorted(map(facts, here)) == sorted(map(facts, there))
        here.clear()
        close(reference, 1 - job.shard_of(3), RuntimeError("no machine"))
        for outcome in stream.look(over=True):
            heard.add_end(outcome.index, outcome.failure)
        heard.forward()
        assert not here
        heard.finish(12.5)
        lost = job.items_of(1 - job.shard_of(3))
        assert sorted(event.index for event in here) == sorted(lost)
        assert {
            (event.name, event.kind, event.detail, event.time, event.pid, event.seconds) for event in here
        } == {("task.failed", FailureKind.CRASH, "RuntimeError: no machine", 12.5, 0, 0.0)}


def test_invalid_lines_are_ignored(tmp_path):
    job = read_job(runwide.scatter(abs, [-1, -2], store=str(tmp_path), shards=1))
    folder = tmp_path / job.id / "shards/0000"
    folder.mkdir(parents=True)
    line = '{"name":"task.ended","time":12.5,"shard":0,"item":%s,"worker":1,"pid":4711,"attempt":1}'
    text = "\n".join(["{", "[]", line % 7, line % -1, line % '"x"', line % 1, '{"name":"tasks.ended"}'])
    (folder / "events.jsonl").write_text(text)
    heard = []
    with Stream(job) as stream:
        listener = EventForwarder(stream.store, job, heard.append)
        listener.add_part("shards/0000/events.jsonl")
        listener.add_part("shards/0000/events-0001.jsonl")  # which is gone
        listener.forward()
    assert [(event.index, event.worker, event.pid) for event in heard] == [(1, 1, 4711)]
