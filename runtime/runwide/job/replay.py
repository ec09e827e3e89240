"""Run one item of a job here, from the exact bytes that a shard would be given."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from runwide.errors import InputError
from runwide.job import chained, code, environment, manifest, plan
from runwide.job.items import frames
from runwide.job.reference import whole
from runwide.job.shard import loading
from runwide.spill.codec import decode
from runwide.spill.store import open_inside

if TYPE_CHECKING:
    from collections.abc import Callable


def replay(
    job: str, item: int, *, function: Callable[[Any], Any] | None = None, store: str | None = None
) -> Any:
    """Run one item in this process, as its worker did; what it raises is raised here.

    Nothing is written. So a failure can be looked at with a debugger, with more memory, or on another machine.

    Args:
        job: The reference that `runwide.scatter` returned, or another name of the job, see `gather`.
        item: Index of the item, from 0.
        function: What to call in the place of the job's function, such as that one, mended.
        store: Where an id or a name is looked for, see `gather`.

    Returns:
        What the function returns.

    Raises:
        InputError: The job has no such item.
        DigestMismatch: The item's bytes are not those that were spilled.

    Example:
        >>> job = runwide.scatter(lambda x: 10 // x, [5, 0], store="memory://doc-replay", shards=1)
        >>> replay(job, 0)
        2
        >>> replay(job, 1, function=lambda x: 10 // x if x else 0)
        0
    """
    call, value = fetched(whole(job, store, runs=True), item, function)
    return call(value)


def fetched(
    job: str, item: int, function: Callable[[Any], Any] | None = None
) -> tuple[Callable[[Any], Any], Any]:
    """The function and one item of a job, verified and unpickled.

    Args:
        job: As for `replay`.
        item: As for `replay`.
        function: As for `replay`; the job's own is not loaded then.
    """
    about = manifest.read_job(job)
    item = plan.whole("item", item)
    if not 0 <= item < about.count:
        raise InputError(
            f"there is no item {item}, the job has {about.count}",
            uri=about.uri,
            hint=f"give an index from 0 to {about.count - 1}",
        )
    environment.check(about.environment, uri=about.uri)
    environment.check_packages(about.packages, uri=about.uri)
    with open_inside(about.uri) as store:
        code.come(store, about, first=function is None)
        chained.come(about)
        function = function or loading(store, about)()
        ((index, digest, frame),) = frames(store, about, [item])
    return function, decode(frame.view(), digest=digest, context=about.item_context(index), uri=about.uri)
