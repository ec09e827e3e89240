"""The configuration of log lines, and the fields that they carry."""

from __future__ import annotations

import logging
import os
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from runwide.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from structlog.typing import Processor


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


APPENDING = os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_CLOEXEC", 0)
_FORMS = ("json", "text")


@dataclass(frozen=True, slots=True)
class Configuration:
    """The checked arguments of `configure`.

    Args:
        form: ``"json"`` or ``"text"``; None to choose by the output.
        level: A number as in `logging`; None for the environment's level.
        levels: Levels of single loggers.
        pickled: The pickled processors, for workers.
        file: Path of the file; None for standard error.
        explicit: Whether the user has set anything: then lines are written even if other handlers write them too.
    """

    form: str | None = None
    level: int | None = None
    levels: tuple[tuple[str, int], ...] = ()
    processors: tuple[Processor, ...] = ()
    pickled: bytes = b""
    file: str | None = None
    explicit: bool = False


def made(
    form: str | None,
    level: str | int | None,
    levels: Mapping[str, str | int],
    processors: tuple[Any, ...],
    file: str | os.PathLike[str] | None,
) -> Configuration:
    """Check the arguments of `runwide.log.configure`, and return its configuration."""
    if form not in (None, *_FORMS):
        raise InputError(f"invalid format={form!r}: expected 'json' or 'text'")
    return Configuration(
        form=form,
        level=None if level is None else _number(level),
        levels=tuple((name, _number(one)) for name, one in levels.items()),
        processors=_checked(processors),
        pickled=_pickled(processors),
        file=None if file is None else _opened(file),
        explicit=bool(form or level is not None or levels or processors or file is not None),
    )


def _number(level: str | int) -> int:
    number = level if isinstance(level, int) else logging.getLevelName(str(level).upper())
    if not isinstance(number, int) or isinstance(level, bool):
        raise InputError(f"invalid level {level!r}: expected debug, info, warning, error or critical")
    return number


def _checked(processors: tuple[Any, ...]) -> tuple[Processor, ...]:
    wrong = next((one for one in processors if not callable(one)), None)
    if wrong is not None:
        raise InputError(
            f"invalid processor {wrong!r}: expected a callable",
            hint="it takes the logger, the name of the level and the event dictionary, and returns the dictionary",
        )
    return processors


def _pickled(processors: tuple[Processor, ...]) -> bytes:
    if not processors:
        return b""
    import cloudpickle

    try:
        found: bytes = cloudpickle.dumps(processors)
    except Exception as error:
        raise InputError(
            f"a processor cannot be sent to workers: {type(error).__name__}: {error}",
            hint="create objects that cannot be pickled (clients, locks, files) when it is called",
        ) from error
    return found


def _opened(file: str | os.PathLike[str]) -> str:
    path = os.path.abspath(os.fspath(file))  # noqa: PTH100 - a path may be of any kind
    try:
        os.close(os.open(path, APPENDING, 0o666))
    except OSError as error:
        raise InputError(f"the log file {path} cannot be written: {error.strerror}") from error
    return path
