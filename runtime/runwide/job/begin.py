"""A job that is begun once under a name, and found again by whoever calls the same map later."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from runwide.errors import (
    BadReference,
    FormatTooNew,
    InputError,
    IntegrityError,
    ObjectExists,
    ObjectNotFound,
    StoreError,
    StoreNotFound,
    StoreNotReadable,
)
from runwide.job import housekeeping, manifest
from runwide.job.given import Given
from runwide.job.reference import parse
from runwide.job.scatter import packs_of, scatter_pickled
from runwide.log import Log
from runwide.naming import full_name_of
from runwide.spill import records, signing
from runwide.spill.buffers import sha256
from runwide.spill.file import spilled_to
from runwide.spill.store import open_inside, open_store
from runwide.spill.verified import arrived_damaged

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from os import PathLike

    from runwide.job.manifest import Job
    from runwide.spill.store import Store

log = Log("job")


def begun(
    function: Callable[[Any], Any],
    items: Iterable[Any],
    *,
    store: str | PathLike[str],
    shards: int,
    name: str | None = None,
) -> str:
    """As `runwide.job.scatter`, but a job that was begun under the same name is found again.

    Whoever runs the job runs what lies in the store. So a job is found only if it has this call's function and items, byte
    for byte, or if a signing key vouches for it.

    Args:
        function: As for `scatter`.
        items: As for `scatter`.
        store: As for `scatter`.
        shards: As for `scatter`, for a new job.
        name: The job's name in the store; None for a new job in any case.

    Raises:
        InputError: The job of that name is another one.

    Example:
        >>> first = begun(abs, [-1, -2], store="memory://doc-begun", shards=2, name="absolute")
        >>> first == begun(abs, [-1, -2], store="memory://doc-begun", shards=2, name="absolute")
        True
    """
    return begun_or_found(function, items, store=store, shards=shards, name=name).job.reference


def begun_or_found(
    function: Callable[[Any], Any],
    items: Iterable[Any],
    *,
    store: str | PathLike[str],
    shards: int,
    name: str | None = None,
) -> Found:
    """As `begun`, with whether the job was found.

    Args:
        function: As for `begun`.
        items: As for `begun`.
        store: As for `begun`.
        shards: As for `begun`.
        name: As for `begun`.
    """
    from runwide.pool import function_bytes

    inputs = items if isinstance(items, Sequence) else list(items)
    given = Given(function_bytes(function), inputs, function)
    found = begin(given, store=store, shards=shards, name=name, function_name=full_name_of(function))
    if not found.same and signing.key() is None:
        raise InputError(
            f"the job {name!r} has another function than this call",
            uri=found.job.uri,
            hint="give another name=; or, if it is the same and only pickles differently in each process, set a "
            "signing key (SECURITY.md)",
        )
    return found


@dataclass(frozen=True, slots=True)
class Found:
    """A job that can be run, and whether what it would run is vouched for.

    Args:
        job: The job.
        same: Its function and items are, byte for byte, those of this call.
        fresh: It was made by this call, so nobody has stored results of it.
    """

    job: Job
    same: bool
    fresh: bool


def begin(
    given: Given,
    *,
    store: str | PathLike[str],
    shards: int,
    name: str | None,
    function_name: str,
    job_id: str | None = None,
) -> Found:
    """Scatter a map, or find the job that an earlier call has scattered under the same name.

    What is found was put there by whoever may write to the store. So its items are held against those of this call,
    and of the function it is told whether it is the same.

    Args:
        given: The function and the items.
        store: Where jobs and their names lie.
        shards: How many, for a new job.
        name: The job's name in the store; None for a new job in any case.
        function_name: For people.
        job_id: The id of a new job that was prepared.

    Raises:
        InputError: The job of that name has other items.
    """

    def scattered() -> Job:
        made = scatter_pickled(
            given.function, given.items, store=store, shards=shards, name=function_name, job_id=job_id
        )
        return manifest.read_job(made)

    if name is None:
        return Found(scattered(), same=True, fresh=True)
    check_name(name)
    with open_store(store) as root:
        found, number = _find(root, name)
        if found is None:
            mine = scattered()
            found = _claim(root, name, mine, number)
            if found == mine:
                return Found(mine, same=True, fresh=True)
            _given_up(mine)  # another copy of this call was first
    return _checked(found, given, name)


def check_name(name: Any) -> None:
    """Reject an invalid name of a job.

    Raises:
        InputError: It is empty, or no text.
    """
    if not name:
        raise InputError("a job's name is empty", hint="give name= some text, or leave it out for a new job")
    if not isinstance(name, str) or not _is_text(name):
        raise InputError(f"{name!r} is not a job's name, which is some text", hint="give name= another one")


def is_known(store: str | PathLike[str], name: str) -> bool:
    """Whether a name has a job."""
    with open_store(store) as root:
        return _find(root, name)[0] is not None


def _find(root: Store, name: str) -> tuple[Job | None, int]:
    """The job of a name, if any; and the first number that no object of the name has."""
    number = 0
    while True:
        try:
            found = _record(root, name, number)
        except (ObjectNotFound, StoreNotFound):
            return None, number
        job = None if found is None else _named(root, name, number, found)
        number += 1
        if job is not None:
            return job, number


def _record(root: Store, name: str, number: int) -> records.Record | None:
    """What an object says of a name; None where nobody who may be believed has written it."""
    place = _object(name, number)
    try:
        return records.read(root, place, "name", owner=name, place=_object(name))
    except (IntegrityError, StoreNotReadable) as error:
        if arrived_damaged(error):
            raise
        _ignored(root, name, number, error)
        return None


def _named(root: Store, name: str, number: int, found: records.Record) -> Job | None:
    """The job to which a record leads; None where it is deleted, or cannot be meant."""
    try:
        job = parse(str(found.about.get("job")))
        return manifest.read_job(f"{root.child_uri(job.uri)}#sha256={job.digest}")
    except (ObjectNotFound, StoreNotFound):
        return None
    except (IntegrityError, FormatTooNew, BadReference) as error:
        if arrived_damaged(error) or (found.vouched and isinstance(error, FormatTooNew)):
            raise
        _ignored(root, name, number, error)
        return None


def _ignored(root: Store, name: str, number: int, error: Exception) -> None:
    log.warning("name.ignored", name=name, uri=root.child_uri(_object(name, number)), cause=str(error))


def _claim(root: Store, name: str, job: Job, number: int) -> Job:
    """Give a job its name, unless another one has got it in the meantime; says whose it is.

    What leads nowhere stays where it is: a bucket may forbid to delete. The name gets a further object.
    """
    about = {"job": f"{job.id}/{manifest.JOB}#sha256={job.digest}"}
    data = records.written("name", about, owner=name, place=_object(name))
    while True:
        try:
            root.create(_object(name, number), data)
        except ObjectExists:
            theirs, number = _find(root, name)
            if theirs is not None:
                return theirs
        else:
            return job


def _given_up(job: Job) -> None:
    """Delete a job of which nothing will be run, where that is allowed."""
    try:
        housekeeping.clean(job.uri)
    except (StoreError, BadReference) as error:
        log.warning("job.left", job=job.id, uri=job.uri, cause=str(error))


def _is_text(name: str) -> bool:
    """Whether it is more than the bytes of a file name that is none in UTF-8."""
    return name.encode(errors="replace").decode() == name


def _object(name: str, number: int = 0) -> str:
    return f"names/{sha256(name.encode())}{f'-{number:04d}' if number else ''}.json"


def _checked(job: Job, given: Given, name: str) -> Found:
    if job.count != len(given.items) or not _has_items(job, given.items):
        raise InputError(
            f"the job {name!r} has other items than this call",
            uri=job.uri,
            hint="give another name=, or the same items; what has no order, such as a set of texts, pickles differently "
            "in each process: sort it; RUNWIDE_COMPRESSION must be the same",
        )
    same = job.function == sha256(given.function)
    log.info("job.found", job=job.id, name=name, uri=job.uri, same_function=same)
    return Found(job, same, fresh=False)


def _has_items(job: Job, items: Sequence[Any]) -> bool:
    with open_inside(job.uri) as folder, spilled_to(folder, write=False):
        made = (about for about, _ in packs_of(items, job.starts, job.id))
        return all(ours == theirs for ours, theirs in zip(made, job.packs, strict=True))
