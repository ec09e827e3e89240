"""The checked arguments of `runwide.log.configure`."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from runwide.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from structlog.typing import Processor

APPENDING = os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_CLOEXEC", 0)
_FORMS = ("json", "text")


@dataclass(frozen=True, slots=True)
class Configuration:
    """The checked arguments of `configure`.

    Args:
        form: ``"json"`` or ``"text"``; None to choose by the output.
        level: A number as in `logging`; None for the environment's level.
        levels: Levels of single loggers.
        processors: The user's own.
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
    """Check the arguments of `runwide.log.configure`, and return its configuration.

    Raises:
        InputError: An argument is invalid.
    """
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
