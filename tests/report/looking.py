"""Look at a page in the browser."""

from __future__ import annotations


def number(shown, name):
    """Return a number of a page."""
    return float(shown.locator(f"#n-{name}").get_attribute("value"))


def serious(shown):
    """Return the findings of axe that are not minor."""
    from axe_playwright_python.sync_playwright import Axe

    found = Axe().run(shown).response["violations"]
    return [
        (one["id"], [node["target"] for node in one["nodes"]]) for one in found if one["impact"] != "minor"
    ]
