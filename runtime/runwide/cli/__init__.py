"""The ``runwide`` command: each command in its own module, loaded when it is called.

Nothing is imported here, so that the command of a component loads only what it needs.
"""

from __future__ import annotations

import sys
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from contextlib import AbstractContextManager

    from runwide.cli.commands import cli as cli  # as type checkers want it of what is passed on

_OF_BOTH = ("runwide.job.task", "runwide.pool.worker")
"""What a shard and its workers need, and what that imports."""


def program(args: list[str] | None = None, *, once_forked: Callable[[], None] | None = None) -> None:
    """The program ``runwide``: as `main`, but a shard's first worker is a fork of it.

    Called once by what has nothing else under way: this returns in the worker as well, at its end.

    Args:
        args: The words of the command; None for those of this process.
        once_forked: Called by the command itself and not by that worker, for what a fork must not meet: threads.
    """
    words = sys.argv[1:] if args is None else args
    call = _shard_call(words)
    with nullcontext(False) if call is None else _worker_forked(call) as is_worker:
        if not is_worker:
            if once_forked is not None:
                once_forked()
            _run(words, call)


def main(args: list[str] | None = None) -> None:
    """Run the command line; errors of ours are one line on standard error and a non-zero exit.

    Exit codes: 0 done, 1 failed, 2 the call was wrong, 130 interrupted by Ctrl-C, 143 stopped by SIGTERM.
    """
    words = sys.argv[1:] if args is None else args
    _run(words, _shard_call(words))


def _run(words: list[str], call: Mapping[str, Any] | None) -> None:
    """Run a shard, where the words are those of a component, or what else they say."""
    if call is not None:
        _run_shard(call)
        return
    from runwide.cli.commands import run

    run(words)


def _shard_call(words: Sequence[str]) -> dict[str, Any] | None:
    """How to run a shard, where that is asked for in the words of a component."""
    if words[:1] != ["shard"]:
        return None
    from runwide.cli import shard

    return shard.read(words[1:])


def _worker_forked(call: Mapping[str, Any]) -> AbstractContextManager[bool]:
    from functools import partial

    from runwide.pool import machine, spare

    return spare.forked(_OF_BOTH, partial(machine.find, call.get("workers")))


def _run_shard(call: Mapping[str, Any]) -> None:
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
