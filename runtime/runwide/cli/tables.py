"""Tables on standard output: as wide as the terminal, or wide enough for a log."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

_LOG_WIDTH = 160


def console() -> Console:
    """Return a console on standard output."""
    from rich.console import Console

    return Console(highlight=False, width=None if sys.stdout.isatty() else _LOG_WIDTH)


def plain_table(*columns: str, header: bool = True) -> Table:
    """Return a table without lines."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="dim", show_header=header)
    for name in columns:
        table.add_column(name, overflow="fold")
    return table
