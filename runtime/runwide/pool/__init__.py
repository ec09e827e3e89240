"""Run tasks on the cores of this container, each worker its own failure domain.

Names are loaded on first use: a worker process imports this package too, and starts faster so.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from runwide import lazy

if TYPE_CHECKING:
    from runwide.pool.base import function_pickle
    from runwide.pool.compat import Pool
    from runwide.pool.executor import Executor
    from runwide.pool.mapping import (
        amap,
        function_bytes,
        imap,
        imap_unordered,
        map,
        outcomes,
        raise_or_return,
    )
    from runwide.pool.sinks import keep_finished
    from runwide.pool.warm import shutdown

_HOME = {
    "Executor": "runwide.pool.executor",
    "Pool": "runwide.pool.compat",
    "amap": "runwide.pool.mapping",
    "function_bytes": "runwide.pool.mapping",
    "function_pickle": "runwide.pool.base",
    "imap": "runwide.pool.mapping",
    "imap_unordered": "runwide.pool.mapping",
    "keep_finished": "runwide.pool.sinks",
    "map": "runwide.pool.mapping",
    "outcomes": "runwide.pool.mapping",
    "raise_or_return": "runwide.pool.mapping",
    "shutdown": "runwide.pool.warm",
}

__all__ = [
    "Executor",
    "Pool",
    "amap",
    "function_bytes",
    "function_pickle",
    "imap",
    "imap_unordered",
    "keep_finished",
    "map",
    "outcomes",
    "raise_or_return",
    "shutdown",
]


def __getattr__(name: str) -> Any:
    if sys.platform == "win32" and not name.startswith("__"):
        # Here, since an import of what needs fork or fcntl would say that this package lacks the name.
        from runwide.errors import SystemNotSupported

        raise SystemNotSupported(
            "runwide runs tasks on Linux and on macOS, and not on Windows",
            hint="use WSL, or a container of runwide's image",
        )
    return lazy.found(__name__, _HOME, name)
