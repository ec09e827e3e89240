"""Run tasks on the cores of this container. If a worker dies, only its own task fails.

Names are loaded on first use, so that worker processes, which import this package too, start faster.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from runwide import lazy, systems

if TYPE_CHECKING:
    from runwide.pool.executor import Executor
    from runwide.pool.mapping import outcomes, stream
    from runwide.pool.warm import shutdown

_HOME = {
    "Executor": "runwide.pool.executor",
    "outcomes": "runwide.pool.mapping",
    "shutdown": "runwide.pool.warm",
    "stream": "runwide.pool.mapping",
}

__all__ = [
    "Executor",
    "outcomes",
    "shutdown",
    "stream",
]


def __getattr__(name: str) -> Any:
    if not name.startswith("__"):
        # Checked here: modules that need fork or fcntl would fail to import, with an error about this name.
        systems.refuse("runwide runs tasks", hint="use WSL, or a container of runwide's image")
    return lazy.found(__name__, _HOME, name)
