"""Log lines: loggers of ``logging`` below ``runwide``, rendered by structlog, as JSON for a collector or as short text.

Example:
    >>> import logging, runwide.log
    >>> runwide.log.configure(level="warning", levels={"runwide.pool": "debug"})
    >>> logging.getLogger("runwide.pool").isEnabledFor(logging.DEBUG)
    True
    >>> logging.getLogger("runwide.pool").setLevel(logging.NOTSET)
    >>> runwide.log.configure()
"""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

from runwide.log.handler import (
    become_worker,
    configuration,
    configure,
    for_workers,
    is_collected,
    items_always_named,
    names_items,
    take_over_logging,
)
from runwide.log.lines import Log, held, release
from runwide.log.state import Configuration, bound, fields, set_fields, set_task
from runwide.redaction import redacted, redacted_json
from runwide.streams import follow_cells, is_watched

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "Configuration",
    "Log",
    "become_worker",
    "bound",
    "configuration",
    "configure",
    "fields",
    "follow_cells",
    "for_workers",
    "held",
    "is_collected",
    "is_watched",
    "items_always_named",
    "names_items",
    "print_line",
    "release",
    "set_fields",
    "set_task",
    "take_over_logging",
]


def print_line(
    text: str,
    *,
    severity: str,
    known: Mapping[str, Any] | None = None,
    hidden: str | None = None,
    came: float | None = None,
) -> str:
    r"""Return a printed line as JSON for a log collector, with its end; a line that is JSON already stays unchanged.

    The text is empty for an empty line, or if a processor of the user's drops the line.

    Args:
        severity: ``INFO`` for standard output, ``WARNING`` for standard error.
        hidden: The line without its secrets, if these go over several lines.
        came: The time of the line, in Unix seconds; None for now.

    Example:
        >>> json.loads(print_line("hello", severity="INFO", known={"item": 3}))["logging.googleapis.com/labels"]
        {'item': '3'}
        >>> print_line('{"message": "mine"}', severity="INFO")
        '{"message": "mine"}\n'
    """
    text = text.rstrip("\r")
    if text.startswith("{") and text.endswith("}") and (as_it_is := redacted_json(text)) is not None:
        return as_it_is + "\n"
    if not text:
        return ""
    shown = text if hidden is None or text.startswith("{") else hidden
    try:
        from runwide.log import chain  # it takes a tenth of a second to load

        event = {
            **(known or {}),
            "event": shown,
            "timestamp": chain.iso(time.time() if came is None else came),
        }
        line = chain.printed(event, severity, configuration().processors)
    except Exception:  # the installation is not complete; write a line nevertheless
        line = json.dumps({"message": redacted(shown), "severity": severity})
    return "" if line is None else line + "\n"
