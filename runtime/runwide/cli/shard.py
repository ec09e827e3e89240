"""A shard as a pipeline's component runs it: what it does not need is not loaded, the reader of command lines included."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_WITH_TEXT = {"--workers": int, "--timeout": float, "--retries": int, "--manifest-out": str}
_ALONE = "--rerun-failed"


def read(words: Sequence[str]) -> dict[str, Any] | None:
    """The arguments of `run` in what stands behind ``runwide shard``, where that is as a pipeline's component has it.

    Returns:
        The arguments; None where the words are others, or wrong: the reader of all commands takes them then.

    Example:
        >>> read(["mem://j/job.json", "3", "--workers", "2"])
        {'job': 'mem://j/job.json', 'index': 3, 'workers': 2}
        >>> read(["mem://j/job.json", "--help"]), read(["mem://j/job.json", "three"])
        (None, None)
    """
    rest, places, found = iter(words), [], {}
    try:
        for word in rest:
            if word in _WITH_TEXT:
                found[_named(word)] = _WITH_TEXT[word](next(rest))
            elif word == _ALONE:
                found[_named(word)] = True
            elif word.startswith("-"):
                return None
            else:
                places.append(word)
        job, index = places
        read = {"job": job, "index": int(index), **found}
    except (ValueError, StopIteration):
        return None
    return read if found.get("workers", 1) >= 1 and found.get("retries", 0) >= 0 else None


def _named(option: str) -> str:
    return option[2:].replace("-", "_")


def run(job: str, index: int, *, manifest_out: Path | str | None = None, **options: Any) -> None:
    """Run a shard, print its reference, and write it where asked, in its short form.

    Args:
        job: The job's reference.
        index: Which shard.
        manifest_out: File to write it to.
        **options: Those of `runwide.job.shard`.
    """
    from pathlib import Path

    from runwide.cli import files
    from runwide.job import shard, short_reference
    from runwide.pool.preemption import leaves_on_sigterm

    with leaves_on_sigterm():
        reference = shard(job, index, **options)
    files.write(None if manifest_out is None else Path(manifest_out), short_reference(index, reference))
    sys.stdout.write(f"{reference}\n")
    sys.stdout.flush()
