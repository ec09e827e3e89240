"""The numbered records of a store that say which job a name has; the newest one that may be believed counts."""

from __future__ import annotations

import re
from itertools import islice
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
from runwide.job import fields, manifest
from runwide.job.flow import ahead
from runwide.job.reference import parse
from runwide.log import Log
from runwide.spill import records
from runwide.spill.buffers import sha256
from runwide.spill.store import open_store
from runwide.spill.verified import arrived_damaged

if TYPE_CHECKING:
    from os import PathLike

    from runwide.job.manifest import Job
    from runwide.spill.store import Store

log = Log("job")

RESULTS = "results"
NOTHING = "nothing"
_FOLDER = "names"
_MOST = 1000  # records that are read where all names are wanted
_READERS = 16
_NUMBER = re.compile(r"(?:-(\d{4,9}))?\.json")


def check(name: Any, reuse: Any) -> None:
    """Reject an invalid name of a job, and an invalid word for what a call reuses of it.

    Args:
        name: As for `runwide.map`.
        reuse: As for `runwide.map`.

    Raises:
        InputError: The name is empty or no text; ``reuse`` is another word, or there is no name.

    Example:
        >>> check("scores", "results")
        >>> check("scores", "all")
        Traceback (most recent call last):
        runwide.errors.InputError: invalid reuse='all': expected 'results', 'nothing' or None; ...
    """
    if reuse is not None and not (isinstance(reuse, str) and reuse in (RESULTS, NOTHING)):
        raise InputError(
            f"invalid reuse={reuse!r}: expected {RESULTS!r}, {NOTHING!r} or None",
            hint="give one of these, or leave it out: then a function that has changed is an error",
        )
    if name is None and reuse is not None:
        raise InputError(
            f"reuse={reuse!r} is about a job of a name, and there is none", hint="give name= as well"
        )
    if name is None:
        return
    if not isinstance(name, str) or not _is_text(name):
        raise InputError(f"{name!r} is not a job's name, which is some text", hint="give name= another one")
    if name != name.strip():
        raise InputError(
            f"invalid name {name!r}: it begins or ends with a space", hint=f"give name={name.strip()!r}"
        )
    if not name:
        raise InputError("a job's name is empty", hint="give name= some text, or leave it out for a new job")


def is_known(store: str | PathLike[str], name: str) -> bool:
    """Whether a name has a job."""
    with open_store(store) as root:
        return newest(root, name)[0] is not None


def known(root: Store, *, since: float = 0.0) -> dict[str, list[str]]:
    """The names of a store, each with the ids of its jobs, as far as they are believed; of very many, the first 1,000.

    One listing, and one read for each record.

    Args:
        root: The store.
        since: Unix time; records that are surely older are not read.
    """
    try:
        with root.sub(_FOLDER) as folder:
            late = (info.name for info in folder.list() if not info.written or info.written >= since)
            places = list(islice(late, _MOST))
    except StoreNotFound:  # nothing was ever written there
        return {}
    found: dict[str, list[str]] = {}
    for one in ahead(lambda place: _named_at(root, f"{_FOLDER}/{place}"), places, threads=_READERS):
        if one is not None:
            found.setdefault(one[0], []).append(one[1])
    return found


def _named_at(root: Store, place: str) -> tuple[str, str] | None:
    """The name and the job's id of a record; None for what is none."""
    try:
        record = records.read(root, place, "name", owner=None)
        job = parse(str(record.about["job"])).folder.rpartition("/")[2]
    except (IntegrityError, ObjectNotFound, StoreNotReadable, BadReference, FormatTooNew, KeyError):
        return None
    return (record.owner, job) if place.startswith(f"{_FOLDER}/{sha256(record.owner.encode())}") else None


def newest(root: Store, name: str) -> tuple[Job | None, int]:
    """Find the newest job of a name.

    A record that leads nowhere is passed over, and so is one that was planted: the one before it counts.

    Returns:
        The job or None, and the number of the name's next record.
    """
    numbers = _numbers(root, name)
    for number in reversed(numbers):
        job = _job(root, name, number)
        if job is not None:
            return job, numbers[-1] + 1
    return None, numbers[-1] + 1 if numbers else 0


def claim(root: Store, name: str, job: Job, number: int) -> tuple[Job | None, int]:
    """Give a name a job, unless another call has given it one in the meantime.

    Objects that lead nowhere stay where they are, since a bucket may forbid to delete; the next number is tried.

    Args:
        root: The store.
        name: The name.
        job: The job.
        number: The number that `newest` returned, or this function.

    Returns:
        The other call's job, and the number after it; None once the name is this job's.
    """
    about = {"job": f"{job.id}/{manifest.JOB}#sha256={job.digest}"}
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
    """Name of a record in the store.

    Example:
        >>> place_of("n", 2)[-15:]
        '83db9-0002.json'
    """
    return f"{_FOLDER}/{sha256(name.encode())}{f'-{number:04d}' if number else ''}.json"


def _numbers(root: Store, name: str) -> list[int]:
    """The numbers of a name's records, in order. The first ones may have been deleted by a lifecycle rule."""
    start = sha256(name.encode())
    try:
        with root.sub(_FOLDER) as folder:
            found = [_NUMBER.fullmatch(info.name.removeprefix(start)) for info in folder.list(start)]
    except StoreNotFound:  # nothing was ever written there
        return []
    numbers = [int(match[1] or 0) for match in found if match]
    first = min(numbers, default=0)
    return [first + number for number in fields.near(number - first for number in numbers)]


def _job(root: Store, name: str, number: int) -> Job | None:
    """The job to which a record leads; None where it is deleted, or nobody who may be believed has written it."""
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
        _ignored(root, name, number, error)
        return None


def _named(root: Store, name: str, number: int, found: records.Record) -> Job | None:
    try:
        job = parse(str(found.about.get("job")))
        return manifest.read_job(f"{root.child_uri(job.uri)}#sha256={job.digest}")
    except (IntegrityError, FormatTooNew, BadReference) as error:
        if arrived_damaged(error) or (found.vouched and isinstance(error, FormatTooNew)):
            raise
        _ignored(root, name, number, error)
        return None


def _ignored(root: Store, name: str, number: int, error: Exception) -> None:
    log.warning("name.ignored", name=name, uri=root.child_uri(place_of(name, number)), cause=str(error))


def _is_text(name: str) -> bool:
    """Whether it is more than the bytes of a file name that is none in UTF-8."""
    return name.encode(errors="replace").decode() == name
