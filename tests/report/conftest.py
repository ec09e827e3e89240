"""A real browser for pages: Debian's Chromium, started for each test and stopped after it."""

from __future__ import annotations

import os
import shutil
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # so that tests beside this file can import the stories

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@pytest.fixture
def browse(tmp_path):
    """Open a page given as HTML; ``.said`` has the messages of the console, ``.asked`` the requested URLs."""
    chromium = shutil.which("chromium")
    if chromium is None:
        reason = "there is no chromium; .ci/browser installs it, as root"
        if os.environ.get("RUNWIDE_REQUIRE_BROWSER") == "1":
            pytest.fail(reason, pytrace=False)
        pytest.skip(reason)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright, opened(playwright, chromium, tmp_path / "profile") as context:
        yield Browser(context, tmp_path)


@contextmanager
def opened(playwright, chromium, profile):
    context = playwright.chromium.launch_persistent_context(
        profile, executable_path=chromium, args=FLAGS, viewport={"width": 1200, "height": 900}
    )
    try:
        yield context
    finally:
        context.close()


class Browser:
    def __init__(self, context, folder):
        self._context = context
        self._folder = folder
        self.said = []
        self.asked = []

    def __call__(self, html, *, width=1200, scheme="light"):
        path = self._folder / "page.html"
        path.write_text(html, encoding="utf-8")
        page = self._context.new_page()
        page.on("console", lambda message: self.said.append(message.text))
        page.on("pageerror", lambda error: self.said.append(str(error)))
        page.on("dialog", lambda dialog: (self.said.append(dialog.message), dialog.dismiss()))
        page.on("request", lambda request: self.asked.append(request.url))
        page.set_viewport_size({"width": width, "height": 800})
        page.emulate_media(color_scheme=scheme)
        page.goto(path.as_uri())
        return page

    @property
    def outside(self):
        """Requested URLs beyond the file itself."""
        return [url for url in self.asked if not url.startswith(("file://", "about:", "data:"))]
