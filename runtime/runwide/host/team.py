"""Processes that run one function at the same time, for a while, and report how often they got through it."""

from __future__ import annotations

import random
import subprocess
import sys
from typing import TYPE_CHECKING

from runwide import settings
from runwide.errors import TaskError
from runwide.host import threads
from runwide.host.measure import Plan, Sample

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import TracebackType


_GRACE = 5.0  # seconds that a process has to leave by itself


class Team:
    """Processes that wait for the word to run a function.

    They are plain processes of this interpreter, with one thread each for numerical libraries, and hold
    nothing but the function, so that what is measured is the machine.

    Args:
        size: Number of processes.
        function: ``module:name``, or empty for a built-in loop of arithmetic.
        items: Arguments, each as JSON; each process takes them in turn, one a call.

    Attributes:
        call: Seconds of one call, of the slowest process.

    Raises:
        TaskError: The function cannot be imported or fails.

    Example:
        >>> with Team(1) as team:
        ...     team.sample(1, seconds=0.05).throughput > 0
        True
    """

    def __init__(self, size: int, *, function: str = "", items: Sequence[str] = ()) -> None:
        command = [sys.executable, "-m", "runwide.host.team_member", function, *items]
        self._members: list[subprocess.Popen[str]] = []
        try:
            for _ in range(size):
                self._members.append(_start(command, size))
            self.call = max(float(_answer(member)) for member in self._members)
        except BaseException:
            self.close()
            raise

    def sample(self, workers: int, *, seconds: float) -> Sample:
        """Let so many processes work at once for about so many seconds."""
        busy = self._members[:workers]
        for member in busy:
            _tell(member, f"{seconds}\n")
        answers = [_answer(member).split() for member in busy]
        rates = [int(calls) / float(elapsed) for calls, elapsed, _ in answers]
        shares = [float(used) / float(elapsed) for _, elapsed, used in answers]
        return Sample(sum(rates), sum(shares) / workers)

    def close(self) -> None:
        """Send everybody home."""
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
    """Measure as planned, the numbers of workers in a new order each round.

    Args:
        team: At least as many processes as the plan's largest number.
        todo: What to measure.
        progress: Called with how many readings are done, and how many there are.
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


def _tell(member: subprocess.Popen[str], line: str) -> None:
    if member.stdin is None:
        raise TaskError("a measuring process has no input")
    try:
        member.stdin.write(line)
        member.stdin.flush()
    except BrokenPipeError:
        _answer(member)  # it left; its last words say why


def _answer(member: subprocess.Popen[str]) -> str:
    line = member.stdout.readline().strip() if member.stdout else ""
    if not line:
        raise TaskError(
            f"a measuring process ended with exit status {member.wait()}", hint="see its last words above"
        )
    kind, _, rest = line.partition(" ")
    if kind == "failed":
        raise TaskError(f"the function failed: {rest}", hint="call it by hand with the same item")
    return rest
