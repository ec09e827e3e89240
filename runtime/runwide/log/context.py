"""The fields that every line carries: of this process, of a block, and of the running task."""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping


class Dropped(Exception):
    """A processor of the user's has dropped a line; it replaces ``structlog.DropEvent``, which is not an `Exception`."""


LABELS = ("job", "shard", "item", "worker", "attempt")
"""Fields that are also labels, which Logs Explorer indexes."""

_here: ContextVar[Mapping[str, Any] | None] = ContextVar("runwide-log", default=None)
_anywhere: Mapping[str, Any] = {}  # for threads that do not inherit the context
_task: Callable[[], Mapping[str, Any]] | None = None


@contextmanager
def bound(**fields: Any) -> Iterator[None]:
    """Add fields to every line of this process while the block runs.

    Lines of other threads carry the fields that were bound last.

    Args:
        **fields: Names and values.

    Example:
        >>> with bound(job="a-1", shard=3):
        ...     fields()
        {'job': 'a-1', 'shard': 3}
    """
    before = _anywhere
    token = _here.set({**(_here.get() or {}), **fields})
    set_fields({**before, **fields})
    try:
        yield
    finally:
        set_fields(before)
        _here.reset(token)


def fields() -> dict[str, Any]:
    """Return the fields of a line that this thread writes now."""
    found = {**(_here.get() or _anywhere)}
    if _task is not None:
        found |= _task()
    return found


def text(value: Any) -> str:
    """Return the text of a field, or its type if its ``__str__`` fails.

    Example:
        >>> text(3), text([])
        ('3', '[]')
    """
    try:
        return str(value)
    except Exception:
        return f"<{type(value).__name__}>"


def set_fields(known: Mapping[str, Any]) -> None:
    """Set the fields of lines outside of every block."""
    global _anywhere  # noqa: PLW0603 - a fact about this process
    _anywhere = dict(known)


def set_task(task: Callable[[], Mapping[str, Any]]) -> None:
    """Add the fields of the running task to lines.

    Args:
        task: Returns the item and the attempt, or nothing between tasks.
    """
    global _task  # noqa: PLW0603 - a fact about this process
    _task = task
