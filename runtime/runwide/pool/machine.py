"""What a pool asks of its machine before the first worker starts; a shard has it found out by the process that waits.

What looks is loaded where it looks: it takes longer than the rest of such a start.
"""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

from runwide.errors import InputError
from runwide.pool import spare

Workers: TypeAlias = "int | str | None"


class Memory(NamedTuple):
    """The memory of this container before there is any worker.

    Args:
        size: Bytes that there are; None where nothing says.
        oom_kills: Processes that the kernel has killed for want of it so far.
        kills_all: Whether it then kills all of them.
        available: Bytes that are left; None where nothing says.
    """

    size: int | None
    oom_kills: int
    kills_all: bool
    available: int | None


class Found(NamedTuple):
    """All of it.

    Args:
        workers: The number of workers that was asked for, as in `environments`.
        environments: The variables of each.
        temporary: The directory for temporary files.
        memory: The memory.
    """

    workers: Workers
    environments: list[dict[str, str]]
    temporary: str
    memory: Memory


def find(workers: Workers) -> Found:
    """Look for all of it, on behalf of another process.

    Example:
        >>> find(3).environments == environments(3)
        True
    """
    return Found(workers, _environments(workers), temporary(), memory())


def environments(workers: Workers) -> list[dict[str, str]]:
    """The variables of each worker: its share of the threads, and its device where there is one for each.

    Args:
        workers: How many; None for one per core, ``"per-gpu"`` for one per visible NVIDIA device.

    Raises:
        InputError: It is none of these, or ``RUNWIDE_WORKERS`` is no number.

    Example:
        >>> len(environments(3))
        3
    """
    found = told()
    return found.environments if found is not None and found.workers == workers else _environments(workers)


def temporary() -> str:
    """The directory for temporary files, as `tempfile.gettempdir` has it."""
    found = told()
    if found is not None:
        return found.temporary
    import tempfile

    return tempfile.gettempdir()


def memory() -> Memory:
    """The memory, as it is now."""
    from runwide.host import memory

    found = memory.read()
    return Memory(found.size, found.oom_kills or 0, found.kills_all, found.available)


def told() -> Found | None:
    """What the process that waits has found; None where nobody waits any more, or it could not."""
    found: Found | None = spare.answer()
    return found


def _environments(workers: Workers) -> list[dict[str, str]]:
    from runwide import host
    from runwide.host import threads

    if isinstance(workers, str):
        if workers != "per-gpu":
            raise InputError(f"workers={workers!r} is neither a number nor 'per-gpu'")
        from runwide.host import gpu  # for those who have some

        devices = gpu.per_gpu()
        if not devices:
            raise InputError("no NVIDIA device is visible here", hint="leave workers out for one per core")
        shared = threads.environment(len(devices), host.cores())
        return [{**shared, **device} for device in devices]
    found = host.cores(workers=workers)
    return [threads.environment(found.count, found)] * found.count
