"""Jobs: maps in a store, whose shards run in any process.

Names are loaded on first use, so that a component that runs a shard does not load the modules that scatter and gather.

In these modules, ``store`` is a store that was opened at the job's folder, so names of objects are those in the job; where
the user gives it, it is the URI of the store of the jobs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from runwide import lazy

if TYPE_CHECKING:
    from runwide.job._gather import failures, finish, gather, load
    from runwide.job._replay import replay
    from runwide.job._scatter import scatter, scatter_pickled
    from runwide.job._shard import shard
    from runwide.job.checkpoint import Checkpoint
    from runwide.job.finishing import close, close_unfinished, rerun
    from runwide.job.housekeeping import Status, clean, clean_older, older, status
    from runwide.job.lookup import reference_of
    from runwide.job.named_jobs import scatter_or_find
    from runwide.job.reference import short_reference
    from runwide.job.take_over import keep

_HOME = {
    "Checkpoint": "runwide.job.checkpoint",
    "Status": "runwide.job.housekeeping",
    "clean": "runwide.job.housekeeping",
    "clean_older": "runwide.job.housekeeping",
    "close": "runwide.job.finishing",
    "close_unfinished": "runwide.job.finishing",
    "failures": "runwide.job._gather",
    "finish": "runwide.job._gather",
    "gather": "runwide.job._gather",
    "keep": "runwide.job.take_over",
    "load": "runwide.job._gather",
    "older": "runwide.job.housekeeping",
    "reference_of": "runwide.job.lookup",
    "replay": "runwide.job._replay",
    "rerun": "runwide.job.finishing",
    "scatter": "runwide.job._scatter",
    "scatter_or_find": "runwide.job.named_jobs",
    "scatter_pickled": "runwide.job._scatter",
    "shard": "runwide.job._shard",
    "short_reference": "runwide.job.reference",
    "status": "runwide.job.housekeeping",
}

__all__ = [
    "Checkpoint",
    "Status",
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
    "scatter_or_find",
    "scatter_pickled",
    "shard",
    "short_reference",
    "status",
]


def __getattr__(name: str) -> Any:
    return lazy.found(__name__, _HOME, name)
