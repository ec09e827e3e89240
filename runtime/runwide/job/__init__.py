"""One map over many components: spill it, run its shards anywhere, read its results back.

Names are loaded on first use: a component that runs a shard does not wait for what scatters and gathers.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

from runwide import lazy

if TYPE_CHECKING:
    from runwide.job.begin import begun
    from runwide.job.checkpoint import Checkpoint
    from runwide.job.closing import close, close_unfinished
    from runwide.job.found import reference_of
    from runwide.job.gather import failures, finish, gather, load
    from runwide.job.housekeeping import Status, clean, clean_older, older, status
    from runwide.job.known import keep
    from runwide.job.reference import short_reference
    from runwide.job.replay import replay
    from runwide.job.rerun import rerun
    from runwide.job.scatter import scatter, scatter_pickled
    from runwide.job.shard import shard

_HOME = {
    "Checkpoint": "runwide.job.checkpoint",
    "Status": "runwide.job.housekeeping",
    "begun": "runwide.job.begin",
    "clean": "runwide.job.housekeeping",
    "clean_older": "runwide.job.housekeeping",
    "close": "runwide.job.closing",
    "close_unfinished": "runwide.job.closing",
    "failures": "runwide.job.gather",
    "finish": "runwide.job.gather",
    "gather": "runwide.job.gather",
    "keep": "runwide.job.known",
    "load": "runwide.job.gather",
    "older": "runwide.job.housekeeping",
    "reference_of": "runwide.job.found",
    "replay": "runwide.job.replay",
    "rerun": "runwide.job.rerun",
    "scatter": "runwide.job.scatter",
    "scatter_pickled": "runwide.job.scatter",
    "shard": "runwide.job.shard",
    "short_reference": "runwide.job.reference",
    "status": "runwide.job.housekeeping",
}

__all__ = [
    "Checkpoint",
    "Status",
    "begun",
    "clean",
    "clean_older",
    "close",
    "close_unfinished",
    "failures",
    "finish",
    "gather",
    "keep",
    "load",
    "older",
    "reference_of",
    "replay",
    "rerun",
    "scatter",
    "scatter_pickled",
    "shard",
    "short_reference",
    "status",
]


class _Room(ModuleType):
    """A package some of whose modules have the name of a function in them: the name is the function's."""

    def __setattr__(self, name: str, value: Any) -> None:
        # what the import system does once it has loaded a module of this package
        if not (name in _HOME and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


def __getattr__(name: str) -> Any:
    return lazy.found(__name__, _HOME, name)


sys.modules[__name__].__class__ = _Room
