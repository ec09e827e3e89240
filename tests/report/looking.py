"""How tests look at a page in the browser."""

from __future__ import annotations


def number(shown, name):
    """One of the numbers of a page."""
    return float(shown.locator(f"#n-{name}").get_attribute("value"))


def serious(shown):
    """What axe finds, but for the minor."""
    from axe_playwright_python.sync_playwright import Axe

    found = Axe().run(shown).response["violations"]
    return [
        (one["id"], [node["target"] for node in one["nodes"]]) for one in found if one["impact"] != "minor"
    ]
