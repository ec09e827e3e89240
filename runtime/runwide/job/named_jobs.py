"""Scatter a job, or find the one that an earlier call made under the same name."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

from runwide.api.functions import reduce_of
from runwide.code.archive import code_of
from runwide.errors import BadReference, FunctionChanged, InputError, StoreError
from runwide.job import chained, code, housekeeping, manifest, names
from runwide.job._scatter import encoded, packs_of, scatter_pickled
from runwide.job.chained import Chain
from runwide.job.take_over import take_over
from runwide.job.task import Part
from runwide.json_text import json_of
from runwide.log import Log
from runwide.naming import full_name_of
from runwide.pickling.functions import Needs
from runwide.pickling.items import Definitions
from runwide.store.base import open_inside, open_store
from runwide.store.buffers import sha256
from runwide.store.file import spilled_to
from runwide.store.records import SLACK, fetch

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Sequence
    from os import PathLike

    from runwide.code.archive import Code
    from runwide.job.model import Job
    from runwide.job.task import Packet
    from runwide.pickling.functions import Pickle


log = Log("job")

_NAMED = 5  # files in one message


@dataclass(frozen=True, slots=True)
class Opened:
    """A job with the function and the items of a call.

    Args:
        fresh: Whether this call made it, so that it has no results yet.
    """

    job: Job
    fresh: bool


def scatter_or_find(
    function: Callable[[Any], Any],
    items: Iterable[Any],
    *,
    store: str | PathLike[str],
    shards: int,
    name: str | None = None,
    reuse: str | None = None,
    whole: Sequence[str] = (),
) -> Opened:
    """Scatter a job as `runwide.job.scatter` does, or find the one that an earlier call made under the same name.

    Components run the function in the store, so a job is found only if it has this call's function and items.

    Args:
        name: The job's name in the store; None to make a new job in any case.
        whole: Further modules of the program that go with the job, see `runwide.code.archive.code_of`.

    Raises:
        FunctionChanged: The job of that name has another function, and ``reuse`` is None.
        InputError: The job of that name has other items.

    Example:
        >>> first = scatter_or_find(abs, [-1, -2], store="memory://doc-named", shards=2, name="absolute")
        >>> first.job == scatter_or_find(abs, [-1, -2], store="memory://doc-named", shards=2, name="absolute").job
        True
    """
    from runwide.pickling.functions import function_pickle

    names.check_name(name, reuse)
    inputs = chained.inputs(items, store)
    given = Given(function_pickle(function), inputs, function, whole, reduce_of(function))
    return open_job(
        given, store=store, shards=shards, name=name, reuse=reuse, function_name=full_name_of(function)
    )


def open_job(
    given: Given,
    *,
    store: str | PathLike[str],
    shards: int,
    name: str | None,
    function_name: str,
    reuse: str | None = None,
    job_id: str | None = None,
) -> Opened:
    """Scatter a job, or find the one that an earlier call made under the same name; see `scatter_or_find`.

    Anyone who can write to the store could have forged a job, so its items and its function are compared with those of this
    call. If the function differs, ``reuse="results"`` makes a new job with the results of the old one, and
    ``reuse="nothing"`` a new job without results. Nothing is deleted.

    Args:
        job_id: The id of a new job that was prepared.
    """
    names.check_name(name, reuse)
    prepared = [job_id] if job_id else []

    def scattered() -> Job:
        made = scatter_pickled(
            given.pickled.data, given.items, store=store, shards=shards, name=function_name,
            # results of tasks that were started early arrive in the order of the items
            job_id=prepared.pop() if prepared else None, dealt=job_id is None, needs=given.pickled.needs,
            reduced=given.reduce is not None,
            whole=given.whole,
        )  # fmt: skip
        return manifest.read_job(made)

    if name is None:
        return Opened(scattered(), fresh=True)
    with open_store(store) as root:
        found, number = names.newest(root, name)
        if reuse == names.NOTHING:
            found = None  # a job that another copy of this call makes meanwhile may still be used
        while found is None or not _is_usable(found, given, name, reuse):
            mine = scattered()
            taken = take_over(found, mine) if found is not None and reuse == names.RESULTS else 0
            found, number = names.claim(root, name, mine, number)
            if found is None:
                return Opened(mine, fresh=not taken)
            _discard(mine)
    log.info("job.found", job=found.id, name=name, uri=found.uri)
    return Opened(found, fresh=False)


def _is_usable(job: Job, given: Given, name: str, reuse: str | None) -> bool:
    """Return whether this call can use a job of its name; False if a new job has to be made.

    Raises:
        InputError: It has other items, and ``reuse`` does not allow a new job.
        FunctionChanged: It has another function, and ``reuse`` is None.
    """
    definitions = Definitions(given.pickled.needs.by_name)
    if not _has_items(job, given.items, definitions):
        if reuse == names.NOTHING:
            return False
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
            hint='give reuse="results" to keep them and run the missing items, reuse="nothing" to run all items again, or '
            "another name=",
        )
    return False


def _changed_files(job: Job, given: Given, definitions: Definitions) -> str:
    """Return the names of the program's own files that differ, for a message; an empty text if none does."""
    mine = _code(given, definitions)
    try:
        before, now = dict(json_of(job.code_files)), json_of(mine.files) if mine else {}
    except (TypeError, ValueError):  # the job may be forged
        return ""
    found = sorted(path for path in {*before, *now} if before.get(path) != now.get(path))
    shown = [f"{path!r} ({_change(path in before, path in now)})" for path in found[:_NAMED]]
    return ", ".join(shown) + (f" and {len(found) - _NAMED} more files" if found[_NAMED:] else "")


def _change(before: bool, now: bool) -> str:  # noqa: FBT001 - as they are found
    return "changed" if before and now else "new" if now else "removed"


def _has_function(job: Job, given: Given) -> bool:
    """Return whether a job's function, which components run, is the function of this call."""
    if job.reduced != (given.reduce is not None):
        return False
    if job.function == sha256(given.pickled.data):
        return True
    from runwide.pickling.functions import is_same_function  # loads cloudpickle

    with open_inside(job.uri) as folder:
        found = fetch(folder, manifest.FUNCTION, digest=job.function, most=job.function_size + SLACK)
    return is_same_function(given.pickled.data, bytes(found))


def _has_code(job: Job, given: Given, definitions: Definitions) -> bool:
    """Return whether a job's code, which components import, is the program's own code of this call."""
    mine = _code(given, definitions)
    if mine is None or job.code is None or mine.digest == job.code:
        return (mine and mine.digest) == job.code
    if mine.files != job.code_files:
        return False
    with open_inside(job.uri) as folder:  # the archives may differ in comments only
        found = code.fetched(folder, job)
    return found is not None and found.is_sound()


def _code(given: Given, definitions: Definitions) -> Code | None:
    """Return the program's own code that this call needs."""
    return code_of(given.pickled.needs | Needs(frozenset(definitions.modules)), whole=given.whole)


def _has_items(job: Job, items: Sequence[Any] | Chain, definitions: Definitions) -> bool:
    if job.count != len(items):
        return False
    if isinstance(items, Chain) or job.source is not None:
        return isinstance(items, Chain) and job.source == items.source
    with open_inside(job.uri) as folder, spilled_to(folder, write=False):
        made = (about for about, _ in packs_of(items, job.layout, job.id, definitions))
        # a forged job may have more packs
        return all(ours == theirs for ours, theirs in zip_longest(made, job.packs))


def _discard(job: Job) -> None:
    """Delete a job that will not be run, if this process may delete it."""
    try:
        housekeeping.clean(job.uri)
    except (StoreError, BadReference) as error:
        log.warning("job.left", job=job.id, uri=job.uri, cause=str(error))


@dataclass(frozen=True, slots=True)
class Given:
    """The function and the items of a call.

    Args:
        pickled: The function, for other programs.
        items: All items of the job; or the job whose results they are.
        call: The function, for workers of this program.
        whole: Further modules of the program that go with the job, see `runwide.code.archive.code_of`.
        reduce: Reduces two results to one; None if all results are kept.
    """

    pickled: Pickle
    items: Sequence[Any] | Chain
    call: Callable[[Any], Any]
    whole: Sequence[str] = ()
    reduce: Callable[[Any, Any], Any] | None = None

    def frames(self, job: Job, pending: Sequence[int], *, whole: bool) -> Generator[Packet, None, None]:
        """Yield the frames of items, as `runwide.job.reading.frames` does."""
        if isinstance(self.items, Chain):
            yield from chained.source_frames(job, self.items.source, pending, whole=whole)
            return
        definitions = Definitions(self.pickled.needs.by_name)
        for item in pending:
            value = encoded(self.items[item], item, job.id, definitions)
            yield item, value.digest, Part(bytearray().join(value.parts))
