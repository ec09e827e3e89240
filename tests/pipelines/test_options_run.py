"""The options of a map on components and in pipelines: each has its effect there.

No annotations as strings here: kfp takes those of a pipeline as objects.
"""

import os
from pathlib import Path

import pytest
from kfp import dsl

import runwide
from runwide.errors import InputError, StepFailed, TooManyFailures
from runwide.options.record import OPTIONS
from runwide.records import Failure
from runwide_components import Components, Local, fan_out

PREPARED: list[str] = []
# on the command line of each shard, of which tests/unit/test_options.py has the effects
RUN = {
    "workers": 1, "retries": 1, "max_tasks": 1, "max_crashes": 1, "timeout": 60, "grace": 5, "chunksize": 1,
    "max_memory": "4G", "fresh": True,
}  # fmt: skip


def prepare(word):
    PREPARED.append(word)


def told(item, folder):
    """Return the arguments of a worker; the first attempt at item 1 raises, and item 3 ends its worker."""
    once = Path(folder) / "once"
    if item == 1 and not once.exists():
        once.touch()
        raise OSError("the first time")
    if item == 3:
        os._exit(3)
    return item, PREPARED, os.getpid()


def fails(item):
    if item % 2:
        raise ValueError(f"odd: {item}")
    return item


def test_every_option_works_on_components(tmp_path):
    place = Components(2, store=tmp_path / "store", engine=Local("subprocess"), progress=False)
    events = []
    found = runwide.map(
        told, range(6), on=place, constants={"folder": str(tmp_path)}, initializer=prepare, initargs=("word",),
        on_event=events.append, progress=False, on_error="return", **RUN,
    )  # fmt: skip
    assert {*RUN, "initializer", "initargs", "on_event", "progress", "max_failures"} == OPTIONS.keys()
    assert isinstance(found[3], Failure)
    assert (found[3].type, found[3].attempts) == ("WorkerDied", 1)
    rest = [one for one in found if not isinstance(one, Failure)]
    assert [item for item, _, _ in rest] == [0, 1, 2, 4, 5]
    assert all(prepared == ["word"] for _, prepared, _ in rest)
    assert len({pid for _, _, pid in rest}) == len(rest)
    assert {event.index for event in events} == set(range(6))
    assert sum(event.index == 1 for event in events) == 2


@pytest.mark.parametrize("on_error", ["raise", "return"])
def test_too_many_failures_stop_all_components_and_are_counted_anew(tmp_path, on_error):
    place = Components(2, store=tmp_path / "store", engine=Local("subprocess"), progress=False)
    for _ in range(2):
        with pytest.raises(TooManyFailures, match="failed items of all components") as caught:
            runwide.map(fails, range(12), on=place, max_failures=3, name="odd", workers=1, on_error=on_error)
        assert len(caught.value.failures) > 3
        assert all(isinstance(one, (int, Failure, type(None))) for one in caught.value.results)
    found = runwide.map(fails, range(12), on=place, max_failures=6, name="odd", workers=1, on_error="return")
    assert found[::2] == list(range(0, 12, 2))


@pytest.mark.parametrize("by_name", [False, True])
def test_a_pipeline_takes_all_but_what_needs_the_client(tmp_path, by_name):
    function = "operator:index" if by_name else told
    store = str(tmp_path / "store")
    given = {} if by_name else {"constants": {"folder": str(tmp_path)}}

    def prepare_here(word):
        Path(f"{word}-{os.getpid()}").touch()

    @dsl.pipeline(name="options")
    def pipeline() -> str:
        first = {"initializer": prepare_here, "initargs": (str(tmp_path / "seen"),)}
        return fan_out(
            function, [0, 1, 2], components=2, store=store, max_failures=0, **given, **first, **RUN
        ).output

    run = Local("subprocess").submit(pipeline, {}, store=store)
    found = runwide.load(run.wait()["Output"])
    assert ([one if by_name else one[0] for one in found], bool(list(tmp_path.glob("seen-*")))) == (
        [0, 1, 2],
        True,
    )


@pytest.mark.parametrize("most", [2, 3])
def test_a_pipeline_with_too_many_failures_fails(tmp_path, most):
    """Also where the last items of all shards are those that are too many."""
    store = str(tmp_path / "store")

    @dsl.pipeline(name="too-many")
    def pipeline() -> str:
        return fan_out(
            fails, list(range(8)), components=2, store=store, max_failures=most, on_error="return"
        ).output

    with pytest.raises(StepFailed, match="TooManyFailures"):
        Local("subprocess").submit(pipeline, {}, store=store).wait()


@pytest.mark.parametrize(("name", "value"), [("progress", True), ("on_event", print)])
def test_a_pipeline_refuses_what_needs_the_client(tmp_path, name, value):
    with pytest.raises(InputError, match=f"fan_out does not accept {name}="):
        fan_out(abs, [1], components=1, store=str(tmp_path), **{name: value})
    with pytest.raises(InputError, match=f"submit does not accept {name}="):
        Components(1, store=tmp_path).submit(abs, [1], **{name: value})
    assert not list(tmp_path.iterdir())
