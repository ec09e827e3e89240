"""How tables are printed: as wide as the terminal, and wide enough for a log where there is none."""

from __future__ import annotations

import sys

from rich.console import Console
from rich.table import Table

_LOG_WIDTH = 160


def console() -> Console:
    """A console on standard output."""
    return Console(highlight=False, width=None if sys.stdout.isatty() else _LOG_WIDTH)


def plain_table(*columns: str, header: bool = True) -> Table:
    """A table without lines."""
    table = Table(box=None, pad_edge=False, header_style="dim", show_header=header)
    for name in columns:
        table.add_column(name, overflow="fold")
    return table
