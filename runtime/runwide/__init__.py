"""Write a function once; run it on the real cores of one component, then on many, then on many pipelines.

The names below are the public interface of the runtime. Each is loaded on first use, so that ``import runwide`` is fast in a
component that needs only one of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from runwide import lazy
from runwide import origin as origin  # before the program changes its directory

__version__ = "0.1.0"

if TYPE_CHECKING:
    from runwide._report.public import Recording, report
    from runwide.api.awaited import aimap, amap
    from runwide.api.maps import imap, imap_unordered, map, starmap
    from runwide.api.pools import Executor, Pool
    from runwide.api.stored_pool import register_joblib
    from runwide.errors import RunwideError
    from runwide.host.cores import Cores, cores
    from runwide.job._gather import gather, load
    from runwide.job._replay import replay
    from runwide.job._scatter import scatter
    from runwide.job._shard import shard
    from runwide.job.attach import attach
    from runwide.job.exchange import Exchange
    from runwide.job.finishing import rerun
    from runwide.job.housekeeping import status
    from runwide.pool import shutdown
    from runwide.records import Failure, Results
    from runwide.store.file import File

_HOME = {
    "Cores": "runwide.host",
    "Exchange": "runwide.job.exchange",
    "Executor": "runwide.api.pools",
    "Failure": "runwide.records",
    "File": "runwide.store.file",
    "Pool": "runwide.api.pools",
    "Recording": "runwide._report",
    "Results": "runwide.records",
    "RunwideError": "runwide.errors",
    "aimap": "runwide.api.awaited",
    "amap": "runwide.api.awaited",
    "attach": "runwide.job.attach",
    "cores": "runwide.host",
    "gather": "runwide.job",
    "imap": "runwide.api.maps",
    "imap_unordered": "runwide.api.maps",
    "load": "runwide.job",
    "map": "runwide.api.maps",
    "register_joblib": "runwide.api.stored_pool",
    "replay": "runwide.job",
    "report": "runwide._report",
    "rerun": "runwide.job",
    "scatter": "runwide.job",
    "shard": "runwide.job",
    "shutdown": "runwide.pool",
    "starmap": "runwide.api.maps",
    "status": "runwide.job",
}

__all__ = [
    "Cores",
    "Exchange",
    "Executor",
    "Failure",
    "File",
    "Pool",
    "Recording",
    "Results",
    "RunwideError",
    "aimap",
    "amap",
    "attach",
    "cores",
    "gather",
    "imap",
    "imap_unordered",
    "load",
    "map",
    "register_joblib",
    "replay",
    "report",
    "rerun",
    "scatter",
    "shard",
    "shutdown",
    "starmap",
    "status",
]


def __getattr__(name: str) -> Any:
    return lazy.found(__name__, _HOME, name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
