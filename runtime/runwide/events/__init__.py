"""Events of tasks, runs and stores: recorded, measured, written as lines of JSON, and read back.

Nothing here imports the pool or jobs: they make events and pass them on.
"""

from runwide.events.model import TaskBatch, TaskEvent

__all__ = ["TaskBatch", "TaskEvent"]
