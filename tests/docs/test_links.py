"""Links between pages are valid, and README links to every page."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    path.relative_to(ROOT).as_posix()
    for path in [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("docker/*.md")]
)
LINK = re.compile(r"\]\((?!\w+:)([^)#\s]*)(?:#([^)\s]+))?\)")
FENCED = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)


def links(page: str) -> list[tuple[Path, str]]:
    """Files that a page links to, and the anchors there."""
    text = FENCED.sub("", (ROOT / page).read_text(encoding="utf-8"))
    here = ROOT / page
    return [((here.parent / file).resolve() if file else here, anchor) for file, anchor in LINK.findall(text)]


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as code hosts make them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES)
def test_links_of_a_page_lead_to_existing_files_and_headings(page):
    lost = [
        f"{file.relative_to(ROOT)}#{anchor}"
        for file, anchor in links(page)
        if not file.exists() or (anchor and anchor not in anchors(file))
    ]
    assert not lost


def test_readme_leads_to_every_page_and_every_example():
    wanted = {ROOT / page for page in PAGES if page != "README.md"} | set(
        ROOT.glob("components/examples/*.py")
    )
    assert wanted <= {file for file, _ in links("README.md")}


def test_readme_is_short_and_its_pictures_are_small():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert text[: text.index("## Read on")].count("\n") <= 90
    pictures = re.findall(r"!\[[^]]+\]\(([^)]+)\)", text)
    assert pictures
    assert all((ROOT / picture).stat().st_size < 150_000 for picture in pictures)
