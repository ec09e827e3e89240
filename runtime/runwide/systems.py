"""The operating systems that run tasks."""

from __future__ import annotations

import os
import sys


def run_tasks() -> bool:
    """Return True if tasks can run on this system."""
    return sys.platform != "win32" and hasattr(os, "fork")


def refuse(what: str, hint: str) -> None:
    """Raise an error if tasks cannot run on this system.

    Args:
        what: Subject and verb of the message, such as ``"Local runs steps"``.
        hint: An alternative, for the message.

    Example:
        >>> refuse("runwide runs tasks", hint="use WSL")
    """
    if run_tasks():
        return
    from runwide.errors import SystemNotSupported

    here = "Windows" if sys.platform == "win32" else f"this system, {sys.platform}"
    raise SystemNotSupported(f"{what} on Linux and on macOS, and not on {here}", hint=hint)
