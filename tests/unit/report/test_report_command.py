"""The command line and the object give the same page and the same numbers."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

import runwide
from runwide.cli import cli
from runwide.cli.status import Causes, picture
from runwide.job.progress import Progress


@pytest.fixture
def job(tmp_path):
    reference = runwide.scatter(lambda x: 1 / x, [0, 1, 2, 3], store=str(tmp_path / "store"), shards=2)
    for index in range(2):
        runwide.shard(reference, index, workers=1)
    return reference


def run(*words):
    return CliRunner().invoke(cli, [str(word) for word in words])


def test_report_writes_the_page_and_says_what_it_found(job, tmp_path):
    done = run("report", job, "--out", tmp_path / "new" / "page.html", "--metrics-out", tmp_path / "m.json")
    assert done.exit_code == 0, done.output
    assert "1 item of 4 failed. Item 0: ZeroDivisionError: division by zero." in done.output
    assert "<!doctype html>" in (tmp_path / "new" / "page.html").read_text()
    assert json.loads((tmp_path / "m.json").read_text()) == runwide.report(job).metrics


def test_gather_writes_report_and_metrics_also_where_items_failed(job, tmp_path):
    outs = ["--report-out", tmp_path / "a" / "r.html", "--metrics-out", tmp_path / "b" / "m.json"]
    assert run("gather", job, *outs).exit_code == 1
    assert "ZeroDivisionError" in (tmp_path / "a" / "r.html").read_text()
    assert json.loads((tmp_path / "b" / "m.json").read_text())["failed_items"] == 1


def test_status_watch_ends_when_all_shards_have_finished(job):
    done = run("status", job, "--watch")
    assert done.exit_code == 0, done.output
    assert "2 of 2 shards finished" in done.output


def shown(progress, *more):
    from rich.console import Console

    console = Console(width=110)
    with console.capture() as captured:
        console.print(picture(progress, *more))
    return captured.get()


def test_the_live_view_lists_what_has_not_finished(tmp_path):
    reference = runwide.scatter(abs, [1, 2, 3], store=str(tmp_path / "store"), shards=3)
    runwide.shard(reference, 1, workers=1)
    with Progress(reference) as progress:
        progress.look()
        said = shown(progress)
    assert "1 done, 1 of 3 shards finished" in said
    assert [line.split()[0] for line in said.splitlines()[-3:]] == [
        "shard",
        "0",
        "2",
    ]  # each on a line of its own


def test_the_live_view_counts_the_items_of_a_shard_that_goes_on_and_says_what_fails(tmp_path):
    def work(x):
        if x % 2:
            raise ValueError(f"odd, password=hunter2{x}")
        return x

    job = runwide.scatter(work, range(8), store=str(tmp_path / "store"), shards=1)
    runwide.shard(job, 0, workers=1)
    next((tmp_path / "store").glob("*/shards/0000/shard.json")).unlink()  # as while it goes on
    with Progress(job) as progress:
        said = Causes()
        said.add(progress.look())
        said.add(progress.look())  # tells nothing twice
        text = shown(progress, 4.0, said)
    assert "8 done, 0 of 1 shards finished" in text
    assert "4 items failed" in text
    assert "4 a second" in text
    assert "4 \N{MULTIPLICATION SIGN} ValueError: odd, password=[redacted]" in text
    assert "8 of 8" in text.splitlines()[-1]


def test_a_notebook_shows_the_page_in_a_sandboxed_frame(job):
    shown = runwide.report(job)._repr_html_()
    assert shown.startswith('<iframe sandbox="allow-scripts"')
    assert "<script" not in shown
    assert "&lt;script" in shown


def test_a_map_on_this_container_is_recorded_and_reported():
    with runwide.Recording("square") as recording:
        assert runwide.map(lambda x: x * x, range(5), workers=1, on_event=recording) == [0, 1, 4, 9, 16]
    found = runwide.report(recording)
    assert found.metrics["results"] == 5
    assert found.story.function == "square"


def test_report_is_a_function_after_its_modules_were_imported():
    import runwide._report.public

    assert runwide.report is runwide._report.public.report
