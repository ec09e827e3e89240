"""The page of a batch in a real browser: a row for each run, its links, and findings about all runs."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from looking import number, serious
from stories import CONSOLE, START, forecasts

import runwide
from runwide_components import Batch, PipelineRun, RunState


def test_every_run_has_a_row_with_its_state_parameters_outputs_and_the_link_of_its_engine(browse):
    shown = browse(forecasts().page())
    rows = shown.locator("#runs tbody tr")
    assert rows.count() == 12
    heads = shown.locator("#runs thead th").all_inner_texts()
    for name in ("run", "state", "duration", "attempts", "market", "rmse"):
        assert any(head.strip().startswith(name) for head in heads), (name, heads)
    assert not any(head.startswith(("days", "store")) for head in heads)  # the same in all runs
    assert "days = 7" in shown.locator("main").inner_text()
    assert rows.nth(1).locator("a").first.get_attribute("href") == f"{CONSOLE}forecast-de?project=shop"
    assert "step train failed: ValueError: no rows" in rows.nth(2).inner_text()
    assert browse.said == []
    assert browse.outside == []


def test_the_numbers_on_the_page_are_those_of_the_runs(browse):
    batch = forecasts()
    shown = browse(batch.page())
    assert number(shown, "succeeded") == sum(run.state is RunState.SUCCEEDED for run in batch) == 9
    assert number(shown, "failed") == sum(run.state is RunState.FAILED for run in batch) == 2
    assert number(shown, "active") == 1
    ends = [run.started + run.seconds for run in batch if run.seconds and not run.reused]
    assert number(shown, "wall") == pytest.approx(max(ends) - START)
    took = sorted(run.seconds for run in batch if run.state is RunState.SUCCEEDED)
    assert number(shown, "median") == pytest.approx(took[4])


def test_findings_report_common_failures_and_what_to_do(browse):
    said = browse(forecasts().page()).locator(".findings").inner_text()
    assert "2 of 12 runs failed." in said
    assert "2 runs failed alike: step train failed: ValueError: no rows" in said
    assert "forecast-ch took" in said
    assert "1 run succeeded before and was not run again" in said
    assert "1 run has not ended" in said
    assert "The same call again runs only" in said


def test_the_page_has_the_batchs_name_its_date_and_commands_with_its_uri(browse):
    uri = "gs://bucket/runs/batches/forecast"
    shown = browse(Batch(forecasts(), uri=uri).page())
    assert shown.locator("h1").inner_text() == "forecast"
    assert "started 2026-11-18 11:06 UTC" in shown.locator("header").inner_text()
    assert shown.locator(".command code").all_inner_texts() == [
        f"runwide status {uri}",
        f"runwide wait {uri}",
    ]
    assert (
        browse(Batch(forecasts(), uri=uri).failed.page(title="Markets")).locator("h1").inner_text()
        == "Markets"
    )


def test_the_page_has_the_pipelines_name_the_uri_and_the_call_that_runs_failed_runs_again(browse):
    uri = "gs://bucket/runs/batches/weekly"
    runs = [replace(run, pipeline="forecast-small") for run in forecasts()]
    shown = browse(Batch(runs, uri=uri).page())
    assert shown.locator("h1").inner_text() == "weekly"
    assert (
        shown.locator("header p")
        .first.inner_text()
        .startswith("pipeline forecast-small · 12 runs · started ")
    )
    assert uri in shown.locator("header").inner_text()
    advice = shown.locator(".findings .error").inner_text()
    assert "Pipelines(pipeline, store='gs://bucket/runs', name='weekly').map(parameters)" in advice
    assert "runwide submit PIPELINE.yaml PARAMETERS --store gs://bucket/runs --name weekly" in advice
    assert shown.locator(".findings .error .copy").count() == 0  # words to replace are not for copying


def test_runs_whose_errors_differ_in_a_number_failed_alike(browse):
    runs = [PipelineRun(f"r{x}", {}, RunState.FAILED, error=f"step a failed: no row {x}") for x in range(3)]
    said = browse(Batch(runs).page()).locator(".findings").inner_text()
    assert "3 runs failed alike: for example, step a failed: no row 0" in said


def test_long_texts_do_not_make_tall_rows_on_a_phone(browse):
    text = "a rather long remark about this market " * 5
    runs = [
        PipelineRun(f"r{x}", {"x": x, "note": f"{x} {text}"}, RunState.FAILED, error=text) for x in range(3)
    ]
    shown = browse(Batch(runs).page(), width=360)
    heights = shown.locator("#runs tbody tr").evaluate_all("all => all.map(one => one.offsetHeight)")
    assert max(heights) < 300


def test_filters_and_columns_find_runs(browse):
    from playwright.sync_api import expect

    shown = browse(forecasts().page())
    visible = shown.locator("#runs tbody tr:visible")
    shown.get_by_role("combobox", name="Show").select_option("failed")
    expect(visible).to_have_count(2)
    shown.get_by_role("button", name="Show all").click()
    shown.get_by_role("searchbox", name="Find").fill("-de")
    expect(visible).to_have_count(1)
    shown.get_by_role("searchbox", name="Find").fill("")
    column = shown.locator("#runs th", has_text="duration")
    column.get_by_role("button").press("Enter")
    column.get_by_role("button").press("Enter")
    assert column.get_attribute("aria-sort") == "descending"
    assert "forecast-ch" in shown.locator("#runs tbody tr").first.inner_text()
    assert browse.said == []


def test_a_saved_page_links_the_report_of_each_runs_fan_out(browse, tmp_path):
    job = runwide.scatter(lambda x: x * x, range(6), store=str(tmp_path / "store"), shards=1)
    runwide.shard(job, 0, workers=1)
    result = runwide.job.finish(job)
    gone = f"{tmp_path}/store/gone/result.json#sha256={'0' * 64}"
    batch = Batch([
        PipelineRun("squares", {"n": 6}, RunState.SUCCEEDED, {"Output": result}, seconds=1.0),
        PipelineRun("gone", {"n": 7}, RunState.SUCCEEDED, {"Output": gone}),
        PipelineRun("other", {"n": 8}, RunState.SUCCEEDED, {"Output": "a word", "report": "gs://bucket/x/report.html"}),
    ])  # fmt: skip
    index = batch.save(tmp_path / "out" / "runs.html")
    shown = browse(index.read_text())
    shown.goto(index.as_uri())
    squares, gone, other = shown.locator("#runs tbody tr").all()
    assert "report" not in gone.inner_text()
    assert other.locator("a").get_attribute("href") == "https://storage.cloud.google.com/bucket/x/report.html"
    squares.get_by_role("link", name="report").click()
    assert number(shown, "ended") == 6
    assert browse.said == []
    assert browse.outside == []


HOSTILE = """</script><script>alert(1)</script>"><img src=x onerror=alert(2)>"""


def test_texts_of_users_and_engines_stay_text_and_unsafe_links_are_left_out(browse):
    batch = Batch([
        PipelineRun(HOSTILE, {HOSTILE: HOSTILE}, RunState.FAILED, {"a": HOSTILE}, HOSTILE, logs="javascript:alert(3)"),
        PipelineRun("b", {}, RunState.FAILED, error="https://b/o?X-Goog-Signature=0badc0de", logs="data:text/html,x"),
    ])  # fmt: skip
    html = batch.page()
    assert "0badc0de" not in html
    shown = browse(html)
    assert shown.locator("#runs a").count() == 0
    assert shown.locator("img").count() == 0
    assert HOSTILE in shown.locator("#runs tbody tr").first.inner_text()
    assert browse.said == []
    assert browse.outside == []


@pytest.mark.parametrize(("scheme", "width"), [("light", 1200), ("dark", 1200), ("light", 360)])
def test_axe_finds_no_serious_fault_and_a_phone_needs_no_sideways_scrolling(browse, scheme, width):
    shown = browse(forecasts().page(), scheme=scheme, width=width)
    assert serious(shown) == []
    assert shown.evaluate("document.documentElement.scrollWidth") <= width


def test_in_a_notebook_the_batch_is_its_page_in_a_sandboxed_frame(browse):
    shown = browse(f"<!doctype html><title>viewer</title>{forecasts()._repr_html_()}")
    frame = shown.frame_locator("iframe")
    frame.get_by_role("searchbox", name="Find").fill("-de")
    assert frame.locator("#runs tbody tr:visible").count() == 1
    assert browse.said == []
    assert browse.outside == []


def test_the_page_of_a_thousand_runs_is_small_and_a_batch_may_be_empty(browse):
    many = Batch([
        PipelineRun(f"run-{x}", {"x": x}, RunState.SUCCEEDED, {"y": x}, seconds=1.0 * x, started=START + x)
        for x in range(1000)
    ])  # fmt: skip
    assert len(many.page().encode()) < 1_000_000
    assert "There are no runs" in browse(Batch([]).page()).locator("main").inner_text()
    assert browse.said == []
    json.dumps(many.table())
