"""The first lines of ours in a worker process: its streams, its descriptors, its signals and its flags are set in order."""

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
_MOST = 256  # descriptors that are looked at where nothing lists them


class Handed(int):
    """A descriptor that a process is handed when it starts, under the same number."""

    __slots__ = ()

    def __reduce__(self) -> tuple[type[int], tuple[int]]:
        starting: Any = context.get_spawning_popen()
        return int, (starting.duplicate_for_child(int(self)),)


@dataclass(frozen=True, slots=True)
class Ends:
    """The worker's ends of what lies between it and the pool; each a `Handed`.

    Args:
        line: Of the socket for messages.
        alive: Of the pipe that ends with the pool's process.
        stdout: Of what is read of its standard output.
        stderr: Of what is read of its standard error.
    """

    line: int
    alive: int
    stdout: int
    stderr: int


@dataclass(frozen=True, slots=True)
class Program:
    """What a worker has of the program that starts it, beside what loky sees to.

    Args:
        path: Where it finds modules.
        start_method: How multiprocessing starts processes; None for its default.
        flags: The flags of its interpreter; None where they are set.
        for_start: Variables that were set for the start alone.
        directory: Descriptor of its directory, where that has no path any more.
    """

    path: list[str]
    start_method: str | None
    flags: list[str] | None
    for_start: tuple[str, ...]
    directory: int | None


def flags() -> list[str]:
    """The flags of this interpreter, as multiprocessing hands them on, and the other ``-X`` options."""
    found: list[str] = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]  # noqa: SLF001 - as multiprocessing does
    for name, value in sys._xoptions.items():  # noqa: SLF001 - its name in the documentation
        option = name if value is True else f"{name}={value}"
        if option not in found:
            found += ["-X", option]
    return found


def enter(ends: Ends, program: Program) -> None:
    """Be a worker until the pool ends it."""
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
    parent._sentinel = ends.alive  # noqa: SLF001 - loky leaves out what tells whether it is alive

    from runwide.pool.worker import main

    main(ends.line, ends.alive)


def _redirect(ends: Ends) -> None:
    """Read nothing of the program's standard input, and write where the pool reads."""
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    os.dup2(ends.stdout, 1)
    os.dup2(ends.stderr, _STDERR)


def _reset_signals() -> None:
    """Have what an interpreter starts with, whatever the program ignores and its thread blocks.

    SIGINT and SIGTERM stay blocked until the worker knows what to do with them.
    """
    signal.pthread_sigmask(signal.SIG_SETMASK, (signal.SIGINT, signal.SIGTERM))
    if (
        signal.getsignal(signal.SIGCHLD) is signal.SIG_IGN
    ):  # the exit status of what tasks start would be lost
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)


def _keep_descriptors() -> None:
    """Have programs that tasks start not inherit what this process was handed."""
    for descriptor in descriptors() or range(_MOST):
        if descriptor > _STDERR:
            with suppress(OSError):  # it was that of the listing
                os.set_inheritable(descriptor, False)


def descriptors() -> list[int]:
    """The descriptors that are open here, with that of the listing; none where nothing lists them.

    Example:
        >>> descriptors()[:2]
        [0, 1]
    """
    for listing in ("/proc/self/fd", "/dev/fd"):
        with suppress(OSError):
            return sorted(int(name) for name in os.listdir(listing))  # noqa: PTH208 - names are wanted
    return []


def _start_again(ends: Ends, program: Program) -> None:
    """Start the interpreter once more in this process, with the program's flags, which loky does not pass on.

    Some of them have no variable; and what tasks start would inherit variables.
    """
    from tempfile import TemporaryFile

    from loky.backend import reduction, spawn
    from loky.backend.popen_loky_posix import Popen

    current: Any = process.current_process()
    current._args = (ends, replace(program, flags=None))  # noqa: SLF001 - as it was pickled
    context.set_spawning_popen(current)  # the key of the program's managers may be pickled then
    with TemporaryFile() as told:
        reduction.dump(spawn.get_preparation_data(current.name, init_main_module=False), told)
        reduction.dump(current, told)
        told.seek(0)
        os.set_inheritable(told.fileno(), True)
        words = ["--process-name", current.name, "--pipe", str(told.fileno())]
        os.execv(sys.executable, [sys.executable, *(program.flags or ()), "-m", Popen.__module__, *words])  # noqa: S606 - the interpreter itself
