"""Records are frozen dataclasses, so that no tuple of a user can be mistaken for a record."""

from __future__ import annotations

import dataclasses
import pickle
from array import array

import pytest

import runwide
from runwide.events.model import ENDED, TaskBatch, TaskEvent
from runwide.records import Failure, FailureKind, Outcome

ROW = array("L", [1]), array("d", [1.0]), array("d", [3.0]), array("d", [2.0])
RECORDS = [
    Failure(3, FailureKind.CRASH, "WorkerDied", "killed"),
    Outcome(3, "value"),
    TaskBatch(3, 1, 0, 4711, 1, 0.5, *ROW),
    TaskEvent(ENDED, 12.5, 3, 0, 4711),
]


def kind(record: object) -> str:
    return type(record).__name__


@pytest.mark.parametrize("record", RECORDS, ids=kind)
def test_a_record_is_frozen_and_has_no_other_attributes(record):
    with pytest.raises(dataclasses.FrozenInstanceError):
        record.index = 4
    assert not hasattr(record, "__dict__")


@pytest.mark.parametrize("record", RECORDS, ids=kind)
def test_a_record_is_not_a_tuple(record):
    values = tuple(getattr(record, field.name) for field in dataclasses.fields(record))
    assert record != values
    with pytest.raises(TypeError):
        iter(record)


@pytest.mark.parametrize("record", RECORDS, ids=kind)
def test_a_record_can_be_pickled(record):
    assert pickle.loads(pickle.dumps(record)) == record


@pytest.mark.parametrize("record", RECORDS, ids=kind)
def test_a_copy_may_have_another_value_of_a_field(record):
    changed = dataclasses.replace(record, index=7)
    assert changed.index == 7
    assert dataclasses.replace(changed, index=3) == record


def test_the_public_failure_is_that_of_the_records():
    assert runwide.Failure is Failure


def test_events_of_a_map_are_records():
    heard: list[TaskEvent] = []
    runwide.map(abs, [-1, -2, -3], workers=1, on_event=heard.append)
    assert {kind(event) for event in heard} == {"TaskEvent"}
    assert sorted(dataclasses.asdict(event)["index"] for event in heard) == [0, 1, 2]
