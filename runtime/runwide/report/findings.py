"""What the numbers mean in plain words, and what to do about it: pure functions of numbers."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from statistics import median
from typing import TYPE_CHECKING

from runwide.job.reference import quoted
from runwide.report import words

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from runwide.report.figures import Figures, Lost, ShardFigures, Times
    from runwide.report.story import Story

_UNEVEN = 1.5  # times the median from which a shard is called slow
_NOTICEABLE = 0.1  # share of the workers' time from which a loss is worth a sentence
_TIGHT = 0.85  # share of the memory from which it is called tight
_SPREAD = 10.0  # times the median from which a task is called a straggler


_CALL = "Call the function with one of them in a debugger; with store= runwide keeps the exact input, and replays it."


class Level(str, Enum):
    """How much a finding matters."""

    BAD = "bad"
    WARNING = "warning"
    NOTE = "note"
    GOOD = "good"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that the numbers say.

    Args:
        level: How much it matters.
        text: What was found.
        advice: What to do; empty where nothing needs doing.
    """

    level: Level
    text: str
    advice: str = ""


def of(story: Story, figures: Figures) -> list[Finding]:
    """All findings, those that matter most first."""
    host = next((log.run.host for log in story.runs), {})
    found = [
        *completeness(story.shards, story.finished, figures.killed_runs, job=story.reference),
        *failures(figures, job=story.reference),
        *out_of_memory(figures.out_of_memory, workers=int(host.get("workers") or 1)),
        *memory(figures.shards),
        *uneven_shards(figures.shards),
        *losses(figures.lost),
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
    """Whether everything has run.

    Example:
        >>> [finding.text for finding in completeness(4, 3, 0)]
        ['1 of 4 shards has not finished.']
    """
    if finished < shards:
        missing = shards - finished
        waiting = f"runwide wait {quoted(job)}"
        verb = "has" if missing == 1 else "have"
        yield Finding(
            Level.WARNING,
            f"{missing} of {shards} shards {verb} not finished.",
            f"Run them again{f' ({waiting})' if job else ''}: what was stored is kept, and only the rest is computed.",
        )
    if killed_runs:
        yield Finding(
            Level.WARNING,
            f"{words.count(killed_runs, 'run')} did not end in order: killed from outside, or still going on.",
            "If the container was killed for lack of memory, give it more, or use fewer workers.",
        )


def failures(figures: Figures, *, job: str = "") -> Iterator[Finding]:
    """What failed, and what it cost.

    Args:
        figures: The numbers.
        job: The job's reference; empty for a map that is stored nowhere.
    """
    if figures.failed:
        first = figures.failures[0] if figures.failures else None
        example = f" Item {first.item}: {first.detail or first.kind}." if first is not None else ""
        yield Finding(
            Level.BAD,
            f"{words.count(figures.failed, 'item')} of {figures.items} failed.{example}",
            _replay(job, first.item if first is not None else 0) if job else _CALL,
        )
    if figures.timeouts:
        yield Finding(
            Level.WARNING,
            f"{words.count(figures.timeouts, 'attempt')} ran into the timeout.",
            "Raise timeout= if these items are meant to take that long.",
        )
    died = figures.killed - figures.timeouts - figures.out_of_memory
    if died > 0:
        yield Finding(
            Level.WARNING,
            f"{words.count(died, 'worker')} died of a task; only that task was run again or given up.",
            "Look at the item below: native code that crashes, or a call of exit.",
        )
    wasted = figures.lost.share("wasted")
    if figures.retried and wasted > 0.01:  # noqa: PLR2004 - a hundredth is worth a sentence
        yield Finding(
            Level.NOTE,
            f"{words.count(figures.retried, 'attempt')} had to be made again; failed attempts took "
            f"{words.share(wasted)} of the workers' time.",
        )


def _replay(job: str, item: int) -> str:
    return (
        f"Replay it here with its exact input: runwide replay {quoted(job)} {item}. After a fix of the function, run only "
        f"what failed: runwide rerun {quoted(job)} --function MODULE:FUNCTION."
    )


def out_of_memory(kills: int, *, workers: int) -> Iterator[Finding]:
    """What kills for lack of memory ask for.

    Example:
        >>> next(out_of_memory(2, workers=4)).advice
        'Raise the memory of the component, or use 3 workers.'
    """
    if kills:
        fewer = f", or use {words.count(workers - 1, 'worker')}" if workers > 1 else ""
        yield Finding(
            Level.BAD,
            f"{words.count(kills, 'worker')} {words.verb(kills, 'was', 'were')} killed for lack of memory.",
            f"Raise the memory of the component{fewer}.",
        )


def memory(shards: Sequence[ShardFigures]) -> Iterator[Finding]:
    """How close to the limit the memory came."""
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
            f"{_in_shard(tightest, shards)}.",
            f"Raise it{fewer}.",
        )


def uneven_shards(shards: Sequence[ShardFigures]) -> Iterator[Finding]:
    """Whether one shard kept the others waiting."""
    if len(shards) < 2:  # noqa: PLR2004 - one has nobody to be compared with
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


def losses(lost: Lost) -> Iterator[Finding]:
    """Where the workers lost noticeable time."""
    advice = {
        "startup": (
            "went by before the first task: starting, importing, reading the job",
            "Give each component more work: use fewer of them.",
        ),
        "queueing": (
            "was spent waiting between tasks",
            "Return smaller results and pass smaller items, or do more in one item.",
        ),
        "stragglers": (
            "was spent waiting for the last tasks of a shard",
            "Put the longest items first, or split them.",
        ),
        "spill": (
            "was spent writing results after the last task",
            "Return less, or references instead of data; keep the bucket in the region of the components.",
        ),
        "unused": ("belonged to workers that never had a task", "Use fewer shards: there are too few items."),
    }
    for name, (what, todo) in advice.items():
        share = lost.share(name)
        seconds: float = getattr(lost, name)
        if share >= _NOTICEABLE and seconds > 1:
            yield Finding(Level.NOTE, f"{words.share(share)} of the workers' time {what}.", todo)


def stragglers(times: Times, *, wall: float) -> Iterator[Finding]:
    """Whether single tasks are far longer than the others."""
    if times.count and times.longest > _SPREAD * times.median and times.longest > _NOTICEABLE * wall:
        yield Finding(
            Level.WARNING,
            f"The longest task took {words.seconds(times.longest)}, {times.longest / max(times.median, 1e-6):,.0f} "
            f"{words.TIMES} the median, and {words.share(min(1.0, times.longest / wall) if wall else 0)} of the whole run.",
            "Split that item, or start it first.",
        )


def small_tasks(times: Times) -> Iterator[Finding]:
    """Whether tasks are too small to be worth a task each."""
    if times.count >= 1000 and times.median < 0.0005:  # noqa: PLR2004 - fewer, or longer ones, do not matter
        yield Finding(
            Level.NOTE,
            f"Half of the tasks took less than {words.seconds(times.median)}: handling them costs about as much.",
            "Put several into one item.",
        )


def cores(host: Mapping[str, float]) -> Iterator[Finding]:
    """How many workers the machine allowed.

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
            Level.NOTE, f"A CPU limit of {quota:g} holds {words.count(physical, 'core')} back: {used}."
        )
    elif logical > physical:
        yield Finding(Level.NOTE, f"{logical} vCPUs are {words.count(physical, 'core')}: {used}.")
    if usable and workers > usable:
        yield Finding(
            Level.NOTE,
            f"{workers} workers shared {words.count(usable, 'core')}.",
            "For work that computes, leave workers= out.",
        )
    elif usable and workers < usable:
        yield Finding(
            Level.NOTE,
            f"Only {words.count(workers, 'worker')} ran on {words.count(usable, 'core')}.",
            "Leave workers= out to use all, unless memory forbids it.",
        )


def waiting(cpu_seconds: float, worked: float) -> Iterator[Finding]:
    """Whether tasks computed, waited, or fought for cores.

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
            "More workers than cores (workers=) would overlap the waiting.",
        )
    elif share > 1.5:  # noqa: PLR2004 - clearly more than one thread
        yield Finding(
            Level.NOTE,
            f"Each task used {share:.1f} cores on average: its libraries start threads of their own.",
            "Set their thread count to 1, or use fewer workers.",
        )


def sampling(sampled: float, unreadable: int) -> Iterator[Finding]:
    """What the page does not show one by one."""
    if sampled < 1:
        yield Finding(
            Level.NOTE,
            f"A fair sample of {words.share(sampled)} of the tasks is shown one by one; totals and lost time are exact, "
            "all failures and retries are there.",
        )
    if unreadable:
        yield Finding(Level.WARNING, f"{words.count(unreadable, 'line')} of the events could not be read.")


def grouping(largest: int) -> Iterator[Finding]:
    """Whether tasks were timed together.

    Example:
        >>> next(grouping(512)).text
        'Short tasks were timed in groups of up to 512: of each, the mean of its group is shown.'
    """
    if largest > 1:
        yield Finding(
            Level.NOTE,
            f"Short tasks were timed in groups of up to {largest:,}: of each, the mean of its group is shown.",
            "To have each timed, listen: on_event=runwide.Recording(), or store=.",
        )


def well(figures: Figures) -> Iterator[Finding]:
    """What went well."""
    busy = figures.lost.share("useful")
    if busy >= 0.8 and figures.lost.total > 1:  # noqa: PLR2004 - of a second, nothing can be said
        yield Finding(Level.GOOD, f"The workers were busy with useful work {words.share(busy)} of the time.")
    if not figures.failed and figures.ended and figures.ended >= figures.items:
        yield Finding(Level.GOOD, "No item failed.")


def _in_shard(shard: ShardFigures, shards: Sequence[ShardFigures]) -> str:
    return f" (shard {shard.index})" if len(shards) > 1 else ""
