"""Render self-contained HTML pages from Jinja2 templates."""

from __future__ import annotations

import base64
import hashlib
import re
from functools import cache
from typing import TYPE_CHECKING, Any

from runwide import __version__, words
from runwide.redaction import redacted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jinja2 import Environment
    from markupsafe import Markup

_PACKAGE = "runwide._report"


def render(
    template: str,
    *,
    packages: Sequence[str] = (),
    styles: Sequence[str] = (),
    scripts: Sequence[str] = (),
    **values: Any,
) -> str:
    """Return a page; its security policy allows its own script only, and no request.

    Every text in a page is escaped, and secrets in it are replaced.

    Args:
        packages: Packages whose templates are found before those of the report.
        styles: Names of style sheets that follow the common one.
        scripts: Names of scripts that follow the common one.
    """
    environment = _environment((*packages, _PACKAGE))
    script = _joined(environment, ("base.js", *scripts))
    return environment.get_template(template).render(
        digest=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        script=script,
        style=_joined(environment, ("page.css", *styles)),
        version=__version__,
        **values,
    )


@cache
def _environment(packages: tuple[str, ...]) -> Environment:
    from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined  # slow to load

    loader = ChoiceLoader([PackageLoader(package) for package in packages])
    environment = Environment(
        loader=loader, autoescape=True, finalize=_shown, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.filters |= {
        "coded": coded, "count": words.count, "number": "{:,}".format, "seconds": words.seconds,
        "share": words.share, "size": words.size,
    }  # fmt: skip
    environment.globals["verb"] = words.verb
    return environment


def _joined(environment: Environment, names: Sequence[str]) -> Markup:
    from markupsafe import Markup

    loader = environment.loader
    assert loader is not None  # noqa: S101 - `_environment` has set it
    return Markup("\n").join(Markup(loader.get_source(environment, name)[0]) for name in names)  # noqa: S704 - ours


def _shown(value: Any) -> Any:
    """Return the value of an expression without secrets; Jinja2 escapes it afterwards."""
    return redacted(value) if type(value) is str else value  # markup has been through here


def coded(text: str) -> Markup:
    """Escape a text and mark what it has between backticks as code.

    Example:
        >>> print(coded("leave `workers=` out, if x < 2"))
        leave <code>workers=</code> out, if x &lt; 2
    """
    from markupsafe import Markup, escape

    return Markup(re.sub("`([^`]*)`", r"<code>\1</code>", str(escape(redacted(text)))))  # noqa: S704 - escaped
