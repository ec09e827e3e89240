"""Where lines go and in what form: the handler, and what `configure` and the environment say of it."""

from __future__ import annotations

import logging
import os
import sys
import threading
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from runwide import settings, writing
from runwide.errors import InputError
from runwide.log.configuration import APPENDING, Configuration, made
from runwide.log.context import Dropped, text
from runwide.log.watching import is_watched

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from types import TracebackType

    from structlog.typing import Processor

ROOT = "runwide"

_configuration = Configuration()
_inherited: str | None = None  # in a worker, the form of the pool's process
_takes_root = False  # whether lines of the user's `logging` go through the handler too
_levels_before: dict[str, int] = {}  # of loggers that were given one here
_names_items = False
_our_level = logging.NOTSET


def configure(
    *,
    format: str | None = None,  # noqa: A002 - the word for it
    level: str | int | None = None,
    levels: Mapping[str, str | int] | None = None,
    processors: Iterable[Processor] = (),
    file: str | os.PathLike[str] | None = None,
) -> None:
    """Set how this program and its workers write log lines: those of runwide, and those of ``logging``.

    Each call replaces what an earlier one has set; after one without arguments all is as if there had been none. Lines of
    ``logging`` are written too, unless the root logger has a handler already: then runwide's own lines alone are.

    Args:
        format: ``"json"``, one object a line, as Cloud Logging's agents parse it; ``"text"``; None for JSON where a
            collector reads the output, and text elsewhere. Stronger than ``RUNWIDE_LOG``.
        level: Least level of lines, by its name or number. Stronger than ``RUNWIDE_LOG_LEVEL``.
        levels: Least level by logger, such as ``{"runwide.pool": "debug", "google": "warning"}``.
        processors: structlog processors, called with the logger, the name of the level and the event dictionary, once for
            each line; they return the dictionary, or raise ``structlog.DropEvent``. They see the fields ``event``,
            ``level``, ``logger``, ``timestamp``, ``job``, ``shard``, ``item``, ``worker``, ``attempt`` and those of the
            line; secrets are taken out after them. Where prints become lines of JSON, they see these too.
        file: Path of a file to append to, instead of standard error.

    Raises:
        InputError: An argument is wrong, the file cannot be written, or a processor cannot be sent to workers.

    Example:
        >>> import runwide.log
        >>> def with_team(logger, method, event):
        ...     return {**event, "team": "forecasts"}
        >>> runwide.log.configure(processors=[with_team], levels={"runwide.pool": "error"})
        >>> runwide.log.configure()
    """
    _adopt(made(format, level, levels or {}, tuple(processors), file))
    take_over_logging(wanted=_configuration.explicit)


def configuration() -> Configuration:
    """Return what is in force."""
    return _configuration


def for_workers() -> Configuration:
    """Return what is to be in force in the workers of this process, whose own output nobody sees."""
    return replace(_configuration, form="json" if is_collected() else "text", processors=())


def become_worker(known: Configuration) -> None:
    """Write lines as the pool's process does, also when a task configures something else of them.

    Args:
        known: As `for_workers` made it there.
    """
    global _inherited  # noqa: PLW0603 - a fact about this process
    _inherited = known.form
    processors: tuple[Processor, ...] = ()
    if known.pickled:
        import pickle

        try:
            processors = pickle.loads(known.pickled)  # noqa: TID251 - of the process that has started this one
        except BaseException as error:  # of a module that is not here, or does not load
            logging.getLogger(f"{ROOT}.log").warning("processors.lost: %s: %s", type(error).__name__, error)
    _adopt(replace(known, form=None, processors=processors))
    take_over_logging(wanted=known.explicit)


def is_collected() -> bool:
    """Return whether a log collector reads this process's output.

    ``RUNWIDE_LOG=json`` says so, or the variables that Vertex and Kubernetes set, unless somebody watches. Only then are
    prints wrapped in JSON: elsewhere somebody may be piping them.
    """
    wanted = _configuration.form or _inherited or _setting(settings.log_format)
    return wanted == "json" or (not wanted and settings.in_cloud() and not is_watched())


@contextmanager
def items_always_named() -> Iterator[None]:
    """Put the item's index before each line that a task prints while the block runs, also where nobody watches."""
    global _names_items  # noqa: PLW0603 - a fact about this process
    before, _names_items = _names_items, True
    try:
        yield
    finally:
        _names_items = before


def names_items(stream: Any) -> bool:
    """Return whether lines that tasks print to a stream begin with the item's index, in a call that wants it."""
    return _names_items or is_watched(stream)


def take_over_logging(*, wanted: bool = False) -> None:
    """Write the lines of the user's ``logging`` too, unless they have set it up themselves.

    Args:
        wanted: Do it also where no log collector reads.
    """
    global _hook, _takes_root  # noqa: PLW0603 - a fact about this process
    root = logging.getLogger()
    collected = is_collected()
    if not (wanted or collected) or any(one is not _handler for one in root.handlers):
        attend()
        return
    _takes_root = True
    root.addHandler(_handler)
    if collected:
        logging.captureWarnings(capture=True)
        if sys.excepthook is not _say_what_ended_it:
            _hook, sys.excepthook = sys.excepthook, _say_what_ended_it
    attend()
    if root.level == logging.WARNING:  # nobody has set it
        _set_level("", _least())


def attend() -> None:
    """Make sure that the handler is where it belongs, and that the level of our loggers is right.

    A logger that the user has given a level keeps it. Where other handlers write to the console, or the root logger has a
    level of the user's, that logger's level counts.
    """
    global _our_level, _takes_root  # noqa: PLW0603 - a fact about this process
    root, ours = logging.getLogger(), logging.getLogger(ROOT)
    if _takes_root and root.handlers and _handler not in root.handlers:
        _takes_root = False  # the user has set it up after all
    place, other = (root, ours) if _takes_root else (ours, root)
    if _handler not in place.handlers:
        place.addHandler(_handler)
    other.removeHandler(_handler)
    if ours.level in (logging.NOTSET, _our_level):
        untouched = _levels_before.get("", root.level) == logging.WARNING
        theirs = not untouched or any(map(_is_of_console, root.handlers))
        said = _configuration.level is not None or _setting(settings.log_level)
        level = logging.NOTSET if theirs and not said else _least()
        if ours.level != level:
            ours.setLevel(level)
        _our_level = level


def _least() -> int:
    if _configuration.level is not None:
        return _configuration.level
    return int(getattr(logging, (_setting(settings.log_level) or "info").upper()))


def _setting(read: Callable[[], str]) -> str:
    try:
        return read()
    except InputError:  # the pool, or the command, says so
        return ""


class _Handler(logging.Handler):
    """Writes lines to standard error, whatever that is at the moment, or to the file."""

    def __init__(self) -> None:
        super().__init__()
        self._formatter_of: tuple[Configuration, bool, bool] | None = None
        self._file: tuple[str, int] | None = None
        self._writing = threading.local()

    def emit(self, record: logging.LogRecord) -> None:
        with suppress(Exception):  # standard error may be anything; or the line is dropped
            if _is_explicit() or not self._is_shown_elsewhere(record):
                line = self._formatted(record) + "\n"
                if not self._goes_to_file(line):
                    self._write(line)

    def _formatted(self, record: logging.LogRecord) -> str:
        try:
            return self.format(record)
        except Dropped:
            raise
        except Exception as error:  # such as of a message with a placeholder too many
            message = f"{text(record.msg)} ({type(error).__name__}: {error})"
            return self.format(logging.makeLogRecord({**vars(record), "msg": message, "args": ()}))

    def format(self, record: logging.LogRecord) -> str:
        as_json = is_collected()
        colors = not as_json and _configuration.file is None and writing.is_terminal(sys.stderr)
        wanted, known = (_configuration, as_json, colors), self._formatter_of
        if known is None or known[0] is not wanted[0] or known[1:] != wanted[1:]:
            from runwide.log import chain  # which takes a tenth of a second to load

            self.formatter = chain.formatter(
                as_json=as_json, colors=colors, processors=_configuration.processors
            )
            self._formatter_of = wanted
        return super().format(record)

    def _write(self, line: str) -> None:
        if getattr(self._writing, "now", False):  # what stands in for standard error logs what it is given
            writing.write(sys.__stderr__, line)
            return
        self._writing.now = True
        try:
            begin_line = getattr(sys.stderr, "begin_line", None)
            if begin_line is not None:  # a task has left one unfinished
                begin_line()
            writing.write(sys.stderr, line)
        finally:
            self._writing.now = False

    def _goes_to_file(self, line: str) -> bool:
        """Append a line to the file; whether there is one, and it takes the line."""
        path = _configuration.file
        if path is None:
            return False
        try:
            if self._file is None or self._file[0] != path:
                self.close_file()
                self._file = path, os.open(path, APPENDING, 0o666)
            data = line.encode(errors="backslashreplace")
            return os.write(self._file[1], data) == len(data)  # at once: others append to it too
        except OSError:
            return False

    def close_file(self) -> None:
        """Close the file, if it is open."""
        if self._file is not None:
            os.close(self._file[1])
            self._file = None

    def _is_shown_elsewhere(self, record: logging.LogRecord) -> bool:
        logger: logging.Logger | None = logging.getLogger(record.name)
        while logger is not None:
            if any(record.levelno >= one.level and _is_of_console(one) for one in logger.handlers):
                return True
            logger = logger.parent if logger.propagate else None
        return False


def _is_explicit() -> bool:
    return _takes_root or _configuration.explicit or bool(_setting(settings.log_format))


def _is_of_console(handler: logging.Handler) -> bool:
    """Whether a handler of the user's brings lines to where they would look for ours: not to a file, or a mailbox."""
    if handler is _handler:
        return False
    if type(handler).__name__ == "QueueHandler":  # whoever listens brings them on
        return True
    stream = getattr(handler, "stream", None) or getattr(getattr(handler, "console", None), "file", None)
    return any(stream is one for one in (sys.stderr, sys.stdout, sys.__stderr__, sys.__stdout__) if one)


_hook: Callable[..., object] = sys.__excepthook__  # the one that was there before ours


def _say_what_ended_it(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Write what ends the program as one entry, past all levels and processors; then call the hook that was there."""
    written = False
    if not issubclass(kind, KeyboardInterrupt):
        with suppress(Exception):
            import traceback

            from runwide.log import chain

            message = "".join(traceback.format_exception(kind, error, trace)).rstrip()
            writing.write(sys.stderr, chain.last(message, "CRITICAL") + "\n")
            written = True
    if not written or _hook is not sys.__excepthook__:
        _hook(kind, error, trace)


_handler = _Handler()
_lock = threading.Lock()


def _adopt(found: Configuration) -> None:
    global _configuration, _takes_root
    with _lock:
        _configuration, _takes_root = found, False
        logging.getLogger().removeHandler(_handler)
        _handler.close_file()
        while _levels_before:
            name, level = _levels_before.popitem()
            logging.getLogger(name).setLevel(level)
        for name, level in found.levels:
            _set_level(name, level)


def _set_level(name: str, level: int) -> None:
    logger = logging.getLogger(name)
    _levels_before.setdefault(name, logger.level)
    logger.setLevel(level)
