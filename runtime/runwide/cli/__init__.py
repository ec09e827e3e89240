"""The ``runwide`` command: each command in its own module, loaded when it is called.

Nothing is imported here, so that the command of a component can have its worker start before it loads what itself needs.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from runwide.cli.commands import cli as cli  # as type checkers want it of what is passed on


def main(args: list[str] | None = None) -> None:
    """Run the command line; errors of ours are one line on standard error and a non-zero exit.

    Exit codes: 0 done, 1 failed, 2 the call was wrong, 130 interrupted by Ctrl-C, 143 stopped by SIGTERM.
    """
    words = sys.argv[1:] if args is None else args
    if words[:1] == ["shard"]:
        from runwide.cli import shard

        call = shard.read(words[1:])
        if call is not None:
            _run_shard(call)
            return
    from runwide.cli.commands import run

    run(words)


def _run_shard(call: Mapping[str, Any]) -> None:
    """Run a shard with an interpreter that waits for its first worker, and loads what that needs meanwhile."""
    from runwide.pool import spare

    with spare.started(("runwide.pool.pickling", "runwide.pool.worker", "runwide.job.task")):
        from runwide.cli.ends import coded
        from runwide.cli.shard import run
        from runwide.log import take_over_logging

        with coded():
            take_over_logging()
            run(**call)


def __getattr__(name: str) -> Any:
    if name != "cli":
        raise AttributeError(f"module 'runwide.cli' has no attribute {name!r}")
    from runwide.cli.commands import cli

    return cli
