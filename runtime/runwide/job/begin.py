"""A job that is begun once under a name, and found again when the same map is called later."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

from runwide.archive import code_of
from runwide.calls import reduce_of
from runwide.errors import BadReference, FunctionChanged, InputError, StoreError
from runwide.function_pickle import Needs
from runwide.item_definitions import Definitions
from runwide.job import chained, code, housekeeping, manifest, names
from runwide.job.chained import Chain
from runwide.job.given import Given
from runwide.job.known import take_over
from runwide.job.scatter import packs_of, scatter_pickled
from runwide.log import Log
from runwide.naming import full_name_of
from runwide.parsing import json_of
from runwide.spill.buffers import sha256
from runwide.spill.file import spilled_to
from runwide.spill.store import open_inside, open_store
from runwide.spill.verified import SLACK, fetch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from os import PathLike

    from runwide.archive import Code
    from runwide.job.manifest import Job

log = Log("job")

_NAMED = 5  # files in one message


def begun(
    function: Callable[[Any], Any],
    items: Iterable[Any],
    *,
    store: str | PathLike[str],
    shards: int,
    name: str | None = None,
    reuse: str | None = None,
) -> str:
    """As `runwide.job.scatter`, but a job that was begun under the same name is found again.

    Components run the function that lies in the store. So a job is found only if it has this call's function and items.

    Args:
        function: As for `scatter`.
        items: As for `scatter`.
        store: As for `scatter`.
        shards: As for `scatter`, for a new job.
        name: The job's name in the store; None for a new job in any case.
        reuse: As for `runwide.map`.

    Raises:
        FunctionChanged: The job of that name has another function, and ``reuse`` is None.
        InputError: The job of that name has other items.

    Example:
        >>> first = begun(abs, [-1, -2], store="memory://doc-begun", shards=2, name="absolute")
        >>> first == begun(abs, [-1, -2], store="memory://doc-begun", shards=2, name="absolute")
        True
    """
    return begun_or_found(function, items, store=store, shards=shards, name=name, reuse=reuse).job.reference


def begun_or_found(
    function: Callable[[Any], Any],
    items: Iterable[Any],
    *,
    store: str | PathLike[str],
    shards: int,
    name: str | None = None,
    reuse: str | None = None,
    whole: Sequence[str] = (),
) -> Found:
    """As `begun`, with whether the job may have results.

    Args:
        function: As for `begun`.
        items: As for `begun`.
        store: As for `begun`.
        shards: As for `begun`.
        name: As for `begun`.
        reuse: As for `begun`.
        whole: What else of the program's own code travels, see `runwide.archive.code_of`.
    """
    from runwide.pickled import function_pickle

    names.check(name, reuse)
    inputs = chained.inputs(items, store)
    given = Given(function_pickle(function), inputs, function, whole, reduce_of(function))
    return begin(
        given, store=store, shards=shards, name=name, reuse=reuse, function_name=full_name_of(function)
    )


@dataclass(frozen=True, slots=True)
class Found:
    """A job with this call's function and items.

    Args:
        job: The job.
        fresh: It was made by this call and has no results yet.
    """

    job: Job
    fresh: bool


def begin(
    given: Given,
    *,
    store: str | PathLike[str],
    shards: int,
    name: str | None,
    function_name: str,
    reuse: str | None = None,
    job_id: str | None = None,
) -> Found:
    """Scatter a map, or find the job that an earlier call has scattered under the same name.

    Anyone who can write to the store could have put there what is found. So its items and its function are held against
    those of this call. With ``reuse="results"``, a job of another function is followed by a new one that has its results,
    and with ``reuse="nothing"`` by a new one without. Nothing is deleted.

    Args:
        given: The function and the items.
        store: Where jobs and their names lie.
        shards: How many, for a new job.
        name: The job's name in the store; None for a new job in any case.
        function_name: For people.
        reuse: As for `runwide.map`.
        job_id: The id of a new job that was prepared.

    Raises:
        FunctionChanged: The job of that name has another function, and ``reuse`` is None.
        InputError: The job of that name has other items.
    """
    names.check(name, reuse)
    prepared = [job_id] if job_id else []

    def scattered() -> Job:
        made = scatter_pickled(
            given.pickled.data, given.items, store=store, shards=shards, name=function_name,
            # tasks that were started while the items came end in their order
            job_id=prepared.pop() if prepared else None, dealt=job_id is None, needs=given.pickled.needs,
            reduced=given.reduce is not None,
            whole=given.whole,
        )  # fmt: skip
        return manifest.read_job(made)

    if name is None:
        return Found(scattered(), fresh=True)
    with open_store(store) as root:
        found, number = names.newest(root, name)
        if reuse == names.NOTHING:
            found = None  # but one that another copy of this call makes meanwhile is as new as ours
        while found is None or not _is_this(found, given, name, reuse):
            mine = scattered()
            taken = take_over(found, mine) if found is not None and reuse == names.RESULTS else 0
            found, number = names.claim(root, name, mine, number)
            if found is None:
                return Found(mine, fresh=not taken)
            _given_up(mine)
    log.info("job.found", job=found.id, name=name, uri=found.uri)
    return Found(found, fresh=False)


def _is_this(job: Job, given: Given, name: str, reuse: str | None) -> bool:
    """Whether a job of a name is this call's; False if it is to be followed by a new one, and else an error."""
    if reuse == names.NOTHING:
        return _is_called(job, given)
    definitions = Definitions(given.pickled.needs.by_name)
    if not _has_items(job, given.items, definitions):
        raise InputError(
            f"the job {name!r} has other items than this call",
            uri=job.uri,
            hint='give another name=, the same items, or reuse="nothing" to run these; RUNWIDE_COMPRESSION must be '
            "the same",
        )
    if _has_function(job, given) and _has_code(job, given, definitions):
        return True
    if reuse is None:
        files = _changed_files(job, given, definitions)
        raise FunctionChanged(
            f"the function of the job {name!r} has changed since its results were made"
            f"{files and f', and files that travel with it: {files}'}",
            uri=job.uri,
            hint='give reuse="results" to keep them and run what is missing, reuse="nothing" to run all items again, or '
            "another name=",
        )
    return False


def _changed_files(job: Job, given: Given, definitions: Definitions) -> str:
    """Name the files of the program's own that differ, for people; an empty text if none does."""
    mine = _code(given, definitions)
    try:
        before, now = dict(json_of(job.code_files)), json_of(mine.files) if mine else {}
    except (TypeError, ValueError):  # anyone may have written the job
        return ""
    found = sorted(path for path in {*before, *now} if before.get(path) != now.get(path))
    shown = [f"{path!r} ({_change(path in before, path in now)})" for path in found[:_NAMED]]
    return ", ".join(shown) + (f" and {len(found) - _NAMED} more files" if found[_NAMED:] else "")


def _change(before: bool, now: bool) -> str:  # noqa: FBT001 - as they are found
    return "changed" if before and now else "new" if now else "not there any more"


def _is_called(job: Job, given: Given) -> bool:
    """Whether a job's items and its function are those of this call."""
    definitions = Definitions(given.pickled.needs.by_name)
    return (
        _has_items(job, given.items, definitions)
        and _has_function(job, given)
        and _has_code(job, given, definitions)
    )


def _has_function(job: Job, given: Given) -> bool:
    """Whether a job's function is that of this call: components run what lies in the store."""
    if job.reduced != (given.reduce is not None):
        return False
    if job.function == sha256(given.pickled.data):
        return True
    from runwide.function_pickle import is_same  # loads cloudpickle

    with open_inside(job.uri) as folder:
        found = fetch(folder, manifest.FUNCTION, digest=job.function, most=job.function_size + SLACK)
    return is_same(given.pickled.data, bytes(found))


def _has_code(job: Job, given: Given, definitions: Definitions) -> bool:
    """Whether a job's code of the program's own is that of this call: components import what lies in the store."""
    mine = _code(given, definitions)
    if mine is None or job.code is None or mine.digest == job.code:
        return (mine and mine.digest) == job.code
    if mine.files != job.code_files:
        return False
    with open_inside(job.uri) as folder:  # it may differ in its comments
        found = code.fetched(folder, job)
    return found is not None and found.is_sound()


def _code(given: Given, definitions: Definitions) -> Code | None:
    """Return this call's code of the program's own."""
    return code_of(given.pickled.needs | Needs(frozenset(definitions.modules)), whole=given.whole)


def _has_items(job: Job, items: Sequence[Any] | Chain, definitions: Definitions) -> bool:
    if job.count != len(items):
        return False
    if isinstance(items, Chain) or job.source is not None:
        return isinstance(items, Chain) and job.source == items.source
    with open_inside(job.uri) as folder, spilled_to(folder, write=False):
        made = (about for about, _ in packs_of(items, job.layout, job.id, definitions))
        return all(
            ours == theirs for ours, theirs in zip_longest(made, job.packs)
        )  # a planted job may have more


def _given_up(job: Job) -> None:
    """Delete a job of which nothing will be run, where that is allowed."""
    try:
        housekeeping.clean(job.uri)
    except (StoreError, BadReference) as error:
        log.warning("job.left", job=job.id, uri=job.uri, cause=str(error))
