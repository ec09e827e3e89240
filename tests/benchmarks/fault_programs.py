"""The rows of the fault table: the shipped faults, and a program's own classes, streams, flags, output and folders.

Each row runs as a script of its own for each pool, since it needs a ``__main__``, a standard error or flags of its own.
`pool_faults.py` starts it, and reads the pool's reports to its caller from FILE:

    python tests/benchmarks/fault_programs.py ROW POOL FILE
"""

from __future__ import annotations

import os
import re
import resource
import shutil
import sys
import threading
import time
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from fault_peers import BARS, PEERS, STREAMS, TASKS, WORKERS, Meeting, Reports, try_again

from runwide.testing.faults import GUILTY, SECONDS, table

if TYPE_CHECKING:
    from collections.abc import Callable

SCRATCH = "SCRATCH_OF_THIS_ROW"
GOES_ON = "(on|anew)"


@dataclass(frozen=True)
class Program:
    """One row.

    Args:
        name: The row.
        run: Runs a pool, by its name, on the tasks of the row.
        right: Pattern of a perfect cell.
        flags: Options of the interpreter.
        variables: Set in the environment; ``{folder}`` becomes a folder of this cell alone.
        stderr: The kind of standard error: ``"broken"`` for a pipe without a reader, ``"full"``, ``"closed"``, or empty.
        lines: Counts the lines that arrived, in what the program printed.
        pools: The pools that offer the feature of the row; the others have a dash.
    """

    name: str
    run: Callable[[str, Path], None]
    right: str
    flags: tuple[str, ...] = ()
    variables: dict[str, str] = field(default_factory=dict)
    stderr: str = ""
    lines: Callable[[bytes], str] | None = None
    pools: tuple[str, ...] = tuple(PEERS)


# standard error that cannot be written


def meets(pool: str, meeting: Meeting, path: Path, also: Callable[[], dict[str, bool]] | None = None) -> None:
    """Run a pool on some tasks; at the end, write the words that hold, whether it has failed or not."""
    reports = Reports(meeting, path)
    try:
        PEERS[pool][0](meeting, reports)
    finally:
        if also is not None:
            reports.words(" ".join(word for word, holds in also().items() if holds))


def meet(fault: str, pool: str, path: Path) -> None:
    """Have a pool meet a fault of the shipped table."""
    meets(pool, Meeting.of(table()[fault]), path)


def half_a_second(index):
    """Take long enough for a bar to be due."""
    time.sleep(0.5)
    return index


def draws_a_bar(pool: str, path: Path) -> None:
    """A bar is due."""
    _streamed(BARS[pool], half_a_second, range(TASKS), Reports(Meeting(half_a_second), path))


# classes of the program


class Job:
    """A class of the program, whose state the program changes while results arrive."""

    arrived = 0

    def __init__(self, index):
        self.index = index

    def ok(self):
        """Return whether this is one."""
        return isinstance(self, Job)


def make_job(index):
    """Return an instance of a class of the program."""
    time.sleep(SECONDS)
    return Job(index)


def index_of_job(value):
    """Count an arrival in the class, as programs do with registries, counters and caches."""
    Job.arrived += 1
    same.append(type(value) is Job)
    return value.index


same: list[bool] = []


def own_class(pool: str, path: Path) -> None:
    """Results of a class of the program arrive."""

    def held():
        return {
            "state": Job.arrived == len(same) > 0,
            "isinstance": all(same) and bool(same),
            "globals": Job.ok.__globals__ is globals() and bool(same),
        }

    meets(pool, Meeting(make_job, index_of=index_of_job), path, also=held)


# slow inputs


def as_it_is(item):
    """Return the item."""
    return item


def first_result(pool: str, path: Path) -> None:
    """Items come one by one, half a second apart."""
    handed = []

    def items():
        for index in range(TASKS):
            handed.append(index)
            yield index
            time.sleep(0.5)

    reports = Reports(Meeting(as_it_is), path)

    def results():
        for number, value in enumerate(STREAMS[pool](as_it_is, items())):
            if number == 0:
                reports.words(f"first after {len(handed)}")
            yield value

    _streamed(lambda *_: results(), as_it_is, None, reports, again=STREAMS[pool])


def feedback(pool: str, path: Path) -> None:
    """Each item waits for the result of the item two before it."""
    had = [threading.Event() for _ in range(TASKS)]

    def items():
        for index in range(TASKS):
            if index >= WORKERS:
                had[index - WORKERS].wait()
            yield index

    def results(*_):
        for value in STREAMS[pool](as_it_is, items()):
            had[value].set()
            yield value

    _streamed(results, as_it_is, None, Reports(Meeting(as_it_is), path), again=STREAMS[pool])


def _streamed(stream, function, items, reports, again=None):
    try:
        for value in stream(function, items):
            reports.result(None, value)
    except Exception as error:
        reports.error(None, error)
    try_again(reports, lambda: next(iter(list((again or stream)(abs, [-1] * TASKS)))))


# standard output in ASCII

LINES = 20


def print_lines(index):
    """Print lines, of which the guilty has one that is not ASCII."""
    time.sleep(SECONDS)
    for number in range(LINES):
        accent = "é" if (index, number) == (GUILTY, LINES // 2) else ""
        print(f"task {index} line {number} {accent}", flush=True)
    return index


def prints(pool: str, path: Path) -> None:
    """One of 240 lines cannot be encoded."""
    meeting = Meeting(print_lines, guilty=GUILTY, why=("codec can't encode",))
    meets(pool, meeting, path)


def count_lines(printed: bytes) -> str:
    """Return how many of the lines arrived."""
    return f"{len(set(re.findall(rb'task [0-9]+ line [0-9]+', printed)))} lines"


# files for large values


def arrays():
    """Return small items and one large one, an array."""
    import numpy as np

    return [np.full(1 << 20, float(index)) if index == GUILTY else index for index in range(TASKS)]


def large_arrays():
    """Return items that are arrays of 2 MB, filled with their index."""
    import numpy as np

    return [np.full(1 << 18, float(index)) for index in range(TASKS)]


def index_of_array(value):
    """Return the index of which a result is full."""
    return value if isinstance(value, int) else int(value[0]) if value[0] == value[-1] else None


def pass_slowly(item):
    """Return the item."""
    time.sleep(SECONDS)
    return item


def clean_up(item):
    """Remove the temporary folder's contents as a cleaner does, if this is the guilty; return the item."""
    time.sleep(SECONDS / 2)
    if index_of_array(item) == GUILTY:
        for path in Path(os.environ[SCRATCH]).iterdir():
            shutil.rmtree(path, ignore_errors=True)
    time.sleep(SECONDS / 2)
    return item


def limited(pool: str, path: Path) -> None:
    """No file may be larger than 1 MiB, and one item and its result are arrays of 8 MiB."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, resource.RLIM_INFINITY))
    why = ("too large", "Errno 27", "RLIMIT_FSIZE", "file size")
    meeting = Meeting(pass_slowly, arrays, index_of_array, guilty=GUILTY, why=why)
    meets(pool, meeting, path)


def cleaned(pool: str, path: Path) -> None:
    """A task removes the contents of the temporary folder, while all items and results are arrays of 2 MB."""
    Path(os.environ[SCRATCH]).mkdir()
    meeting = Meeting(clean_up, large_arrays, index_of_array, guilty=GUILTY, why=("No such file", "removed"))
    meets(pool, meeting, path)


# flags

WARNING = "once::ImportWarning"
FLAGS = ("-O", "-W", WARNING, "-X", "utf8=1")
seen: list[tuple] = []


def show_flags(index):
    """Return what this worker has of the program's flags, after two workers have begun."""
    Path(f"worker-{os.getpid()}").touch()
    deadline = time.monotonic() + 10
    while len(list(Path().glob("worker-*"))) < WORKERS and time.monotonic() < deadline:
        time.sleep(0.01)
    flags = (sys.flags.optimize == 1, WARNING in sys.warnoptions, sys.flags.utf8_mode == 1)
    return index, flags, hash("text"), os.getpid()


def index_of_flags(value):
    """Keep what a worker has."""
    seen.append(value[1:])
    return value[0]


def flags(pool: str, path: Path) -> None:
    """Tasks see the interpreter's flags and the hash of a text."""

    def reached():
        had = zip(*(flags for flags, _, _ in seen), strict=True)
        found = {name: all(has) for name, has in zip(("-O", "-W", "-X"), had, strict=False)}
        found["hash"] = len({digest for _, digest, _ in seen}) == 1 and len({pid for *_, pid in seen}) > 1
        return found

    meets(pool, Meeting(show_flags, index_of=index_of_flags), path, also=reached)


_FOLDERS = ("RUNWIDE_SCRATCH", "JOBLIB_TEMP_FOLDER", "TMPDIR", SCRATCH)
_EITHER = rf"(11, which why|12), {GOES_ON}"
PROGRAMS = {
    program.name: program
    for program in (
        *(Program(name, partial(meet, name), f"11, which why, {GOES_ON}") for name in table()),
        Program(
            "os._exit, stderr a broken pipe",
            partial(meet, "os._exit"),
            f"11, which why, {GOES_ON}",
            stderr="broken",
        ),
        Program(
            "os._exit, stderr full", partial(meet, "os._exit"), f"11, which why, {GOES_ON}", stderr="full"
        ),
        Program(
            "os._exit, stderr closed", partial(meet, "os._exit"), f"11, which why, {GOES_ON}", stderr="closed"
        ),
        Program(
            "progress bar, stderr a broken pipe",
            draws_a_bar,
            f"12, {GOES_ON}",
            stderr="broken",
            pools=tuple(BARS),
        ),
        Program("results of a class of `__main__`", own_class, f"12, state isinstance globals, {GOES_ON}"),
        Program(
            "slow generator: first result",
            first_result,
            f"12, first after [1-4], {GOES_ON}",
            pools=tuple(STREAMS),
        ),
        Program("generator that waits for results", feedback, f"12, {GOES_ON}", pools=tuple(STREAMS)),
        Program(
            "non-ASCII line, stdout in ASCII",
            prints,
            f"12, {TASKS * LINES} lines, {GOES_ON}",
            variables={"PYTHONIOENCODING": "ascii"},
            lines=count_lines,
        ),
        Program("array above the file size limit", limited, _EITHER),
        Program(
            "temporary folder removed",
            cleaned,
            _EITHER,
            variables=dict.fromkeys(_FOLDERS, "{folder}/temporary"),
        ),
        Program(
            "`-O -W -X utf8`, `hash(text)`",
            flags,
            f"12, -O -W -X hash, {GOES_ON}",
            flags=FLAGS,
            variables={"LC_ALL": "C.UTF-8"},
        ),
    )
}


if __name__ == "__main__":
    name, pool, file = sys.argv[1:]
    PROGRAMS[name].run(pool, Path(file))
