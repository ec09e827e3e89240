"""The records that name a job's objects, as canonical JSON that is read only after its digest was checked."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from itertools import count
from typing import TYPE_CHECKING, Any

from runwide import __version__
from runwide.errors import FormatTooNew, FrameCorrupt, IntegrityError, ObjectNotFound, StoreNotFound
from runwide.job import plan
from runwide.job.reference import Reference, parse
from runwide.job.verified import fetch
from runwide.records import Failure, FailureKind
from runwide.spill import canonical, signing
from runwide.spill.buffers import sha256
from runwide.spill.store import open_store

if TYPE_CHECKING:
    from collections.abc import Container, Mapping

    from runwide.spill.store import Store

FORMAT = 1
JOB = "job.json"
RESULT = "result.json"
FUNCTION = "function.pkl"
_TRACEBACK = 8000  # characters of a traceback that go into a manifest


@dataclass(frozen=True, slots=True)
class Pack:
    """Where consecutive items lie.

    Args:
        name: Name of the pack in the job.
        start: Index of its first item.
        count: Number of its items.
        size: Its size in bytes.
        head: Size of its head in bytes.
        digest: SHA-256 of its head, in hex.
    """

    name: str
    start: int
    count: int
    size: int
    head: int
    digest: str

    @property
    def items(self) -> range:
        """The items in it."""
        return range(self.start, self.start + self.count)


@dataclass(frozen=True, slots=True)
class Job:
    """A job, as ``job.json`` describes it.

    Args:
        uri: URI of the job's folder.
        digest: SHA-256 of ``job.json``, to which everything else is bound.
        id: Its name in the store.
        created: When, ISO 8601 in UTC.
        count: Number of items.
        starts: Where each shard starts, and where the last one ends.
        packs: Where the items lie, in order.
        function: Digest of the pickled function.
        function_name: Its name, for people.
        environment: What made the job.
        packages: Versions of the packages that the function names.
    """

    uri: str
    digest: str
    id: str
    created: str
    count: int
    starts: tuple[int, ...]
    packs: tuple[Pack, ...]
    function: str
    function_name: str
    environment: Mapping[str, str]
    packages: Mapping[str, str]

    @property
    def shards(self) -> int:
        """Number of shards."""
        return len(self.starts) - 1

    @property
    def reference(self) -> str:
        """The job's reference."""
        return str(Reference(f"{self.uri}/{JOB}", self.digest))

    def items_of(self, index: int) -> range:
        """The items of one shard."""
        return plan.items_of(self.starts, index, uri=self.uri)


@dataclass(frozen=True, slots=True)
class Chunk:
    """A results pack of a shard.

    Args:
        name: Its name in the job.
        size: Its size in bytes.
        digest: SHA-256 of its head, in hex.
        items: The items whose ends are in it, as half-open spans.
    """

    name: str
    size: int
    digest: str
    items: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Shard:
    """A finished shard, as ``shard.json`` describes it; equal chunks give equal bytes, whoever writes it.

    Args:
        index: Its index.
        chunks: Its results.
        failures: The items that failed for good.
    """

    index: int
    chunks: tuple[Chunk, ...]
    failures: tuple[Failure, ...]


@dataclass(frozen=True, slots=True)
class Result:
    """A finished job, as ``result.json`` describes it.

    Args:
        job: Digest of ``job.json``.
        shards: Digests of the shards' manifests, by index.
        failed: Number of failed items.
    """

    job: str
    shards: tuple[str, ...]
    failed: int


def shard_folder(index: int) -> str:
    """Name of a shard's folder in the job.

    Example:
        >>> shard_folder(7)
        'shards/0007'
    """
    return f"shards/{index:04d}"


def shard_name(index: int, number: int = 0) -> str:
    """Name of a shard's manifest in the job; a later one has a number, since none is replaced.

    Example:
        >>> shard_name(7), shard_name(7, 2)
        ('shards/0007/shard.json', 'shards/0007/shard-0002.json')
    """
    return f"{shard_folder(index)}/shard{f'-{number:04d}' if number else ''}.json"


def manifests_of(names: Container[str], index: int) -> int:
    """How many manifests of a shard a listing has; the last of them counts."""
    return next(number for number in count() if shard_name(index, number) not in names)


def job_bytes(job: Job) -> bytes:
    """``job.json``."""
    about = asdict(job)
    about["function"] = {
        "digest": about.pop("function"),
        "name": about.pop("function_name"),
        "object": FUNCTION,
    }
    del about["uri"], about["digest"]  # where it lies and what it is called are no part of it
    return _dumps("job", about)


def read_job(reference: str) -> Job:
    """Read a job's manifest.

    Args:
        reference: What `runwide.scatter` returned.

    Raises:
        BadReference: It is none.
        ObjectNotFound: The job is not there (any more).
        DigestMismatch: Its manifest was changed.
        FormatTooNew: A newer runwide wrote it.
    """
    wanted = parse(reference)
    about = _read(open_store(wanted.folder), wanted.name, wanted.digest, "job")
    made_by = about.get("environment")
    try:
        return _job(wanted, about)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise _not_readable(made_by, error, wanted.uri) from error


def _job(wanted: Reference, about: dict[str, Any]) -> Job:
    function = about.pop("function")
    packs = tuple(Pack(**pack) for pack in about.pop("packs"))
    about |= {
        "starts": tuple(about["starts"]),
        "function": function["digest"],
        "function_name": function["name"],
    }
    return Job(uri=wanted.folder, digest=wanted.digest, packs=packs, **about)


def _not_readable(made_by: Any, error: Exception, uri: str) -> FormatTooNew | FrameCorrupt:
    """The error of a manifest whose bytes are the promised ones, and whose fields are not ours."""
    theirs = made_by.get("runwide") if isinstance(made_by, dict) else None
    if theirs in (None, __version__):
        return FrameCorrupt(f"the job's manifest makes no sense ({error})", uri=uri)
    return FormatTooNew(
        f"the job was made by runwide {theirs}, and this is runwide {__version__}, which cannot read it ({error})",
        uri=uri,
        hint=f"run it in an image with runwide {theirs} (RUNWIDE_IMAGE), or make the job with runwide {__version__}",
    )


def shard_bytes(shard: Shard, job: Job) -> bytes:
    """``shard.json``."""
    about = {
        "chunks": [asdict(chunk) for chunk in shard.chunks],
        "failures": [failure_to_json(failure) for failure in shard.failures],
        "index": shard.index,
        "job": {"digest": job.digest, "id": job.id},
    }
    mac = signing.sign(sha256(_dumps("shard", about)), "manifest")
    return _dumps("shard", {**about, "mac": mac.hex()})


def read_shard(
    store: Store, job: Job, index: int, digest: str | None = None, *, number: int | None = None
) -> tuple[Shard, Reference]:
    """Read a shard's manifest and hold it against the job.

    Args:
        store: The job's folder.
        job: The job.
        index: The shard.
        digest: What the shard returned; without it the last manifest is believed as far as the store is.
        number: Which manifest is the last, where that is known.

    Returns:
        What the manifest says, and its reference.

    Raises:
        ObjectNotFound: The shard has not finished.
        DigestMismatch: Its manifest was changed.
        FrameCorrupt: It is a manifest of another job or shard, or does not have every item exactly once.
    """
    if number is None:
        name, data = _found(store, index, digest)
    else:
        name = shard_name(index, number)
        data = fetch(store, name, digest=digest)
    uri = store.child_uri(name)
    about = _parsed(data, "shard", uri)
    try:
        mac = bytes.fromhex(about.pop("mac"))
        if digest is None:  # nobody vouches for it but the store, or who has the key
            signing.check(mac, sha256(_dumps("shard", about)), "manifest", uri=uri)
        return _checked_shard(about, job, index, uri), Reference(uri, digest or sha256(data))
    except IntegrityError:
        raise
    except (KeyError, TypeError, ValueError) as error:
        raise FrameCorrupt(f"the shard's manifest makes no sense ({error})", uri=uri) from error


def _found(store: Store, index: int, digest: str | None) -> tuple[str, bytearray]:
    """The manifest of that digest, or the last one; each is there before the next is written."""
    name = shard_name(index)
    data = store.read(name)
    for number in count(1):
        if digest == sha256(data):
            break
        later = shard_name(index, number)
        try:
            data = store.read(later)
        except ObjectNotFound:
            if digest is not None:  # of none of them; or this machine's disk has erred
                name = shard_name(index)
                data = fetch(store, name, digest=digest)
            break
        name = later
    return name, data


def result_bytes(result: Result) -> bytes:
    """``result.json``."""
    return _dumps("result", asdict(result))


def read_result(reference: Reference) -> Result:
    """Read a finished job's manifest."""
    about = _read(open_store(reference.folder), reference.name, reference.digest, "result")
    return Result(about["job"], tuple(about["shards"]), about["failed"])


def failure_to_json(failure: Failure) -> dict[str, Any]:
    """A failure, without its exception."""
    return {
        "attempts": failure.attempts,
        "index": failure.index,
        "kind": failure.kind.value,
        "message": failure.message,
        "traceback": failure.traceback[-_TRACEBACK:],
        "type": failure.type,
    }


def failure_from_json(about: dict[str, Any]) -> Failure:
    """The failure that `failure_to_json` described."""
    return Failure(**{**about, "kind": FailureKind(about["kind"])})


def _dumps(kind: str, about: dict[str, Any]) -> bytes:
    return canonical.dumps({"format": FORMAT, "kind": kind, **about})


def _read(store: Store, name: str, digest: str, kind: str) -> dict[str, Any]:
    uri = store.child_uri(name)
    try:
        return _parsed(fetch(store, name, digest=digest), kind, uri)
    except (ObjectNotFound, StoreNotFound) as error:
        error.hint = f"the {kind} was deleted, or this process does not see the store in which it was made"
        raise


def _parsed(data: bytearray, kind: str, uri: str) -> dict[str, Any]:
    try:
        about: dict[str, Any] = canonical.loads(data)
        found = about.pop("format"), about.pop("kind")
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise FrameCorrupt(f"this is not the manifest of a {kind}", uri=uri) from error
    if not isinstance(found[0], int) or found[0] > FORMAT:
        raise FormatTooNew(
            f"the {kind} has format {found[0]}, this runwide reads up to {FORMAT}",
            uri=uri,
            hint="upgrade runwide here, in the image of the component, to the version that made the job",
        )
    if found[1] != kind:
        raise FrameCorrupt(f"this is the manifest of a {found[1]}, not of a {kind}", uri=uri)
    return about


def _checked_shard(about: dict[str, Any], job: Job, index: int, uri: str) -> Shard:
    if about["job"] != {"digest": job.digest, "id": job.id} or about["index"] != index:
        raise FrameCorrupt(f"this is the manifest of another shard than {index} of {job.id}", uri=uri)
    chunks = tuple(
        Chunk(row["name"], row["size"], row["digest"], tuple((start, stop) for start, stop in row["items"]))
        for row in about["chunks"]
    )
    failures = tuple(failure_from_json(row) for row in about["failures"])
    # Counted first: a forged span of 2^60 items must not be walked.
    items = job.items_of(index)
    total = sum(stop - start for chunk in chunks for start, stop in chunk.items)
    held = (
        set(plan.members(span for chunk in chunks for span in chunk.items)) if total == len(items) else set()
    )
    if held != set(items) or not held.issuperset(failure.index for failure in failures):
        raise FrameCorrupt(
            f"the shard's manifest does not have each of its {len(items)} items exactly once", uri=uri
        )
    return Shard(index, chunks, failures)
