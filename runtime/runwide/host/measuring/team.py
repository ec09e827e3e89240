"""Processes that run one function at the same time and report their speed."""

from __future__ import annotations

import random
import subprocess
import sys
from typing import TYPE_CHECKING

from runwide import settings
from runwide.errors import TaskError
from runwide.host import threads
from runwide.host.measuring.gains import Plan, Sample

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import TracebackType


_GRACE = 5.0  # seconds for a process to end by itself


class Team:
    """Processes that run a function when they are asked to.

    They are plain processes of this interpreter, with one thread each for numerical libraries, and load only the
    function, so that the readings depend on the machine alone.

    Args:
        size: Number of processes.
        function: ``module:name``, or empty for a built-in loop of arithmetic.
        items: Arguments, each as JSON; each process uses them in turn, one for each call.

    Attributes:
        call: Seconds of one call in the slowest process.

    Raises:
        TaskError: The function cannot be imported or fails.

    Example:
        >>> with Team(1) as team:
        ...     team.sample(1, seconds=0.05).throughput > 0
        True
    """

    def __init__(self, size: int, *, function: str = "", items: Sequence[str] = ()) -> None:
        command = [sys.executable, "-m", "runwide.host.measuring.team_member", function, *items]
        self._members: list[subprocess.Popen[str]] = []
        try:
            for _ in range(size):
                self._members.append(_start(command, size))
            self.call = max(float(_answer(member)) for member in self._members)
        except BaseException:
            self.close()
            raise

    def sample(self, workers: int, *, seconds: float) -> Sample:
        """Let a number of processes work at once for about a number of seconds."""
        busy = self._members[:workers]
        for member in busy:
            _send(member, f"{seconds}\n")
        answers = [_answer(member).split() for member in busy]
        rates = [int(calls) / float(elapsed) for calls, elapsed, _ in answers]
        shares = [float(used) / float(elapsed) for _, elapsed, used in answers]
        return Sample(sum(rates), sum(shares) / workers)

    def close(self) -> None:
        """End all processes."""
        for member in self._members:
            if member.stdin:
                member.stdin.close()
        for member in self._members:
            try:
                member.wait(_GRACE)
            except subprocess.TimeoutExpired:
                member.kill()
                member.wait()
            if member.stdout:
                member.stdout.close()
        self._members = []

    def __enter__(self) -> Team:  # noqa: PYI034 - Self is in typing since 3.11 only
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def run(
    team: Team, todo: Plan, *, progress: Callable[[int, int], None] = lambda _done, _total: None
) -> dict[int, list[Sample]]:
    """Take the planned readings, with the numbers of workers in a new order in each round.

    Args:
        team: At least as many processes as the plan's largest number.
        todo: The readings to take.
        progress: Called with the number of readings that are done, and their total.
    """
    found: dict[int, list[Sample]] = {count: [] for count in todo.counts}
    total = len(todo.counts) * todo.rounds
    order = random.Random(0)  # noqa: S311 - an order, not a secret
    for number in range(todo.rounds):
        for place, count in enumerate(order.sample(todo.counts, len(todo.counts))):
            found[count].append(team.sample(count, seconds=todo.seconds))
            progress(number * len(todo.counts) + place + 1, total)
    return found


def _start(command: list[str], size: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=settings.with_variables(threads.environment(size, size)),
    )


def _send(member: subprocess.Popen[str], line: str) -> None:
    if member.stdin is None:
        raise TaskError("a measuring process has no input")
    try:
        member.stdin.write(line)
        member.stdin.flush()
    except BrokenPipeError:
        _answer(member)  # it has ended; its last output says why


def _answer(member: subprocess.Popen[str]) -> str:
    line = member.stdout.readline().strip() if member.stdout else ""
    if not line:
        raise TaskError(
            f"a measuring process ended with exit status {member.wait()}", hint="see its last output above"
        )
    kind, _, rest = line.partition(" ")
    if kind == "failed":
        raise TaskError(f"the function failed: {rest}", hint="call it yourself with the same item")
    return rest
