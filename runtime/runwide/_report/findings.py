"""Explain the numbers in words, and advise what to do; pure functions of numbers."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from statistics import median
from typing import TYPE_CHECKING

from runwide import words
from runwide.causes import FINDINGS
from runwide.job.reference import quoted
from runwide.records import FailureKind

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from runwide._report.figures import Figures, Lost, ShardFigures, Times
    from runwide._report.reading import Story

_UNEVEN = 1.5  # times the median: a shard that takes longer is slow
_NOTICEABLE = 0.1  # share of the workers' time: a larger loss is a finding
_TIGHT = 0.85  # share of the memory limit: a higher peak is a finding
_SPREAD = 10.0  # times the median: a task that takes longer is a straggler

_IMPORTABLE = re.compile(r"(?!__main__)[a-zA-Z_][\w.]*:[a-zA-Z_][\w.]*")
_VARIABLE = re.compile(
    r"""(?<!\w)(['"`]).*?\1(?!\w)|0x[0-9a-f]+|[-+]?\d+(?:[.,]\d+)*(?:e[-+]?\d+)?""", re.IGNORECASE
)
_FIXED = (
    "To run a corrected function instead, move it into a module, and add the names of both to `runwide rerun`, "
    "such as `--function shop:score`."
)
_CALL = "Call the function with the item in a debugger. If the call has `store=`, runwide keeps the item and can replay it."


class Level(str, Enum):
    """Weight of a finding, the highest first."""

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"
    GOOD = "good"


@dataclass(frozen=True, slots=True)
class Finding:
    """A fact that the numbers show.

    Args:
        advice: What to do, with code between backticks; empty if there is nothing to do.
        commands: Commands that help: the purpose of each, and the command.
    """

    level: Level
    text: str
    advice: str = ""
    commands: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        commands = (f"{purpose}: {command}" for purpose, command in self.commands)
        return " ".join(filter(None, (self.text, self.advice, *commands)))


@dataclass(frozen=True, slots=True)
class Alike:
    """A group of messages that are alike.

    Args:
        example: The first of them.
        same: Whether all of them have the same text.
    """

    example: str
    count: int
    same: bool


def explain(story: Story, figures: Figures) -> list[Finding]:
    """Return all findings, the most important first."""
    host = next((log.run.host for log in story.runs), {})
    found = [
        *completeness(story.shards, story.finished, figures.killed_runs, job=story.reference),
        *failures(figures, job=story.reference, function=story.function),
        *out_of_memory(figures.out_of_memory, workers=int(host.get("workers") or 1)),
        *memory(figures.shards),
        *uneven_shards(figures.shards),
        *losses(figures.lost, shards=story.shards),
        *stragglers(figures.times, wall=figures.wall),
        *small_tasks(figures.times),
        *cores(host),
        *waiting(figures.cpu_seconds, figures.lost.useful + figures.lost.wasted),
        *sampling(figures.sampled, story.unreadable),
        *grouping(max((one.count for log in story.runs for one in log.attempts), default=1)),
        *well(figures),
    ]
    order = list(Level)
    return sorted(found, key=lambda finding: order.index(finding.level))


def completeness(shards: int, finished: int, killed_runs: int, *, job: str = "") -> Iterator[Finding]:
    """Report shards and runs that have not ended.

    Args:
        job: Reference of the job; empty if it is not stored.

    Example:
        >>> [finding.text for finding in completeness(4, 3, 0)]
        ['1 of 4 shards has not finished.']
    """
    if finished < shards:
        missing = shards - finished
        yield Finding(
            Level.WARNING,
            f"{missing} of {shards} shards {words.verb(missing, 'has', 'have')} not finished.",
            "Run them again: only items without a stored result are computed.",
            (("Wait for them, and resubmit runs that have stopped", f"runwide wait {quoted(job)}"),)
            if job
            else (),
        )
    if killed_runs:
        yield Finding(
            Level.WARNING,
            f"{words.count(killed_runs, 'run')} did not end in order: killed from outside, or still going on.",
            "If the container ran out of memory, give it more memory, or use fewer workers.",
        )


def failures(figures: Figures, *, job: str = "", function: str = "") -> Iterator[Finding]:
    """Report failed items and attempts.

    Args:
        job: Reference of the job; empty if it is not stored.
    """
    if figures.failed:
        first = figures.failures[0] if figures.failures else None
        example = f" Item {first.item}: {first.detail or first.kind}." if first is not None else ""
        yield Finding(
            Level.ERROR,
            f"{words.count(figures.failed, 'item')} of {figures.items} failed.{example}",
            _CALL if not job else "" if _IMPORTABLE.fullmatch(function) else _FIXED,
            _commands(job, first.item if first is not None else 0, function) if job else (),
        )
    yield from _of_cause(FailureKind.TIMEOUT, figures.timeouts)
    died = figures.killed - figures.timeouts - figures.out_of_memory
    yield from _of_cause(FailureKind.CRASH, died)
    wasted = figures.lost.share("wasted")
    if figures.retried and wasted > 0.01:  # noqa: PLR2004 - less is no finding
        yield Finding(
            Level.NOTE,
            f"{words.count(figures.retried, 'attempt')} had to be repeated; failed attempts took "
            f"{words.share(wasted)} of the workers' time.",
        )


def _commands(job: str, item: int, function: str) -> tuple[tuple[str, str], ...]:
    again, purpose = f"runwide rerun {quoted(job)}", "Run only the failed items, with the stored function"
    if _IMPORTABLE.fullmatch(function):
        again, purpose = (
            f"{again} --function {function}",
            "After a fix of the function, run only the failed items",
        )
    return (
        ("Replay it here with the same input", f"runwide replay {quoted(job)} {item} --pdb"),
        (purpose, again),
    )


def alike(messages: Iterable[str]) -> list[Alike]:
    """Group messages that differ in numbers and quoted texts only, the largest group first.

    A message that is alone in its group is left out.

    Example:
        >>> [(one.example, one.count) for one in alike(["cannot use 7", "cannot use 57", "no file 'a'"])]
        [('cannot use 7', 2)]
    """
    groups: dict[str, list[str]] = {}
    for message in messages:
        groups.setdefault(_VARIABLE.sub("?", message), []).append(message)
    largest = sorted(groups.values(), key=len, reverse=True)
    return [Alike(some[0], len(some), len(set(some)) == 1) for some in largest if len(some) > 1]


def out_of_memory(kills: int, *, workers: int) -> Iterator[Finding]:
    """Report workers that were killed for lack of memory.

    Example:
        >>> next(out_of_memory(2, workers=4)).advice
        'Raise the memory of the component, or use 3 workers.'
    """
    fewer = f", or use {words.count(workers - 1, 'worker')}" if workers > 1 else ""
    yield from _of_cause(FailureKind.OUT_OF_MEMORY, kills, or_fewer_workers=fewer)


def _of_cause(kind: FailureKind, number: int, **advice: str) -> Iterator[Finding]:
    """Yield the finding about attempts that failed for one kind of causes, if there are any."""
    if number > 0:
        row = FINDINGS[kind]
        text = f"{words.count(number, row.noun)} {words.verb(number, row.one, row.many)}"
        yield Finding(Level.ERROR if row.is_error else Level.WARNING, text, row.advice.format(**advice))


def memory(shards: Sequence[ShardFigures]) -> Iterator[Finding]:
    """Report a peak of memory that is near the limit."""
    known = [shard for shard in shards if shard.memory and shard.peak]
    if not known:
        return
    tightest = max(known, key=lambda shard: shard.peak / shard.memory)
    share = tightest.peak / tightest.memory
    if share >= _TIGHT:
        fewer = f", or use {words.count(tightest.workers - 1, 'worker')}" if tightest.workers > 1 else ""
        yield Finding(
            Level.WARNING,
            f"Peak memory was {words.share(share)} of the limit of {words.size(tightest.memory)}"
            f"{f' (shard {tightest.index})' if len(shards) > 1 else ''}.",
            f"Raise it{fewer}.",
        )


def uneven_shards(shards: Sequence[ShardFigures]) -> Iterator[Finding]:
    """Report a shard that took much longer than the others."""
    if len(shards) < 2:  # noqa: PLR2004 - a comparison needs two
        return
    slowest = max(shards, key=lambda shard: shard.seconds)
    typical = median(shard.seconds for shard in shards)
    if typical > 0 and slowest.seconds > _UNEVEN * typical and slowest.seconds - typical > 1:
        yield Finding(
            Level.WARNING,
            f"Shard {slowest.index} took {slowest.seconds / typical:.1f} {words.TIMES} the median shard "
            f"({words.seconds(slowest.seconds)} against {words.seconds(typical)}).",
            "Mix long and short items (shuffle them), or use more, smaller shards.",
        )


def losses(lost: Lost, *, shards: int = 1) -> Iterator[Finding]:
    """Report large losses of the workers' time.

    Args:
        shards: Number of shards of the job; 1 for a map on one machine.
    """
    several = shards > 1
    advice = {
        "startup": (
            "passed before the first task: starting, importing, reading the job",
            "Give each component more work: use fewer of them."
            if several
            else "Pass more items in a call, or import less.",
        ),
        "queueing": (
            "was spent waiting between tasks",
            "Return smaller results, pass smaller items, or do more work in one item.",
        ),
        "stragglers": (
            "was spent waiting for the last tasks of a shard",
            "Put the longest items first, or split them.",
        ),
        "spill": (
            "was spent writing results after the last task",
            "Return less data, or references to data. Keep the bucket in the region of the components.",
        ),
        "unused": (
            "belonged to workers that never had a task",
            f"Use fewer {'shards' if several else 'workers'}: there are too few items.",
        ),
    }
    for name, (what, todo) in advice.items():
        share = lost.share(name)
        seconds: float = getattr(lost, name)
        if share >= _NOTICEABLE and seconds > 1:
            yield Finding(Level.NOTE, f"{words.share(share)} of the workers' time {what}.", todo)


def stragglers(times: Times, *, wall: float) -> Iterator[Finding]:
    """Report a task that took far longer than the others."""
    if times.count and times.longest > _SPREAD * times.median and times.longest > _NOTICEABLE * wall:
        yield Finding(
            Level.WARNING,
            f"The longest task took {words.seconds(times.longest)}, {times.longest / max(times.median, 1e-6):,.0f} "
            f"{words.TIMES} the median, and {words.share(min(1.0, times.longest / wall) if wall else 0)} of the whole run.",
            "Split that item, or put it first.",
        )


def small_tasks(times: Times) -> Iterator[Finding]:
    """Report tasks that are too short for one item each."""
    if times.count >= 1000 and times.median < 0.0005:  # noqa: PLR2004 - fewer, or longer ones, do not matter
        yield Finding(
            Level.NOTE,
            f"Half of the tasks took less than {words.seconds(times.median)}: handling them costs about as much.",
            "Put several into one item.",
        )


def cores(host: Mapping[str, float]) -> Iterator[Finding]:
    """Explain the number of workers.

    Example:
        >>> next(cores({"logical": 4, "physical": 2, "workers": 2})).text
        '4 vCPUs are 2 cores: 2 workers were used.'
    """
    logical, physical, workers = (int(host.get(name) or 0) for name in ("logical", "physical", "workers"))
    quota, usable = host.get("quota"), int(host.get("usable") or 0)
    if not physical or not workers:
        return
    used = f"{words.count(workers, 'worker')} {words.verb(workers, 'was', 'were')} used"
    if quota and quota < physical:
        yield Finding(
            Level.NOTE, f"A CPU limit of {quota:g} restricts {words.count(physical, 'core')}: {used}."
        )
    elif logical > physical:
        yield Finding(Level.NOTE, f"{logical} vCPUs are {words.count(physical, 'core')}: {used}.")
    if usable and workers > usable:
        yield Finding(
            Level.NOTE,
            f"{workers} workers shared {words.count(usable, 'core')}.",
            "For tasks that compute, leave `workers=` out.",
        )
    elif usable and workers < usable:
        yield Finding(
            Level.NOTE,
            f"Only {words.count(workers, 'worker')} ran on {words.count(usable, 'core')}.",
            "Leave `workers=` out to use all cores, unless memory is too small.",
        )


def waiting(cpu_seconds: float, worked: float) -> Iterator[Finding]:
    """Report tasks that waited most of their time, or used more than one core.

    Example:
        >>> next(waiting(20.0, 100.0)).text
        'Tasks waited 80 % of their time: for a network, a disk, or a sleep.'
    """
    if worked < 1:
        return
    share = cpu_seconds / worked
    if share < 0.5:  # noqa: PLR2004 - more waiting than computing
        yield Finding(
            Level.NOTE,
            f"Tasks waited {words.share(1 - share)} of their time: for a network, a disk, or a sleep.",
            "More workers than cores (`workers=`) would overlap the waiting.",
        )
    elif share > 1.5:  # noqa: PLR2004 - clearly more than one thread
        yield Finding(
            Level.NOTE,
            f"Each task used {share:.1f} cores on average: its libraries start threads.",
            "Set the thread count of the libraries to 1, or use fewer workers.",
        )


def sampling(sampled: float, unreadable: int) -> Iterator[Finding]:
    """Report events that are sampled or unreadable."""
    if sampled < 1:
        yield Finding(
            Level.NOTE,
            f"A fair sample of {words.share(sampled)} of the tasks is shown one by one. Totals and lost time are exact, "
            "and all failures and retries are shown.",
        )
    if unreadable:
        yield Finding(Level.WARNING, f"{words.count(unreadable, 'line')} of the events could not be read.")


def grouping(largest: int) -> Iterator[Finding]:
    """Report tasks that were timed in groups.

    Example:
        >>> next(grouping(512)).text
        'Short tasks were timed in groups of up to 512: each is shown with the mean of its group.'
    """
    if largest > 1:
        yield Finding(
            Level.NOTE,
            f"Short tasks were timed in groups of up to {largest:,}: each is shown with the mean of its group.",
            "To time each task, give `on_event=runwide.Recording()` or `store=`.",
        )


def well(figures: Figures) -> Iterator[Finding]:
    """Report a good result."""
    busy = figures.lost.share("useful")
    if busy >= 0.8 and figures.lost.total > 1:  # noqa: PLR2004 - a second is too short to tell
        yield Finding(Level.GOOD, f"The workers were busy with useful work {words.share(busy)} of the time.")
    if not figures.failed and figures.ended and figures.ended >= figures.items:
        yield Finding(Level.GOOD, "No item failed.")
