"""One map over many components: spill it, run its shards anywhere, read its results back.

Unlike other rooms, this one loads its modules at once: ``gather``, ``scatter`` and ``shard`` are modules and functions, and
the functions must be bound after the modules. None of them loads a store's client or the pool.
"""

from __future__ import annotations

from runwide.job.begin import begun
from runwide.job.checkpoint import Checkpoint
from runwide.job.gather import failures, finish, gather, load
from runwide.job.housekeeping import Status, clean, clean_older, older, status
from runwide.job.reference import short_reference
from runwide.job.replay import replay
from runwide.job.scatter import scatter, scatter_pickled
from runwide.job.shard import close, close_unfinished, rerun, shard

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
    "load",
    "older",
    "replay",
    "rerun",
    "scatter",
    "scatter_pickled",
    "shard",
    "short_reference",
    "status",
]
