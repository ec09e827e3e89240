"""Whether somebody sees what this process writes as it comes."""

from __future__ import annotations

import sys
import threading
from contextlib import suppress
from typing import Any

from runwide import writing


def is_watched(stream: Any = None) -> bool:
    """Return whether somebody sees this program's output as it comes: on a terminal, or in a notebook.

    Args:
        stream: Standard output or error; None for standard error.
    """
    stream = sys.stderr if stream is None else stream
    return writing.is_terminal(stream) or _in_notebook(stream)


def _in_notebook(stream: Any) -> bool:
    """Whether a stream goes to a notebook; it may run in a pod, and programs that are none load ipykernel too."""
    return type(stream).__module__.startswith("ipykernel.")


def follow_cells() -> None:
    """Have what this thread writes go to the notebook's cell that runs then, and not for ever to the one that started it."""
    here = threading.get_ident()
    for stream in (sys.stdout, sys.stderr):
        for known in (
            "_thread_to_parent",
            "_thread_to_parent_header",
        ):  # of ipykernel 6, which tells nobody else
            with suppress(Exception):
                getattr(stream, known).pop(here, None)
