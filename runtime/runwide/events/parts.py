"""The objects of a store in which the events of a run are kept, and the facts in their names.

The name of the last part of a run says how much of its machine the run used. So one listing of a job gives its core time,
however many shards it has, and nothing else is read or written for that.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from runwide.errors import IntegrityError, ObjectExists, ObjectNotFound, StoreNotReadable
from runwide.log import Log

if TYPE_CHECKING:
    from runwide.events.model import Run
    from runwide.store.base import Store

log = Log("job")

_NUMBER = r"(\d{1,9}(?:\.\d{1,3})?)"
_USED = re.compile(rf"shards/\d{{1,9}}/events(?:-\d+)?\.used-{_NUMBER}s-{_NUMBER}c-{_NUMBER}g\.jsonl")
_PART = re.compile(r"shards/(\d{1,9})/events(?:-\d+)?(?:\.used-[\d.cgs-]{1,40})?\.jsonl")
_BYTES = 64 << 20  # of a part that is read; parts of some 8 MiB are written


class Parts:
    """The parts of a run, written in order as ``events.jsonl``, ``events-0001.jsonl``, ….

    Args:
        store: The job's folder.
        folder: The shard's folder in it.
    """

    def __init__(self, store: Store, folder: str) -> None:
        self._store = store
        self._folder = folder
        self._next = 0

    def __call__(self, mark: str, data: bytes) -> None:
        """Write one part; the mark is that of `Used` for the last part, otherwise empty."""
        while True:  # an earlier run of the shard, or a copy of it, may have written some
            suffix = f"-{self._next:04d}" if self._next else ""
            self._next += 1
            try:
                return self._store.create(f"{self._folder}/events{suffix}{mark}.jsonl", data)
            except ObjectExists:
                continue


def read_part(store: Store, name: str) -> bytes | None:
    """Read one part; log a warning and return None if it cannot be read."""
    try:
        return bytes(store.read(name, most=_BYTES))
    except (IntegrityError, ObjectNotFound, StoreNotReadable) as error:
        log.warning("events.ignored", uri=store.child_uri(name), cause=str(error))
        return None


def shard_of(name: str) -> int | None:
    """Return the index of the shard whose events an object has; None for another object.

    Example:
        >>> shard_of("shards/0007/events-0001.jsonl"), shard_of("shards/0007/manifest.json")
        (7, None)
    """
    found = _PART.fullmatch(name)
    return int(found[1]) if found else None


@dataclass(frozen=True, slots=True)
class Used:
    """The share of its machine that a run used.

    Args:
        cpus: CPUs that it could use: those of its machine, or its quota if that is less.
        gib: Memory of its machine or container in GiB; 0 if unknown.
    """

    seconds: float
    cpus: float
    gib: float

    @classmethod
    def of(cls, run: Run, ended: float) -> Used:
        """Return the use of a run that ended at a Unix time."""
        cpus = float(run.host.get("logical") or run.host.get("workers") or 1)
        quota = float(run.host.get("quota") or cpus)
        gib = float(run.host.get("memory") or 0) / 2**30
        return cls(max(0.0, ended - run.started), min(cpus, quota), gib)

    def mark(self) -> str:
        """Return the part of an object's name that says it.

        Example:
            >>> Used(12.5, 4.0, 15.62).mark()
            '.used-12.5s-4c-15.62g'
        """
        numbers = (f"{value:.3f}".rstrip("0").rstrip(".") for value in (self.seconds, self.cpus, self.gib))
        return ".used-{}s-{}c-{}g".format(*numbers)


def of_name(name: str) -> Used | None:
    """Return the use that an object's name says; None if it says none.

    Example:
        >>> of_name("shards/0007/events-0001.used-12.5s-4c-15.62g.jsonl")
        Used(seconds=12.5, cpus=4.0, gib=15.62)
    """
    found = _USED.fullmatch(name)
    return Used(*map(float, found.groups())) if found else None
