"""What a worker measures of its tasks, where somebody listens to the pool's events."""

from __future__ import annotations

import os
import re
import time
from contextlib import suppress

Measured = tuple[float, float, float]
"""Start and end of a task on the monotonic clock, and the CPU seconds that its process spent in between."""

Report = tuple[list[Measured], int, int]
"""Tasks, the worker's highest resident memory so far in bytes, and the CPU that it is on; 0 and -1 where unknown."""

_PEAK = re.compile(rb"VmHWM:\s*(\d+)")
_CPU = 36  # fields between the end of the command's name and the number of the CPU, in /proc/PID/stat (man 5 proc)


class Meter:
    """Measures tasks: CPU time for each, memory and CPU number for each batch of results, since they cost a read.

    The CPU time is the whole process's, with the threads of native libraries and our own sending of results; that of
    child processes is not in it. ``ru_maxrss`` is no measure here: an exec inherits that of the parent.

    Example:
        >>> meter = Meter()
        >>> meter.begin()
        >>> meter.task(1.0, 3.0)[:2]
        (1.0, 3.0)
    """

    def __init__(self) -> None:
        self._spent = 0.0
        self._files: list[int] = []
        with suppress(OSError):  # some sandboxes have no /proc
            for name in ("status", "stat"):
                self._files.append(os.open(f"/proc/self/{name}", os.O_RDONLY | os.O_CLOEXEC))

    def begin(self) -> None:
        """Start measuring now."""
        self._spent = time.process_time()

    def task(self, started: float, ended: float) -> Measured:
        """One task, which ended just now."""
        before, self._spent = self._spent, time.process_time()
        return started, ended, self._spent - before

    def state(self) -> tuple[int, int]:
        """Highest resident memory so far in bytes, and the CPU that this process is on."""
        try:
            status, stat = (os.pread(descriptor, 4096, 0) for descriptor in self._files)
            peak = _PEAK.search(status)
            cpu = stat.rpartition(b")")[2].split()[_CPU]
        except (OSError, ValueError, IndexError):
            return 0, -1
        return int(peak[1]) * 1024 if peak else 0, int(cpu)
