"""The first code of runwide in a worker process: set its streams, descriptors, signals and flags."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass, replace
from multiprocessing import context, process
from typing import Any

_STDERR = 2
_MOST = 256  # descriptors that are closed if no list of them is available


class Handed(int):
    """A descriptor that a new process inherits under the same number."""

    __slots__ = ()

    def __reduce__(self) -> tuple[type[int], tuple[int]]:
        starting: Any = context.get_spawning_popen()
        return int, (starting.duplicate_for_child(int(self)),)


@dataclass(frozen=True, slots=True)
class Ends:
    """The worker's ends of its connections to the pool; each is a `Handed`.

    Args:
        line: The socket for messages.
        alive: The pipe that ends with the pool's process.
    """

    line: int
    alive: int
    stdout: int
    stderr: int


@dataclass(frozen=True, slots=True)
class Program:
    """The state of the program that a worker takes over, beside the state that loky passes on.

    Args:
        start_method: The start method of multiprocessing; None for its default.
        flags: The flags of the interpreter; None if they are set already.
        for_start: Variables that were set for the start only.
        directory: Descriptor of the working directory, if that has no path any more.
    """

    path: list[str]
    start_method: str | None
    flags: list[str] | None
    for_start: tuple[str, ...]
    directory: int | None


def flags() -> list[str]:
    """Return the flags of this interpreter, as multiprocessing passes them on, and the other ``-X`` options."""
    found: list[str] = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]  # noqa: SLF001 - as multiprocessing does
    for name, value in sys._xoptions.items():  # noqa: SLF001 - its name in the documentation
        option = name if value is True else f"{name}={value}"
        if option not in found:
            found += ["-X", option]
    return found


def enter(ends: Ends, program: Program) -> None:
    """Run a worker until the pool ends it."""
    _redirect(ends)
    _reset_signals()
    if program.flags is not None and program.flags != flags():
        _start_again(ends, program)
    if program.directory is not None:
        os.fchdir(program.directory)
        os.close(program.directory)
    os.close(ends.stdout)
    os.close(ends.stderr)
    _keep_descriptors()
    for name in program.for_start:
        os.environ.pop(name, None)
    sys.path[:] = program.path
    multiprocessing.set_start_method(program.start_method, force=True)
    parent: Any = process.parent_process()
    parent._sentinel = ends.alive  # noqa: SLF001 - loky does not set it

    from runwide.pool.worker import main

    main(ends.line, ends.alive)


def _redirect(ends: Ends) -> None:
    """Read nothing from the program's standard input, and write to the pool's pipes."""
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    os.dup2(ends.stdout, 1)
    os.dup2(ends.stderr, _STDERR)


def _reset_signals() -> None:
    """Reset signals that the program ignores or its thread blocks.

    SIGINT and SIGTERM stay blocked until the worker has its handlers.
    """
    signal.pthread_sigmask(signal.SIG_SETMASK, (signal.SIGINT, signal.SIGTERM))
    # If SIGCHLD is ignored, the exit status of processes that tasks start is lost.
    if signal.getsignal(signal.SIGCHLD) is signal.SIG_IGN:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)


def _keep_descriptors() -> None:
    """Keep descriptors of this process from programs that tasks start."""
    for descriptor in descriptors() or range(_MOST):
        if descriptor > _STDERR:
            with suppress(OSError):  # the descriptor of the list itself is closed
                os.set_inheritable(descriptor, False)


def descriptors() -> list[int]:
    """Return the open descriptors, including that of the list itself; none if no list is available.

    Example:
        >>> descriptors()[:2]
        [0, 1]
    """
    for listing in ("/proc/self/fd", "/dev/fd"):
        with suppress(OSError):
            return sorted(int(name) for name in os.listdir(listing))  # noqa: PTH208 - names are wanted
    return []


def _start_again(ends: Ends, program: Program) -> None:
    """Start the interpreter again in this process, with the program's flags, which loky does not pass on.

    Variables would not do: some flags have none, and programs that tasks start would inherit them.
    """
    from tempfile import TemporaryFile

    from loky.backend import reduction, spawn
    from loky.backend.popen_loky_posix import Popen

    current: Any = process.current_process()
    current._args = (ends, replace(program, flags=None))  # noqa: SLF001 - as it was pickled
    context.set_spawning_popen(current)  # the key of the program's managers may be pickled then
    with TemporaryFile() as file:
        reduction.dump(spawn.get_preparation_data(current.name, init_main_module=False), file)
        reduction.dump(current, file)
        file.seek(0)
        os.set_inheritable(file.fileno(), True)
        words = ["--process-name", current.name, "--pipe", str(file.fileno())]
        os.execv(sys.executable, [sys.executable, *(program.flags or ()), "-m", Popen.__module__, *words])  # noqa: S606 - the interpreter itself
