"""Measurements of tasks in a worker."""

from __future__ import annotations

import os
import re
import time
from array import array
from contextlib import suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

Rows = tuple["array[int]", "array[float]", "array[float]", "array[float]"]
"""Columns with one row for each measured interval: number of tasks, start and end on the monotonic clock, and CPU seconds of
the process."""

Report = tuple[Rows, int, int]
"""The measured rows, the worker's highest resident memory so far in bytes (0 if unknown), and its CPU (-1 if unknown)."""

_PEAK = re.compile(rb"VmHWM:\s*(\d+)")
_CPU = 36  # fields between the end of the command's name and the number of the CPU, in /proc/PID/stat (man 5 proc)


class Meter:
    """Measures the tasks of a worker: wall and CPU time for each or for each group, memory and CPU number for each message.

    The CPU time is that of the whole process: it includes the threads of native libraries and the sending of results, but
    not child processes. Tasks that ran in one go share it by their wall time. ``ru_maxrss`` is no measure of memory here: a
    program inherits that of its parent at exec.

    Args:
        each: True to time each task of those that run in one go; otherwise their group is timed.

    Example:
        >>> meter = Meter(each=False)
        >>> meter.begin(abs)(-3)
        3
        >>> meter.add(3, 1.0, 2.0)
        >>> [list(column) for column in meter.report(3)[0]][:3]
        [[3], [1.0], [2.0]]
    """

    def __init__(self, *, each: bool) -> None:
        self.each = each
        self._spent = 0.0
        self._rows = _no_rows()
        self._stamps: list[float] = []
        self._files: list[int] = []
        with suppress(OSError):  # some sandboxes have no /proc
            for name in ("status", "stat"):
                self._files.append(os.open(f"/proc/self/{name}", os.O_RDONLY | os.O_CLOEXEC))

    def begin(self, function: Callable[[Any], Any]) -> Callable[[Any], Any]:
        """Start measuring, and return the function to call, which notes the end of each task if each is timed."""
        self._spent = time.process_time()
        self._stamps.clear()
        if not self.each:
            return function
        stamp, clock = self._stamps.append, time.monotonic

        def stamped(item: Any) -> Any:
            try:
                return function(item)
            finally:
                stamp(clock())

        return stamped

    def add(self, tasks: int, started: float, ended: float) -> None:
        """Add tasks that have just ended."""
        before, self._spent = self._spent, time.process_time()
        spent = self._spent - before
        counts, starts, ends, cpu = self._rows
        if tasks == 1 or not self.each:
            counts.append(tasks)
            starts.append(started)
            ends.append(ended)
            cpu.append(spent)
        else:
            stamps = self._ends(tasks, started, ended)
            begins = [started, *stamps[:-1]]
            share = spent / max(ended - started, 1e-9)
            counts.extend([1] * tasks)
            starts.extend(begins)
            ends.extend(stamps)
            cpu.extend([share * (end - begin) for begin, end in zip(begins, stamps, strict=True)])
        self._stamps.clear()

    def _ends(self, tasks: int, started: float, ended: float) -> Sequence[float]:
        """Return the end of each task, estimated if a task never reached its function (its item could not be loaded)."""
        if len(self._stamps) == tasks:
            self._stamps[-1] = ended  # its result was made after it
            return self._stamps
        each = (ended - started) / tasks
        return [started + each * turn for turn in range(1, tasks + 1)]

    def report(self, tasks: int) -> Report:
        """Return the measurements of the first tasks that have not been reported yet.

        Example:
            >>> meter = Meter(each=False)
            >>> meter.add(4, 1.0, 5.0)
            >>> [list(column) for column in meter.report(1)[0]][:3], [list(column) for column in meter.report(3)[0]][:3]
            ([[1], [1.0], [2.0]], [[3], [2.0], [5.0]])
        """
        rows, self._rows = self._rows, _no_rows()
        if sum(rows[0]) > tasks:
            rows, self._rows = _divided(rows, tasks)
        return rows, *self._state()

    def _state(self) -> tuple[int, int]:
        """Return the highest resident memory so far in bytes, and the CPU of this process."""
        try:
            status, stat = (os.pread(descriptor, 4096, 0) for descriptor in self._files)
            peak = _PEAK.search(status)
            cpu = stat.rpartition(b")")[2].split()[_CPU]
        except (OSError, ValueError, IndexError):
            return 0, -1
        return int(peak[1]) * 1024 if peak else 0, int(cpu)


def _divided(rows: Rows, tasks: int) -> tuple[Rows, Rows]:
    """Return the rows of the first tasks, and the others; a row that has tasks of both is divided by their numbers."""
    parts, left = (_no_rows(), _no_rows()), tasks
    for count, start, end, cpu in zip(*rows, strict=True):
        here = min(count, left)
        left -= here
        middle = start + (end - start) * here / count
        for part, number, began, ended in (
            (parts[0], here, start, middle),
            (parts[1], count - here, middle, end),
        ):
            if number:
                counts, starts, ends, spent = part
                counts.append(number)
                starts.append(began)
                ends.append(ended)
                spent.append(cpu * number / count)
    return parts


def _no_rows() -> Rows:
    return array("L"), array("d"), array("d"), array("d")
