"""Names of jobs: numbered records in a store, of which the newest valid one says which job has a name."""

from __future__ import annotations

import re
from itertools import dropwhile, islice
from typing import TYPE_CHECKING, Any

from runwide.errors import (
    BadReference,
    FormatTooNew,
    InputError,
    IntegrityError,
    ObjectExists,
    ObjectNotFound,
    StoreNotFound,
    StoreNotReadable,
)
from runwide.job import manifest, model
from runwide.job.flow import ahead
from runwide.job.plan import near
from runwide.job.reference import parse
from runwide.log import Log
from runwide.store import records
from runwide.store.base import open_store
from runwide.store.buffers import sha256
from runwide.store.records import arrived_damaged

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from os import PathLike

    from runwide.job.model import Job
    from runwide.store.base import Store

log = Log("job")

RESULTS = "results"
NOTHING = "nothing"
_FOLDER = "names"
_MOST = 1000  # records that are read to list all names
_READERS = 16
_NUMBER = re.compile(r"(?:-(\d{4,9}))?\.json")


def check_name(name: Any, reuse: Any) -> None:
    """Reject invalid values of ``name=`` and ``reuse=`` of `runwide.map`.

    Raises:
        InputError: The name is not a text or empty; ``reuse`` is unknown, or given without a name.

    Example:
        >>> check_name("scores", "results")
        >>> check_name("scores", "all")
        Traceback (most recent call last):
        runwide.errors.InputError: invalid reuse='all': expected 'results', 'nothing' or None; ...
    """
    if reuse is not None and not (isinstance(reuse, str) and reuse in (RESULTS, NOTHING)):
        raise InputError(
            f"invalid reuse={reuse!r}: expected {RESULTS!r}, {NOTHING!r} or None",
            hint="give one of these; without reuse=, a changed function is an error",
        )
    if name is None and reuse is not None:
        raise InputError(f"invalid reuse={reuse!r}: it needs the name of a job", hint="give name= as well")
    if name is None:
        return
    if not isinstance(name, str) or not _is_text(name):
        raise InputError(f"invalid name={name!r}: expected a text", hint="give name= a text in UTF-8")
    if name != name.strip():
        raise InputError(
            f"invalid name={name!r}: it begins or ends with a space", hint=f"give name={name.strip()!r}"
        )
    if not name:
        raise InputError(
            "invalid name='': it is empty", hint="give name= a text, or leave it out for a new job"
        )


def is_known(store: str | PathLike[str], name: str) -> bool:
    """Return whether a name has a job."""
    with open_store(store) as root:
        return newest(root, name)[0] is not None


def known(root: Store, *, since: float = 0.0) -> dict[str, list[str]]:
    """Return the names in a store, each with the ids of its jobs; only of valid records, and at most 1,000.

    This takes one listing, and one read for each record.

    Args:
        since: Unix time; records that were written before it are not read.
    """
    try:
        with root.sub(_FOLDER) as folder:
            late = (info.name for info in folder.list() if not info.written or info.written >= since)
            places = list(islice(late, _MOST))
    except StoreNotFound:  # nothing was written yet
        return {}
    found: dict[str, list[str]] = {}
    for one in ahead(lambda place: _named_at(root, f"{_FOLDER}/{place}"), places, threads=_READERS):
        if one is not None:
            found.setdefault(one[0], []).append(one[1])
    return found


def _named_at(root: Store, place: str) -> tuple[str, str] | None:
    """Return the name and the job's id in a record; None if the record is invalid."""
    try:
        record = records.read(root, place, "name", owner=None)
        job = parse(str(record.about["job"])).folder.rpartition("/")[2]
    except (IntegrityError, ObjectNotFound, StoreNotReadable, BadReference, FormatTooNew, KeyError):
        return None
    return (record.owner, job) if place.startswith(f"{_FOLDER}/{sha256(record.owner.encode())}") else None


def newest(root: Store, name: str) -> tuple[Job | None, int]:
    """Find the newest job of a name.

    A forged record, and a record whose job was removed, is ignored: then the record before it counts.

    Returns:
        The job or None, and the number of the name's next record.
    """
    numbers = _numbers(root, name)
    return next(_jobs(root, name, numbers), None), numbers[-1] + 1 if numbers else 0


def previous(root: Store, job: Job, *, since: float) -> tuple[str, Job | None]:
    """Find the name of a job, and the last job of that name before it.

    Args:
        since: Unix time; the record of its name is not older.

    Returns:
        The name, empty if the job has none, and the job before it.
    """
    name = next((name for name, ids in known(root, since=since).items() if job.id in ids), "")
    jobs = _jobs(root, name, _numbers(root, name)) if name else iter(())
    before = (one for one in dropwhile(lambda one: one.id != job.id, jobs) if one.id != job.id)
    return name, next(before, None)


def _jobs(root: Store, name: str, numbers: Sequence[int]) -> Iterator[Job]:
    """Yield the jobs of a name, the newest first."""
    for number in reversed(numbers):
        job = _job(root, name, number)
        if job is not None:
            yield job


def claim(root: Store, name: str, job: Job, number: int) -> tuple[Job | None, int]:
    """Give a name to a job, unless another call has given it to its own job meanwhile.

    Invalid records are not deleted, since a bucket may not allow that; the next number is tried.

    Args:
        number: The number that `newest` or an earlier call returned.

    Returns:
        The job of the other call, or None if this job has the name now; and the number of the next record.
    """
    about = {"job": f"{job.id}/{model.JOB}#sha256={job.digest}"}
    while True:
        place = place_of(name, number)
        try:
            root.create(place, records.written("name", about, owner=name, place=place))
        except ObjectExists:
            theirs = _job(root, name, number)
            number += 1
            if theirs is not None:
                return theirs, number
        else:
            return None, number + 1


def place_of(name: str, number: int = 0) -> str:
    """Return the name of a record's object in the store.

    Example:
        >>> place_of("n", 2)[-15:]
        '83db9-0002.json'
    """
    return f"{_FOLDER}/{sha256(name.encode())}{f'-{number:04d}' if number else ''}.json"


def _numbers(root: Store, name: str) -> list[int]:
    """Return the numbers of a name's records, in order. A lifecycle rule may have deleted the first ones."""
    start = sha256(name.encode())
    try:
        with root.sub(_FOLDER) as folder:
            found = [_NUMBER.fullmatch(info.name.removeprefix(start)) for info in folder.list(start)]
    except StoreNotFound:  # nothing was written yet
        return []
    numbers = [int(match[1] or 0) for match in found if match]
    first = min(numbers, default=0)
    return [first + number for number in near(number - first for number in numbers)]


def _job(root: Store, name: str, number: int) -> Job | None:
    """Return the job in a record; None if the job was removed or the record is invalid."""
    try:
        found = _record(root, name, number)
        return None if found is None else _named(root, name, number, found)
    except (ObjectNotFound, StoreNotFound):
        return None


def _record(root: Store, name: str, number: int) -> records.Record | None:
    try:
        return records.read(root, place_of(name, number), "name", owner=name)
    except (IntegrityError, StoreNotReadable) as error:
        if arrived_damaged(error):
            raise
        _log_ignored(root, name, number, error)
        return None


def _named(root: Store, name: str, number: int, found: records.Record) -> Job | None:
    try:
        job = parse(str(found.about.get("job")))
        return manifest.read_job(f"{root.child_uri(job.uri)}#sha256={job.digest}")
    except (IntegrityError, FormatTooNew, BadReference) as error:
        if arrived_damaged(error) or (found.vouched and isinstance(error, FormatTooNew)):
            raise
        _log_ignored(root, name, number, error)
        return None


def _log_ignored(root: Store, name: str, number: int, error: Exception) -> None:
    log.warning("name.ignored", name=name, uri=root.child_uri(place_of(name, number)), cause=str(error))


def _is_text(name: str) -> bool:
    """Return whether a name is valid in UTF-8, which a file name from the command line may not be."""
    return name.encode(errors="replace").decode() == name
