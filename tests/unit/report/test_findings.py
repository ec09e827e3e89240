"""Findings are functions of numbers, and advise what to do."""

from __future__ import annotations

from dataclasses import replace

import pytest

from runwide._report import figures, findings
from runwide._report.figures import Lost, ShardFigures, Times
from runwide._report.findings import Level
from runwide._report.reading import Story

GIB = 1 << 30
NOTHING_LOST = Lost(100.0, 100.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)


def shard(index, seconds=10.0, **known):
    values = {
        "workers": 4,
        "ended": 1,
        "failed": 0,
        "retried": 0,
        "busy": 1.0,
        "peak_worker": 0,
        "peak": 0,
        "memory": 0,
    }
    return ShardFigures(index=index, seconds=seconds, **{**values, **known})


def texts(found):
    return [finding.text for finding in found]


def test_a_shard_far_behind_is_named_with_how_far():
    (one,) = findings.uneven_shards([shard(0), shard(1), shard(7, 31.0)])
    assert one.text == "Shard 7 took 3.1 \N{MULTIPLICATION SIGN} the median shard (31 s against 10 s)."
    assert "smaller shards" in one.advice


def test_even_shards_and_a_single_shard_are_not_reported():
    assert texts(findings.uneven_shards([shard(0), shard(1, 12.0)])) == []
    assert texts(findings.uneven_shards([shard(0, 500.0)])) == []


def test_memory_near_the_limit_asks_for_more_or_one_worker_less():
    tight = shard(1, peak=int(9.2 * GIB), memory=10 * GIB)
    (one,) = findings.memory([shard(0, peak=GIB, memory=10 * GIB), tight])
    assert one.text == "Peak memory was 92 % of the limit of 10.0 GiB (shard 1)."
    assert one.advice == "Raise it, or use 3 workers."
    assert texts(findings.memory([shard(0, peak=5 * GIB, memory=10 * GIB)])) == []


def test_the_advice_for_a_single_worker_is_more_memory():
    (one,) = findings.memory([shard(0, workers=1, peak=95, memory=100)])
    assert one.advice == "Raise it."
    (one,) = findings.out_of_memory(1, workers=1)
    assert one.advice == "Raise the memory of the component."
    assert one.text == "1 worker was killed for lack of memory."


@pytest.mark.parametrize("part", ["startup", "queueing", "stragglers", "spill", "unused"])
def test_a_loss_of_a_tenth_is_reported_and_a_smaller_one_is_not(part):
    (one,) = findings.losses(replace(NOTHING_LOST, **{part: 15.0}))
    assert one.text.startswith("15 % of the workers' time")
    assert one.advice
    assert texts(findings.losses(replace(NOTHING_LOST, **{part: 5.0}))) == []


def test_a_single_long_task_is_a_straggler():
    times = Times(count=100, mean=0.5, median=0.1, p90=0.2, p99=0.3, longest=40.0)
    (one,) = findings.stragglers(times, wall=60.0)
    assert one.text.startswith("The longest task took 40 s, 400 \N{MULTIPLICATION SIGN} the median")
    assert texts(findings.stragglers(times, wall=6000.0)) == []


@pytest.mark.parametrize(
    ("host", "said"),
    [
        (
            {"logical": 4, "physical": 2, "workers": 2, "usable": 2},
            ["4 vCPUs are 2 cores: 2 workers were used."],
        ),
        ({"logical": 4, "physical": 4, "workers": 4, "usable": 4}, []),
        (
            {"logical": 8, "physical": 8, "workers": 2, "usable": 2, "quota": 1.5},
            ["A CPU limit of 1.5 restricts 8 cores: 2 workers were used."],
        ),
        ({"logical": 2, "physical": 2, "workers": 8, "usable": 2}, ["8 workers shared 2 cores."]),
        ({"logical": 4, "physical": 4, "workers": 1, "usable": 4}, ["Only 1 worker ran on 4 cores."]),
        ({}, []),
    ],
)
def test_the_number_of_workers_is_explained(host, said):
    assert texts(findings.cores(host)) == said


def test_tasks_that_wait_and_tasks_with_threads_are_reported():
    assert texts(findings.waiting(95.0, 100.0)) == []
    assert texts(findings.waiting(10.0, 100.0))[0].startswith("Tasks waited 90 %")
    assert texts(findings.waiting(400.0, 100.0))[0].startswith("Each task used 4.0 cores")


def test_sampled_and_unreadable_events_are_reported():
    assert texts(findings.sampling(1.0, 0)) == []
    assert texts(findings.sampling(0.25, 0))[0].startswith("A fair sample of 25 %")
    assert texts(findings.sampling(1.0, 3)) == ["3 lines of the events could not be read."]


def test_unfinished_shards_and_killed_runs_are_reported():
    assert texts(findings.completeness(4, 4, 0)) == []
    assert texts(findings.completeness(4, 2, 1)) == [
        "2 of 4 shards have not finished.",
        "1 run did not end in order: killed from outside, or still going on.",
    ]


@pytest.mark.parametrize(
    ("function", "named"),
    [
        ("shop.score:score", "shop.score:score"),
        ("score:score", "score:score"),
    ],
)
def test_commands_for_failed_items_name_the_job_the_item_and_the_function(function, named):
    story = Story("bad", "f", 3, 1, 1, ())
    (found,) = findings.failures(
        replace(figures.of(story), failed=1), job="/runs/a/job.json", function=function
    )
    assert [command for _, command in found.commands] == [
        "runwide replay /runs/a/job.json 0 --pdb",
        f"runwide rerun /runs/a/job.json --function {named}",
    ]
    assert str(found).endswith(
        f"run only the failed items: runwide rerun /runs/a/job.json --function {named}"
    )


@pytest.mark.parametrize("function", ["__main__:score", "f", "shop:<lambda>", ""])
def test_the_command_for_a_function_that_cannot_be_imported_runs_as_it_is(function):
    story = Story("bad", "f", 3, 1, 1, ())
    (found,) = findings.failures(
        replace(figures.of(story), failed=1), job="/runs/a/job.json", function=function
    )
    assert found.commands[1] == (
        "Run only the failed items, with the stored function",
        "runwide rerun /runs/a/job.json",
    )
    assert "such as `--function shop:score`" in found.advice


def test_messages_that_differ_in_numbers_and_quoted_texts_are_one_group():
    messages = [
        "ValueError: cannot use 7",
        "ValueError: cannot use -57.5e3",
        "KeyError: 'a'",
        'KeyError: "b c"',
        "KeyError: 'a' at 0x7f00aa",
        "TypeError: it's not John's 4",
        "OSError: down",
        "OSError: down",
        "OSError: down",
    ]
    assert [(one.example, one.count, one.same) for one in findings.alike(messages)] == [
        ("OSError: down", 3, True),
        ("ValueError: cannot use 7", 2, False),
        ("KeyError: 'a'", 2, False),
    ]


def test_advice_about_components_is_for_several_shards_only():
    for part in ("startup", "unused"):
        lost = replace(NOTHING_LOST, **{part: 15.0})
        (alone,), (several,) = findings.losses(lost), findings.losses(lost, shards=4)
        assert not {"component", "shards"} & {*alone.advice.replace(":", "").split()}
        assert ("component" in several.advice) or ("shards" in several.advice)


def test_an_empty_story_has_findings_but_no_error():
    story = Story("empty", "f", 3, 2, 0, ())
    found = findings.explain(story, figures.of(story))
    assert texts(found) == ["2 of 2 shards have not finished."]


def test_the_most_important_finding_comes_first():
    order = [finding.level for finding in findings.explain(*bad_story())]
    assert order == sorted(order, key=list(Level).index)


def bad_story():
    story = Story("bad", "f", 3, 2, 1, ())
    numbers = replace(figures.of(story), failed=1, out_of_memory=1, killed=1, sampled=0.5)
    return story, numbers
