"""What Ctrl-C means while something runs elsewhere: it asks where somebody can answer."""

from __future__ import annotations

import sys

import click


def wants_to_cancel(what: str) -> bool:
    """Whether what runs elsewhere should be stopped.

    On a terminal the user is asked, and a second Ctrl-C means yes. Elsewhere there is nobody to ask, and yes is the answer
    that costs nothing more.

    Args:
        what: What would be stopped, such as ``3 runs``.
    """
    if not (sys.stdin and sys.stdin.isatty()):
        return True
    try:
        return click.confirm(f"Cancel {what}? If not, it goes on where it runs", default=True, err=True)
    except (KeyboardInterrupt, click.Abort):
        return True
