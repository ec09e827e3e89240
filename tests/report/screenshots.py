"""Make the pictures of the docs: pages of a job with many troubles, a job with few, and a batch.

python tests/report/screenshots.py docs/images        # needs chromium: .ci/browser
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

from playwright.sync_api import sync_playwright
from stories import brief, forecasts, story_of, troubled

from conftest import opened
from runwide._report.page import page
from runwide_components import Batch

JOB = f"gs://bucket/runs/a-20261124t000000-0123456789abcdef/job.json#sha256={'0a1b2c3d' * 8}"
PICTURES = {
    "report-light": {"width": 1100, "height": 1500, "scheme": "light"},
    "report-dark": {"width": 1100, "height": 1500, "scheme": "dark"},
    "report-phone": {"width": 360, "height": 1400, "scheme": "light"},
    "brief-light": {"width": 1100, "height": 910, "scheme": "light"},
    "batch-light": {"width": 1100, "height": 1080, "scheme": "light"},
}


def main() -> None:
    """Take the pictures."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    texts, failures = troubled()
    few, failed = brief()
    last = story_of(texts[:5], items=300, failures=failures)
    inputs = dict.fromkeys((20, 140, 260), "{'amount': 12.5, 'count': 0}")
    known = {"reference": JOB, "name": "scores", "previous": last, "inputs": inputs}
    runs = [replace(run, pipeline="forecast") for run in forecasts()]
    pages = {
        "report": page(story_of(texts, items=360, failures=failures, **known)),
        "brief": page(story_of(few, items=120, failures=failed, function="shop:model", reference=JOB)),
        "batch": Batch(runs, uri="gs://bucket/runs/batches/weekly").page(),
    }
    with (
        tempfile.TemporaryDirectory() as scratch,
        sync_playwright() as playwright,
        opened(playwright, shutil.which("chromium"), Path(scratch, "profile")) as context,
    ):
        for name, wanted in PICTURES.items():
            path = Path(scratch, f"{name}.html")
            path.write_text(pages[name.partition("-")[0]], encoding="utf-8")
            shown = context.new_page()
            shown.set_viewport_size({"width": wanted["width"], "height": wanted["height"]})
            shown.emulate_media(color_scheme=wanted["scheme"])
            shown.goto(path.as_uri())
            shown.screenshot(path=folder / f"{name}.png")


if __name__ == "__main__":
    main()
