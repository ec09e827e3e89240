"""The ``runwide`` command: each command in its own module, loaded when it is called."""

from __future__ import annotations

from runwide.cli.commands import cli, main

__all__ = ["cli", "main"]
