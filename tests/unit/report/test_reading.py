"""A report has a failed item's input, the options of the run, its image, and the last job of the same name."""

from __future__ import annotations

import pytest

import runwide
from runwide._report import reading
from runwide._report.page import ticks


class Point:
    """Not plain data."""

    def __init__(self, x):
        self.x = x


def failing(item):
    raise ValueError("no")


def reported(items, store, *, name=None, **options):
    """Run a map whose items fail, and return the report of its job."""
    results = runwide.map(
        failing, items, store=str(store), name=name, workers=1, on_error="return", **options
    )
    return results.report()


def test_a_failed_item_is_shown_short_and_without_secrets(tmp_path):
    found = reported([{"city": "<Oslo>", "password": "hunter2"}, "many words " * 500, "x" * 5000], tmp_path)
    assert found.story.inputs[0] == "{'city': '<Oslo>', 'password': [redacted]}"
    assert found.story.inputs[1].startswith("'many words")
    assert len(found.story.inputs[1]) == 300
    assert found.story.inputs[2] == "str of 5,002 characters"  # a cut word may be a part of a secret
    html = found.html()
    assert "&lt;Oslo&gt;" in html
    assert "hunter2" not in html


def test_items_that_are_not_plain_data_or_large_are_left_out(tmp_path):
    assert reported([Point(1), 7], tmp_path).story.inputs == {1: "7"}
    assert reported([bytes(1 << 17)], tmp_path).story.inputs == {}


def test_the_options_of_a_run_and_its_image_are_shown(tmp_path, monkeypatch):
    monkeypatch.setenv("RUNWIDE_IMAGE", "registry/shop:7")
    html = reported([1], tmp_path, retries=2, max_memory="1G").html()
    for name, value in (
        ("option retries", "2"),
        ("option max_memory", "953.7 MiB"),
        ("ran in image", "registry/shop:7"),
    ):
        assert f"<td>{name}</td><td><code>{value}</code></td>" in html
    assert "option retries" in runwide.map(abs, [1], workers=1, retries=3).report().html()


def test_a_job_is_compared_with_the_last_one_of_its_name(tmp_path):
    first = reported([1], tmp_path, name="scores")
    assert (first.story.name, first.story.previous) == ("scores", None)
    assert "Compared with" not in first.html()
    reported([1, 2], tmp_path, name="other")
    second = reported([1, 2, 3], tmp_path, name="scores", reuse="nothing")
    assert second.story.previous.title == first.story.title
    html = second.html()
    assert "Compared with the last run of scores" in html
    assert "<td>items</td><td class=num>3</td><td class=num>1</td><td class=num>+200 %</td>" in html
    assert runwide.report(first.story.reference).story.previous is None
    assert reported([1], tmp_path).story.name == ""


def test_a_last_job_with_very_many_events_is_not_read(tmp_path, monkeypatch):
    reported([1], tmp_path, name="scores")
    monkeypatch.setattr(reading, "_PREVIOUS", 10)
    assert reported([1, 2], tmp_path, name="scores", reuse="nothing").story.previous is None


@pytest.mark.parametrize(
    ("span", "labels"),
    [
        (4.5, ["1 s", "2 s", "3 s", "4 s"]),
        (70.0, ["15 s", "30 s", "45 s", "1 min"]),
        (1000.0, ["5 min", "10 min", "15 min"]),
        (20_000.0, ["1 h", "2 h", "3 h", "4 h", "5 h"]),
        (0.7, ["200 ms", "400 ms", "600 ms"]),
        (0.0, []),
    ],
)
def test_ticks_of_a_time_axis_are_round(span, labels):
    found = ticks(span)
    assert [label for _, label in found] == labels
    assert all(0 < place < 1 for place, _ in found)
