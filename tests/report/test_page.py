"""The page in a real browser: complete, quiet, offline, usable, and right."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from statistics import median

import pytest
from looking import number, serious
from stories import GIB, TRACEBACK, many, story_of, troubled

import runwide
from runwide._report import Report, figures, report
from runwide._report.page import _compared, page
from runwide._report.reading import Story
from runwide.records import Failure, FailureKind


@pytest.fixture(scope="module")
def trouble():
    texts, failures = troubled()
    lines = [json.loads(line) for text in texts for line in text.splitlines()]
    return story_of(texts, items=360, failures=failures), lines


def test_the_page_of_a_real_job_is_quiet_and_makes_no_request(browse, tmp_path):
    job = runwide.scatter(lambda x: 1 / (x - 7), range(40), store=str(tmp_path / "store"), shards=2)
    for index in range(2):
        runwide.shard(job, index, workers=2)
    shown = browse(report(job).html())
    assert (number(shown, "ended"), number(shown, "failed")) == (39, 1)
    assert shown.locator("#failures > li").count() == 1
    shown.locator("#failures summary").click()
    assert "ZeroDivisionError" in shown.locator("#failures pre").inner_text()
    assert browse.said == []
    assert browse.outside == []


def test_the_page_of_the_flights_demo_is_quiet_and_complete(browse, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "components" / "examples"))
    import flights

    routes = flights.routes_of_2013(replicates=2)
    job = runwide.scatter(flights.interval, routes, store=str(tmp_path / "store"), shards=4)
    for index in range(4):
        runwide.shard(job, index)
    shown = browse(report(job).html())
    assert (number(shown, "ended"), number(shown, "failed")) == (len(routes), 0)
    assert shown.locator("#failed, nav a[href='#failed']").count() == 0  # no section without content
    assert serious(shown) == []
    assert browse.said == []
    assert browse.outside == []


def test_the_numbers_on_the_page_are_those_of_the_events(browse, trouble):
    story, lines = trouble
    shown = browse(page(story))
    tasks = [line for line in lines if "item" in line]
    good = [line for line in tasks if line["name"] == "task.ended"]
    runs = [line for line in lines if line["name"] == "run.started"]
    ends = [line["time"] for line in lines if line["name"] == "run.ended"]
    wall = max(ends) - min(run["time"] for run in runs)
    assert number(shown, "ended") == len(good)
    assert (
        number(shown, "failed") == len({line["item"] for line in tasks if line["name"] == "task.failed"}) == 5
    )
    assert number(shown, "retried") == sum(line["name"] == "task.retried" for line in tasks) == 8
    assert number(shown, "wall") == pytest.approx(wall, abs=1e-3)
    assert number(shown, "throughput") == pytest.approx(len(good) / wall, rel=1e-4)
    cpu = sum(line.get("cpu_seconds", 0) for line in tasks)
    cores = sum(2 * (end - run["time"]) for run, end in zip(runs, ends, strict=True))
    assert number(shown, "utilisation") == pytest.approx(cpu / cores, rel=1e-3)
    seconds = sorted(line["seconds"] for line in good)
    assert number(shown, "median") == pytest.approx(median(seconds), abs=1e-6)
    assert number(shown, "longest") == pytest.approx(40.0)
    highest = max(line["memory"] for line in lines if line["name"] == "host.sampled")
    assert number(shown, "memory") == pytest.approx(highest / (8 * GIB))
    assert shown.locator(".operations[data-kind='items.fetched']").get_attribute("value") == "6"


def test_lost_time_on_the_page_adds_up_to_the_workers_time(browse, trouble):
    story, lines = trouble
    shown = browse(page(story))
    parts = {
        cell.get_attribute("data-part"): float(cell.get_attribute("value"))
        for cell in shown.locator(".lost").all()
    }
    ends = [line["time"] for line in lines if line["name"] == "run.ended"]
    starts = [line["time"] for line in lines if line["name"] == "run.started"]
    assert sum(parts.values()) == pytest.approx(2 * (sum(ends) - sum(starts)), abs=1e-3)
    assert parts["useful"] == pytest.approx(
        sum(line["seconds"] for line in lines if line["name"] == "task.ended"), abs=1e-3
    )
    assert parts["stragglers"] > 35  # the other worker of shard 5 waited for the straggler


def test_the_findings_name_what_went_wrong_and_what_to_do(browse, trouble):
    said = browse(page(trouble[0])).locator(".findings").inner_text()
    assert "5 items of 360 failed" in said
    assert "2 workers were killed for lack of memory" in said
    assert "Raise the memory of the component, or use 1 worker." in said
    assert "Shard 5 took" in said
    assert "4 vCPUs are 2 cores: 2 workers were used." in said
    assert "The longest task took 40 s" in said


def test_filters_show_one_shard_or_what_failed(browse, trouble):
    from playwright.sync_api import expect

    shown = browse(page(trouble[0]))
    visible = shown.locator("#rows .row:visible")
    expect(visible).to_have_count(12)
    shown.get_by_role("textbox", name="Shard").fill("3")
    expect(visible).to_have_count(2)
    assert shown.locator("#shown").inner_text() == "2 of 12 rows"
    assert shown.locator("#failures > li:visible").count() == 1  # the one that ran into the timeout
    shown.get_by_role("button", name="Show all").click()
    expect(visible).to_have_count(12)
    shown.get_by_role("combobox", name="Show").select_option("killed")
    expect(visible).not_to_have_count(12)
    labels = visible.locator("svg").evaluate_all("found => found.map(one => one.getAttribute('aria-label'))")
    assert labels
    assert all("killed" in label for label in labels)
    assert browse.said == []


def test_the_keyboard_reaches_filters_and_tracebacks(browse, trouble):
    shown = browse(page(trouble[0]))
    shown.get_by_role("textbox", name="Shard").focus()
    shown.keyboard.type("0")
    assert shown.locator("#rows .row:visible").count() == 2
    shown.keyboard.press("Tab")
    assert shown.evaluate("document.activeElement.id") == "kind"
    shown.locator("#failures > li:visible summary").focus()
    shown.keyboard.press("Enter")
    assert shown.locator("#failures > li:visible pre").inner_text().strip() == TRACEBACK.strip()


def test_failures_retries_and_kills_have_marks(browse, trouble):
    shown = browse(page(trouble[0]))
    counts = {kind: shown.locator(f".lane .mark.{kind}").count() for kind in ("failed", "retried", "killed")}
    assert counts == {"failed": 3, "retried": 6, "killed": 4}


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_serious_fault(browse, trouble, scheme):
    assert serious(browse(page(trouble[0]), scheme=scheme)) == []


def test_axe_finds_no_serious_fault_where_the_timeline_scrolls(browse):
    assert serious(browse(page(many(3000)))) == []


def test_axe_finds_no_serious_fault_on_a_phone(browse, trouble):
    assert serious(browse(page(trouble[0]), width=360)) == []


def test_a_phone_needs_no_sideways_scrolling(browse, trouble):
    shown = browse(page(trouble[0]), width=360)
    assert shown.evaluate("document.documentElement.scrollWidth") <= 360


def test_in_a_sandboxed_frame_without_origin_the_page_works(browse, trouble):
    shown = browse(f"<!doctype html><title>viewer</title>{Report(trouble[0])._repr_html_()}")
    frame = shown.frame_locator("iframe")
    frame.get_by_role("textbox", name="Shard").fill("2")
    assert frame.locator("#rows .row:visible").count() == 2
    assert browse.said == []
    assert browse.outside == []


HOSTILE = (
    """</script></style><img src=x onerror="alert('item')"><script>alert(1)</script>"><svg onload=alert(2)>"""
)


def test_hostile_text_stays_text(browse):
    texts, _ = troubled()
    failure = Failure(0, FailureKind.EXCEPTION, HOSTILE, HOSTILE, traceback=HOSTILE * 3)
    hostile = texts[0].replace(b"OSError: gone", json.dumps(HOSTILE)[1:-1].encode())
    story = story_of([hostile], items=60, failures=[failure], function=HOSTILE)
    shown = browse(page(story))
    shown.locator("#failures summary").first.click()
    assert HOSTILE in shown.locator("#failures pre").first.inner_text()
    assert shown.locator("h1").inner_text() == HOSTILE
    assert shown.locator("img, svg[onload], body script:not(#numbers)").count() == 1  # the page's own script
    assert shown.locator("#rows .row:visible").count() == 2
    assert browse.said == []
    assert browse.outside == []


def test_secrets_in_a_traceback_are_not_on_the_page():
    texts, _ = troubled()
    leak = "get('https://storage.googleapis.com/b/o?X-Goog-Signature=0badc0de', password='hunter2')"
    html = page(story_of(texts[:1], items=60, failures=[Failure(0, FailureKind.EXCEPTION, "E", leak, leak)]))
    assert "0badc0de" not in html
    assert "hunter2" not in html
    assert "X-Goog-Signature=[redacted]" in html


def test_100_000_tasks_take_less_than_two_megabytes_and_are_drawn(browse):
    html = page(many(100_000))
    assert len(html.encode()) < 2_000_000
    shown = browse(html)
    assert number(shown, "ended") + number(shown, "failed") == 100_000
    assert shown.locator("#rows .row").count() == 40
    assert browse.said == []


@pytest.mark.parametrize("shards", [500, 2000])
def test_very_many_shards_share_rows_and_stay_small(shards):
    html = page(many(4 * shards, shards=shards))
    assert len(html.encode()) < 2_000_000
    assert html.count('class="row"') <= 500


def test_a_sampled_job_says_so_and_keeps_exact_totals(browse):
    story = many(20_000, sampled=0.1, job_items=20_000)
    shown = browse(page(story))
    assert "A fair sample of 10 % of the tasks is shown" in shown.locator(".findings").inner_text()
    assert number(shown, "ended") + number(shown, "failed") == 20_000
    useful = float(shown.locator(".lost[data-part=useful]").get_attribute("value"))
    written = sum(one.seconds for log in story.runs for one in log.attempts if one.name == "task.ended")
    assert useful == pytest.approx(10 * written, rel=0.1)


def test_the_parts_of_the_page_are_reached_from_its_head_also_in_a_sandboxed_frame(browse, trouble):
    shown = browse(f"<!doctype html><title>viewer</title>{Report(trouble[0])._repr_html_()}")
    frame = shown.frame_locator("iframe")
    frame.get_by_role("link", name="Environment").click()
    place = frame.locator("#about").evaluate("place => place.getBoundingClientRect().top")
    assert 0 <= place < 900
    assert shown.frames[1].evaluate("document.activeElement.id") == "about"
    assert frame.locator("h1").inner_text() == "score"
    links = shown.frames[1].evaluate("[...document.querySelectorAll('nav a')].map(one => one.hash.slice(1))")
    assert all(shown.frames[1].evaluate(f"document.getElementById('{one}') !== null") for one in links)
    assert browse.said == []
    assert browse.outside == []


def test_commands_have_the_job_and_are_copied_in_a_page_and_in_a_sandboxed_frame(browse, tmp_path):
    job = runwide.scatter(lambda x: 1 / x, [0, 1], store=str(tmp_path / "store"), shards=1)
    runwide.shard(job, 0, workers=1)
    found = report(job)
    shown = browse(found.html())
    command = shown.locator(".command").first
    assert command.locator("code").inner_text() == f"runwide replay '{job}' 0 --pdb"
    command.get_by_role("button", name="Copy").click()
    assert command.locator("button").inner_text() == "Copied"
    assert shown.evaluate("getSelection().toString()") == f"runwide replay '{job}' 0 --pdb"
    frame = browse(f"<!doctype html><title>viewer</title>{found._repr_html_()}").frame_locator("iframe")
    frame.get_by_role("button", name="Copy").first.click()
    assert frame.locator(".command button").first.inner_text() == "Copied"
    assert browse.said == []


def test_the_tiles_repeat_no_number_of_the_headline(browse, trouble):
    shown = browse(page(trouble[0]))
    headline = shown.locator(".verdict data").evaluate_all("all => all.map(one => one.id)")
    assert headline == ["n-ended", "n-wall", "n-failed"]
    assert not {*headline} & {*shown.locator(".tile data").evaluate_all("all => all.map(one => one.id)")}
    assert shown.locator(".findings .error").count() == 2
    assert "bad" not in shown.locator(".findings").inner_text()


def test_marks_of_the_legend_and_of_the_timeline_look_alike(browse, trouble):
    shown = browse(page(trouble[0]))
    look = "one => [getComputedStyle(one).color, getComputedStyle(one).backgroundColor, one.textContent]"
    for kind in ("failed", "retried", "killed"):
        legend, lane = (
            shown.locator(f"{place} .mark.{kind}").first.evaluate(look) for place in (".legend", ".lane")
        )
        assert legend == lane


def test_the_histogram_has_the_number_of_tasks_on_each_bar(browse, trouble):
    story, lines = trouble
    shown = browse(page(story))
    counts = [int(text or 0) for text in shown.locator(".bars .number").all_inner_texts()]
    assert sum(counts) == sum(line["name"] == "task.ended" for line in lines)
    assert shown.locator("#data-times td:nth-child(2)").all_text_contents() == [
        str(count) for count in counts
    ]


@pytest.mark.parametrize("width", [1200, 360])
def test_the_legend_of_a_chart_is_clear_of_its_highest_value_and_alike_to_its_lines(browse, trouble, width):
    shown = browse(page(trouble[0]), width=width)
    for id_ in ("cores", "memory"):
        chart = shown.locator(f"section[aria-labelledby={id_}]")
        top = chart.locator(".top").bounding_box()
        for key in chart.locator(".legend span").all():
            assert key.bounding_box()["y"] + key.bounding_box()["height"] <= top["y"]
        limit = chart.locator(".key.limit").evaluate("one => getComputedStyle(one).backgroundImage")
        assert "repeating" in limit  # dashed, as the line is
        assert chart.locator("path.limit").evaluate("one => getComputedStyle(one).strokeDasharray") != "none"


def test_failures_that_differ_in_a_number_are_counted_together_with_an_example(browse, tmp_path):
    def use(number):
        raise ValueError(f"cannot use {number}")

    job = runwide.scatter(use, [7, 57, 8], store=str(tmp_path / "store"), shards=1)
    runwide.shard(job, 0, workers=1)
    shown = browse(report(job).html())
    assert shown.locator(".alike li").all_inner_texts() == [
        "3 \N{MULTIPLICATION SIGN} for example: ValueError: cannot use 7"
    ]
    assert "MODULE:FUNCTION" not in shown.content()


def test_a_change_of_less_than_a_percent_is_none():
    now, before = (replace(figures.of(Story("a", "f", 1, 1, 1, ())), wall=wall) for wall in (9.96, 10.0))
    assert _compared(now, before)[0][-1] == "none"
    assert _compared(replace(now, wall=8.0), before)[0][-1] == "-20 %"


def test_a_table_that_is_wider_than_a_phone_scrolls_and_says_so(browse, trouble):
    shown = browse(page(trouble[0]), width=360)
    table = shown.locator(".scroll", has=shown.locator("#shards"))
    hint = "one => getComputedStyle(one, '::before').content"
    assert "Scroll sideways" in table.evaluate(hint)
    assert all(cell.is_visible() for cell in table.locator("th").all())
    table.evaluate("one => { one.scrollLeft = one.scrollWidth }")
    assert table.locator("th").last.evaluate("one => one.getBoundingClientRect().right") <= 360
    assert "Scroll" not in browse(page(trouble[0])).locator(".scroll").first.evaluate(hint)


def test_a_page_has_no_section_without_content(browse):
    shown = browse(page(many(200, shards=2)))
    for absent in ("memory", "store", "compared"):
        assert shown.locator(f"#{absent}").count() == 0
    empty = browse(page(Story("empty", "f", 0, 1, 0, ())))
    assert empty.locator("h2").all_inner_texts() == ["Findings", "Environment"]
    assert browse.said == []
