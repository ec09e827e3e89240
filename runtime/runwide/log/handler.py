"""The handler that writes log lines: where they go, and in what form."""

from __future__ import annotations

import logging
import os
import sys
import threading
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from runwide import settings, streams
from runwide.errors import InputError
from runwide.log.state import APPENDING, Configuration, Dropped, made, text
from runwide.streams import is_watched

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from types import TracebackType

    from structlog.typing import Processor

ROOT = "runwide"

_configuration = Configuration()
_inherited: str | None = None  # in a worker, the form that the pool's process uses
_takes_root = False  # whether the handler also writes lines of the user's `logging`
_levels_before: dict[str, int] = {}  # of loggers whose level was set here
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

    Each call replaces the settings of earlier calls; a call without arguments restores the defaults. Lines of ``logging``
    are written too, unless the root logger already has a handler: then only runwide's own lines are.

    Args:
        format: ``"json"``, one object a line, as Cloud Logging's agents parse it; ``"text"``; None for JSON if a
            collector reads the output, and text otherwise. It overrides ``RUNWIDE_LOG``.
        level: Lowest level of lines, by its name or number. It overrides ``RUNWIDE_LOG_LEVEL``.
        levels: Lowest level by logger, such as ``{"runwide.pool": "debug", "google": "warning"}``.
        processors: structlog processors, called with the logger, the name of the level and the event dictionary, once for
            each line; they return the dictionary, or raise ``structlog.DropEvent``. They get the fields ``event``,
            ``level``, ``logger``, ``timestamp``, ``job``, ``shard``, ``item``, ``worker``, ``attempt`` and those of the
            line; secrets are removed after them. If prints become lines of JSON, they get these too.
        file: Path of a file to append to, instead of standard error.

    Raises:
        InputError: An argument is invalid, the file cannot be written, or a processor cannot be sent to workers.

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
    """Return the configuration in use."""
    return _configuration


def for_workers() -> Configuration:
    """Return the configuration for the workers of this process, whose own output goes through this process."""
    return replace(_configuration, form="json" if is_collected() else "text", processors=())


def become_worker(known: Configuration) -> None:
    """Write lines as the pool's process does, even if a task changes the configuration.

    Args:
        known: The result of `for_workers` there.
    """
    global _inherited  # noqa: PLW0603 - a fact about this process
    _inherited = known.form
    processors: tuple[Processor, ...] = ()
    if known.pickled:
        import pickle

        try:
            processors = pickle.loads(known.pickled)  # noqa: TID251 - the parent process has made it
        except BaseException as error:  # a module is missing here, or fails to load
            logging.getLogger(f"{ROOT}.log").warning("processors.lost: %s: %s", type(error).__name__, error)
    _adopt(replace(known, form=None, processors=processors))
    take_over_logging(wanted=known.explicit)


def is_collected() -> bool:
    """Return whether a log collector reads this process's output.

    It does with ``RUNWIDE_LOG=json``, or if Vertex or Kubernetes has set its variables and the output is not watched.
    Only then are prints wrapped in JSON: elsewhere the user may pipe them to another program.
    """
    wanted = _configuration.form or _inherited or _setting(settings.log_format)
    return wanted == "json" or (not wanted and settings.in_cloud() and not is_watched())


@contextmanager
def items_always_named() -> Iterator[None]:
    """Put the item's index before each line that a task prints while the block runs, even if the output is not watched."""
    global _names_items  # noqa: PLW0603 - a fact about this process
    before, _names_items = _names_items, True
    try:
        yield
    finally:
        _names_items = before


def names_items(stream: Any) -> bool:
    """Return whether lines that tasks print to a stream begin with the item's index, if the call names items."""
    return _names_items or is_watched(stream)


def take_over_logging(*, wanted: bool = False) -> None:
    """Also write the lines of the user's ``logging``, unless the user has configured it.

    If no log collector reads the output, this happens only with ``wanted``.
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
    if root.level == logging.WARNING:  # the default
        _set_level("", _least())


def attend() -> None:
    """Attach the handler to the right logger, and set the level of runwide's loggers.

    A logger whose level the user has set keeps it. If other handlers write to the console, or the user has set the level
    of the root logger, the root logger's level applies.
    """
    global _our_level, _takes_root  # noqa: PLW0603 - a fact about this process
    root, ours = logging.getLogger(), logging.getLogger(ROOT)
    if _takes_root and root.handlers and _handler not in root.handlers:
        _takes_root = False  # the user has configured it meanwhile
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
    except InputError:  # the pool or the command reports it
        return ""


class _Handler(logging.Handler):
    """Writes lines to the current standard error, or to the file."""

    def __init__(self) -> None:
        super().__init__()
        self._formatter_of: tuple[Configuration, bool, bool] | None = None
        self._file: tuple[str, int] | None = None
        self._writing = threading.local()

    def emit(self, record: logging.LogRecord) -> None:
        with suppress(Exception):  # standard error may be any object; if it fails, the line is dropped
            if _is_explicit() or not self._is_shown_elsewhere(record):
                line = self._formatted(record) + "\n"
                if not self._goes_to_file(line):
                    self._write(line)

    def _formatted(self, record: logging.LogRecord) -> str:
        try:
            return self.format(record)
        except Dropped:
            raise
        except Exception as error:  # such as a message with too many placeholders
            message = f"{text(record.msg)} ({type(error).__name__}: {error})"
            return self.format(logging.makeLogRecord({**vars(record), "msg": message, "args": ()}))

    def format(self, record: logging.LogRecord) -> str:
        as_json = is_collected()
        colors = not as_json and _configuration.file is None and streams.is_terminal(sys.stderr)
        wanted, known = (_configuration, as_json, colors), self._formatter_of
        if known is None or known[0] is not wanted[0] or known[1:] != wanted[1:]:
            from runwide.log import chain  # it takes a tenth of a second to load

            self.formatter = chain.formatter(
                as_json=as_json, colors=colors, processors=_configuration.processors
            )
            self._formatter_of = wanted
        return super().format(record)

    def _write(self, line: str) -> None:
        if getattr(self._writing, "now", False):  # the object that replaces standard error logs its input
            streams.write(sys.__stderr__, line)
            return
        self._writing.now = True
        try:
            begin_line = getattr(sys.stderr, "begin_line", None)
            if begin_line is not None:  # a task has left an unfinished line
                begin_line()
            streams.write(sys.stderr, line)
        finally:
            self._writing.now = False

    def _goes_to_file(self, line: str) -> bool:
        """Append a line to the file; return whether it was written to a file."""
        path = _configuration.file
        if path is None:
            return False
        try:
            if self._file is None or self._file[0] != path:
                self.close_file()
                self._file = path, os.open(path, APPENDING, 0o666)
            data = line.encode(errors="backslashreplace")
            return os.write(self._file[1], data) == len(data)  # in one call: other processes append to it too
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
    """Return whether a handler of the user's writes to the console, and not to a file or a mailbox."""
    if handler is _handler:
        return False
    if type(handler).__name__ == "QueueHandler":  # its listener passes them on
        return True
    stream = getattr(handler, "stream", None) or getattr(getattr(handler, "console", None), "file", None)
    return any(stream is one for one in (sys.stderr, sys.stdout, sys.__stderr__, sys.__stdout__) if one)


_hook: Callable[..., object] = sys.__excepthook__  # the hook before runwide's


def _say_what_ended_it(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Write the exception that ends the program as one entry, past all levels and processors; then call the hook before."""
    written = False
    if not issubclass(kind, KeyboardInterrupt):
        with suppress(Exception):
            import traceback

            from runwide.log import chain

            message = "".join(traceback.format_exception(kind, error, trace)).rstrip()
            streams.write(sys.stderr, chain.last(message, "CRITICAL") + "\n")
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
