"""Ask at Ctrl-C whether runs on an engine should be cancelled."""

from __future__ import annotations

import sys

import click


def wants_to_cancel(what: str) -> bool:
    """Ask the user whether to cancel runs, and return the answer.

    A second Ctrl-C means yes. Without a terminal the answer is yes too, so that runs do not cost more without a client.

    Args:
        what: Description of the runs, such as ``the 3 active runs``.
    """
    if not (sys.stdin and sys.stdin.isatty()):
        return True
    try:
        return click.confirm(f"Cancel {what}? If not, they continue", default=True, err=True)
    except (KeyboardInterrupt, click.Abort):
        return True
