"""Compare the pools of Python where something goes wrong: the fault table, as markdown.

Each pool meets each row in a process of its own, with two workers and twelve tasks. It has 20 seconds. The first rows are
the faults of `runwide.testing.faults`: eleven innocent tasks of 0.15 s, and a guilty one at index 5. A cell has

- how many right results the caller got: 11 are those of all innocent tasks, and 12 all where no task need fail;
- whether the error of the guilty says *which* item it was (no innocent gets one too), and *why*: the signal, the exit
  status, the time-out, or what pickle or the system said;
- whether the pool runs another task afterwards (*on*), is made anew by the library (*anew*), or is *dead*;
- **hang** where the caller waits without end, and **crash** where the program ended before it had tried another task.

The last rows (`fault_programs.py`) are about the program around the tasks; some count other things:

- *stderr a broken pipe*, *full* (``/dev/full``), *closed* (``2>&-``): the program's standard error is that while a worker
  calls ``os._exit``, or while tasks of 0.5 s run under the library's own progress bar;
- *results of a class of `__main__`*: *state* if an attribute of the class, which the program counts up as results arrive,
  has the right number at the end; *isinstance* if each result is of that very class; *globals* if the class's methods
  still belong to the program;
- *slow generator*: items come half a second apart; *first after N*: how many the generator had given when the first
  result was there. Up to 4 of the 12 are right;
- *generator that waits for results*: each item waits for the result of the item two before it, which two workers allow;
- *non-ASCII line*: ``PYTHONIOENCODING=ascii``, and each task prints 20 lines, one of which is not ASCII; how many
  *lines* arrived. An error for the task that prints it is what a loop would get, too, and still loses lines;
- *array above the file size limit*: ``RLIMIT_FSIZE`` is 1 MiB, and the guilty's item and result are arrays of 8 MiB.
  A pool that passes them has 12;
- *temporary folder removed*: the guilty empties the folder that ``TMPDIR``, ``RUNWIDE_SCRATCH`` and
  ``JOBLIB_TEMP_FOLDER`` name, while all items and results are arrays of 2 MB;
- *`-O -W -X utf8`, `hash(text)`*: which flags of the program's interpreter its workers have, and *hash* if two workers
  agree about the hash of a text.

A dash says that the library does not offer what the row is about; such rows are not counted for it.
Each peer is used as its documentation advises for the best behaviour under faults; `fault_peers.py` says how.

    pip install 'runwide[bench]'                                    # and 'dask[distributed]' for --pool dask
    python tests/benchmarks/pool_faults.py                          # to standard output
    python tests/benchmarks/pool_faults.py --write docs/pool.md     # between the markers of this file
    python tests/benchmarks/pool_faults.py --pool pebble --rows SIGKILL SIGSTOP
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from platform import python_version
from typing import TYPE_CHECKING, Any

from fault_peers import PEERS, USUAL
from fault_programs import PROGRAMS

from runwide.pool.process import kill_tree

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fault_programs import Program

SECONDS = 20
AT_A_TIME = 3  # most of them wait
PROGRAM = Path(__file__).with_name("fault_programs.py")
NOT_OFFERED = "-"


def cell(pool: str, row: Program, *, seconds: float = SECONDS) -> str:
    """Let one pool meet one row, in a process of its own."""
    if pool not in row.pools:
        return NOT_OFFERED
    with tempfile.TemporaryDirectory(prefix="pool-faults-") as folder:
        path, printed = Path(folder) / "reports", Path(folder) / "printed"
        path.touch()
        with printed.open("wb") as stdout, standard_error(row.stderr) as stderr:
            program = subprocess.Popen(
                [*closing(row.stderr), sys.executable, *row.flags, PROGRAM, row.name, pool, path],
                cwd=folder,
                env=environment(row, folder),
                stdout=stdout,
                stderr=stderr,
                start_new_session=True,
            )
        hung = ended(program, seconds)
        reports = [json.loads(line) for line in path.read_text().splitlines()]
        if row.lines:
            reports.append(["words", row.lines(printed.read_bytes())])
        return verdict(reports, hung=hung)


@contextmanager
def standard_error(kind: str) -> Iterator[int]:
    """Open a standard error of a kind, which the program inherits."""
    if kind == "broken":
        reader, writer = os.pipe()
        os.close(reader)
    else:
        writer = os.open("/dev/full" if kind == "full" else os.devnull, os.O_WRONLY)
    yield writer
    os.close(writer)


def closing(kind: str) -> list[str]:
    """Begin a command that has no standard error."""
    return ["sh", "-c", 'exec "$@" 2>&-', "sh"] if kind == "closed" else []


def environment(row: Program, folder: str) -> dict[str, str]:
    """Return the row's variables with ours, but for the seed of hashes, which is to be the pool's own matter."""
    variables = {name: value.format(folder=folder) for name, value in row.variables.items()}
    return {**{name: value for name, value in os.environ.items() if name != "PYTHONHASHSEED"}, **variables}


def ended(program: subprocess.Popen[bytes], seconds: float) -> bool:
    """Wait for a program, end all that is left of it, and return whether it hung."""
    hung = False
    try:
        program.wait(seconds)
    except subprocess.TimeoutExpired:
        hung = True
    kill_tree(program.pid)
    with suppress(ProcessLookupError):
        os.killpg(program.pid, signal.SIGKILL)
    program.wait()
    return hung


def verdict(reports: list[tuple[str, Any]], *, hung: bool) -> str:
    """Put a cell into words."""
    found = dict(reversed(reports))
    words = [str(len({value for name, value in reports if name == "result"}))]
    if "guilty" in found:
        which, why, _ = found["guilty"]
        words.append(" ".join(["which"] * (which and "wronged" not in found) + ["why"] * why) or "unnamed")
    words += [value for name, value in reports if name == "words" and value]
    words.append("**hang**" if hung else found.get("afterwards", "**crash**"))
    return ", ".join(words)


def versions(pools: list[str]) -> str:
    """Return the names and versions of the pools."""
    found = [
        f"{name} {metadata.version(PEERS[name][1])}"
        if PEERS[name][1]
        else f"{name} of Python {python_version()}"
        for name in pools
    ]
    return ", ".join(found)


def markdown(pools: list[str], cells: dict[tuple[str, str], str]) -> str:
    """Return the table."""
    names = list(dict.fromkeys(name for _, name in cells))
    lines = [f"| | {' | '.join(pools)} |", "|---" * (len(pools) + 1) + "|"]
    lines += [f"| {name} | {' | '.join(cells[pool, name] for pool in pools)} |" for name in names]
    right = [right_ones(pool, names, cells) for pool in pools]
    lines.append(f"| nothing left to wish | {' | '.join(right)} |")
    return "\n".join(lines)


def right_ones(pool: str, names: list[str], cells: dict[tuple[str, str], str]) -> str:
    """Count the rows that leave nothing to wish, of those that apply."""
    offered = {name: cells[pool, name] for name in names if cells[pool, name] != NOT_OFFERED}
    right = sum(re.fullmatch(PROGRAMS[name].right, words) is not None for name, words in offered.items())
    return f"{right} of {len(offered)}"


def main() -> None:
    """Fill the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--pool", action="append", choices=PEERS, help="a pool; may be repeated")
    parser.add_argument(
        "--rows", nargs="+", choices=PROGRAMS, metavar="ROW", help="rows by name; all unless given"
    )
    parser.add_argument("--write", type=Path, help="a markdown file with markers")
    arguments = parser.parse_args()
    pools, rows = arguments.pool or USUAL, arguments.rows or list(PROGRAMS)
    todo = [(pool, row) for row in rows for pool in pools]
    with ThreadPoolExecutor(AT_A_TIME) as executor:
        filled = executor.map(lambda pair: cell(pair[0], PROGRAMS[pair[1]]), todo)
        cells = dict(zip(todo, filled, strict=True))
    text = f"{markdown(pools, cells)}\n\n{versions(pools)}; {datetime.now(timezone.utc):%Y-%m-%d}."
    if arguments.write:
        between_markers(arguments.write, "faults", text)
    print(text)


def between_markers(path: Path, name: str, text: str) -> None:
    """Replace what a file has between two comments."""
    begin, end = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
    before, _, rest = path.read_text().partition(begin)
    path.write_text(f"{before}{begin}\n\n{text}\n\n{end}{rest.partition(end)[2]}")


if __name__ == "__main__":
    main()
