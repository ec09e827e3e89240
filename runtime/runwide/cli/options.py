"""Options that several commands have."""

from __future__ import annotations

import click

workers = click.option(
    "--workers", type=click.IntRange(1), help="Worker processes; one per physical core when not given."
)
timeout = click.option("--timeout", type=float, help="Seconds that one attempt at one item may take.")
retries = click.option(
    "--retries", type=click.IntRange(0), default=0, help="Further attempts after an exception."
)
