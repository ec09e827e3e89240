"""Tell whether this system runs tasks, and refuse what would where it does not."""

from __future__ import annotations

import os
import sys


def run_tasks() -> bool:
    """Return whether tasks can run on this system.

    Example:
        >>> run_tasks()
        True
    """
    return sys.platform != "win32" and hasattr(os, "fork")


def refuse(what: str, hint: str) -> None:
    """Raise an error where tasks cannot run.

    Args:
        what: What would run them, and how, such as ``"Local runs steps"``.
        hint: What to do instead.

    Raises:
        SystemNotSupported: They cannot.

    Example:
        >>> refuse("runwide runs tasks", hint="use WSL")
    """
    if run_tasks():
        return
    from runwide.errors import SystemNotSupported

    here = "Windows" if sys.platform == "win32" else f"this system, {sys.platform}"
    raise SystemNotSupported(f"{what} on Linux and on macOS, and not on {here}", hint=hint)
