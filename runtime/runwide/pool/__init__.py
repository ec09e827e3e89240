"""Run tasks on the cores of this container, each worker its own failure domain.

Names are loaded on first use: a worker process imports this package too, and starts faster so.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from runwide import lazy, systems

if TYPE_CHECKING:
    from runwide.pool.compat import Pool
    from runwide.pool.executor import Executor
    from runwide.pool.mapping import (
        amap,
        map,
        outcomes,
        stream,
    )
    from runwide.pool.warm import shutdown

_HOME = {
    "Executor": "runwide.pool.executor",
    "Pool": "runwide.pool.compat",
    "amap": "runwide.pool.mapping",
    "map": "runwide.pool.mapping",
    "outcomes": "runwide.pool.mapping",
    "shutdown": "runwide.pool.warm",
    "stream": "runwide.pool.mapping",
}

__all__ = [
    "Executor",
    "Pool",
    "amap",
    "map",
    "outcomes",
    "shutdown",
    "stream",
]


def __getattr__(name: str) -> Any:
    if not name.startswith("__"):
        # Here, since an import of what needs fork or fcntl would say that this package lacks the name.
        systems.refuse("runwide runs tasks", hint="use WSL, or a container of runwide's image")
    return lazy.found(__name__, _HOME, name)
