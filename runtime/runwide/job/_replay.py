"""Run one item of a job in this process, from the bytes that a shard reads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from runwide.errors import InputError
from runwide.job import chained, code, environment, manifest, plan
from runwide.job._shard import function_loader
from runwide.job.reading import frames
from runwide.job.reference import resolve
from runwide.store.base import open_inside
from runwide.store.codec import decode

if TYPE_CHECKING:
    from collections.abc import Callable


def replay(
    job: str, item: int, *, function: Callable[[Any], Any] | None = None, store: str | None = None
) -> Any:
    """Run one item in this process, as its worker did, and raise its exception here.

    Nothing is written. Use it to look at a failure with a debugger, with more memory, or on another machine.

    Args:
        job: The reference that `runwide.scatter` returned, or another form of it, see `gather`.
        item: Index of the item, from 0.
        function: A function to call instead of that of the job, such as a corrected version.
        store: The store of an id or a name, see `gather`.

    Returns:
        The result of the function.

    Raises:
        InputError: The job has no such item.
        DigestMismatch: The bytes of the item differ from those that were stored.

    Example:
        >>> job = runwide.scatter(lambda x: 10 // x, [5, 0], store="memory://doc-replay", shards=1)
        >>> replay(job, 0)
        2
        >>> replay(job, 1, function=lambda x: 10 // x if x else 0)
        0
    """
    call, value = function_and_item(resolve(job, store, runs=True), item, function)
    return call(value)


def function_and_item(
    job: str, item: int, function: Callable[[Any], Any] | None = None
) -> tuple[Callable[[Any], Any], Any]:
    """Return the function and one item of a job, verified and unpickled.

    Args:
        function: As for `replay`; that of the job is not loaded then.
    """
    about = manifest.read_job(job)
    item = plan.whole_number("item", item)
    if not 0 <= item < about.count:
        raise InputError(
            f"there is no item {item}, since the job has {about.count} items",
            uri=about.uri,
            hint=f"give an index from 0 to {about.count - 1}",
        )
    environment.check_python(about.environment, uri=about.uri)
    environment.check_packages(about.packages, uri=about.uri)
    with open_inside(about.uri) as store:
        code.use(store, about, first=function is None)
        chained.use_source(about)
        function = function or function_loader(store, about)()
        ((index, digest, frame),) = frames(store, about, [item])
    return function, decode(frame.view(), digest=digest, context=about.item_context(index), uri=about.uri)
