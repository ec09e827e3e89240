"""The modules of Google's client libraries, imported on first use."""

from __future__ import annotations

import warnings
from functools import cache
from importlib import import_module
from typing import Any

# Statuses of answers to requests that may succeed a little later.
TRANSIENT_CODES = frozenset({408, 429, 500, 502, 503, 504})


@cache
def module(name: str) -> Any:
    """Import a module of the client; all of them together take some tenths of a second and 20 MiB.

    Google's libraries warn about every Python version that is soon no longer supported; the user of a component cannot
    change it.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"(?s)\s*You are using a .*Python", FutureWarning)
        return import_module(name)


def exceptions() -> Any:
    """Return the module of the exceptions of Google's API clients."""
    return module("google.api_core.exceptions")
