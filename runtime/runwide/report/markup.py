"""What pages are made of: text that stays text, tables, and a policy that lets nothing but the page itself in."""

from __future__ import annotations

import base64
import hashlib
import json
from functools import cache
from html import escape
from importlib.resources import files
from string import Template
from typing import TYPE_CHECKING, Any

from runwide import __version__
from runwide.redaction import redacted

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from runwide.report.findings import Finding


@cache
def asset(package: str, name: str) -> str:
    """A file of the folder ``assets`` of a package."""
    return files(package).joinpath("assets").joinpath(name).read_text(encoding="utf-8")


def text(value: object) -> str:
    """Text as markup that shows it: secrets removed, everything escaped.

    Example:
        >>> text("<b> password=hunter2")
        '&lt;b&gt; password=[redacted]'
    """
    return escape(redacted(str(value)), quote=True)


def as_json(value: Any) -> str:
    """JSON that cannot end the element that it stands in."""
    written = json.dumps(value, allow_nan=False)
    return written.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def filled(template: str, *, style: str, script: str, parts: Mapping[str, str]) -> str:
    """A page from its template, in which this script may run and no other.

    Args:
        template: What comes after the head, with ``$script``, ``$version``, and the parts.
        style: The style sheet.
        script: The script.
        parts: What else is put in, as markup; ``title`` among them.
    """
    script = asset("runwide.report", "links.js") + script
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    own = {"style": style, "script": script, "digest": digest, "version": text(__version__)}
    return Template(asset("runwide.report", "head.html") + template).substitute({**own, **parts})


def tiles(found: Iterable[tuple[str, str, str, float]]) -> str:
    """The few numbers at the top of a page.

    Args:
        found: Of each its name, how it is shown, what it is, and its value.
    """
    return "".join(
        f'<div class="tile {name}"><dt>{text(label)}</dt>'
        f'<dd><data id="n-{name}" value="{value!r}">{text(shown)}</data></dd></div>'
        for name, shown, label, value in found
    )


def findings(found: Sequence[Finding]) -> str:
    """What the numbers mean, with advice, each with its weight as a word."""
    if not found:
        return "<p>Nothing stands out.</p>"
    rows = (
        f'<li class="{one.level.value}"><strong class="level">{one.level.value}</strong> '
        f"<span>{text(one.text)}{_advice(one.advice)}</span></li>"
        for one in found
    )
    return f'<ul class="findings">{"".join(rows)}</ul>'


def _advice(advice: str) -> str:
    return f' <span class="advice">{text(advice)}</span>' if advice else ""


def table(
    columns: Sequence[tuple[str, bool]], rows: Iterable[Sequence[str]], *, name: str, label: str
) -> str:
    """A table that scrolls by itself on a narrow screen.

    Args:
        columns: Names, and whether they hold numbers.
        rows: Cells, as markup.
        name: Its id.
        label: What it is, for a screen reader.
    """
    body = "".join(f"<tr>{cells(row, columns)}</tr>" for row in rows)
    return framed(head(columns), body, name=name, label=label)


def head(columns: Sequence[tuple[str, bool]]) -> str:
    """The cells of a table's first row."""
    return "".join(
        f'<th scope="col"{" class=num" if number else ""}>{text(title)}</th>' for title, number in columns
    )


def cells(row: Sequence[str], columns: Sequence[tuple[str, bool]]) -> str:
    """The cells of a row."""
    return "".join(
        f"<td{' class=num' if number else ''}>{cell}</td>"
        for cell, (_, number) in zip(row, columns, strict=True)
    )


def framed(heading: str, body: str, *, name: str, label: str) -> str:
    """A table of rows that are markup already."""
    return (
        f'<div class="scroll" role="region" aria-label="Table: {text(label)}" tabindex="0"><table id="{name}">'
        f"<thead><tr>{heading}</tr></thead><tbody>{body}</tbody></table></div>"
    )
