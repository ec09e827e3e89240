"""Output that a person watches, on a terminal or in a notebook."""

from __future__ import annotations

import sys
import threading
from contextlib import suppress
from typing import Any

from runwide import writing


def is_watched(stream: Any = None) -> bool:
    """Return whether a person sees this program's output at once, on a terminal or in a notebook.

    Args:
        stream: Standard output or error; None for standard error.
    """
    stream = sys.stderr if stream is None else stream
    return writing.is_terminal(stream) or _in_notebook(stream)


def _in_notebook(stream: Any) -> bool:
    """Return whether a stream goes to a notebook; other programs load ipykernel too, and notebooks run in pods."""
    return type(stream).__module__.startswith("ipykernel.")


def follow_cells() -> None:
    """Send this thread's output to the notebook's running cell, instead of the cell that started the thread."""
    here = threading.get_ident()
    for stream in (sys.stdout, sys.stderr):
        for known in (
            "_thread_to_parent",
            "_thread_to_parent_header",
        ):  # of ipykernel 6, which has no public way
            with suppress(Exception):
                getattr(stream, known).pop(here, None)
