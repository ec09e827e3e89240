"""A map that runs here and keeps its results in a store meanwhile, so that it goes on where it was killed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from runwide.errors import NoItems
from runwide.job.begin import begin
from runwide.job.gather import gather
from runwide.job.given import Given
from runwide.job.shard import finished
from runwide.naming import full_name_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from os import PathLike


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The cores of this container with a store behind them, as the place where a map runs.

    Args:
        store: Where the job goes: ``gs://bucket/prefix`` or a folder.
        name: Names the job in the store: a call with the same name goes on with it. None for a new job each time.
        shards: Into how many parts a new job is divided, for components that may go on with it.

    Example:
        >>> place = Checkpoint("memory://doc-checkpoint", "squares")
        >>> place.map(lambda x: x * x, [1, 2, 3], workers=1)
        [1, 4, 9]
    """

    store: str | PathLike[str]
    name: str | None = None
    shards: int = 1

    def map(
        self, function: Callable[[Any], Any], items: Iterable[Any], *, on_error: str = "raise", **options: Any
    ) -> list[Any]:
        """As `runwide.map`; what has succeeded in an earlier call of the same name is not run again.

        What is run is this call's function on this call's items. Of the store, results are all that is unpickled.
        """
        from runwide.pool import function_bytes, raise_or_return

        raise_or_return([], on_error)  # a wrong word is said now, not at the end
        inputs = items if isinstance(items, Sequence) else list(items)
        if not inputs:
            raise NoItems("there are no items to map over", hint="pass at least one")
        given = Given(function_bytes(function), inputs)
        job = begin(
            given, store=self.store, shards=self.shards, name=self.name, function_name=full_name_of(function)
        ).job
        shards = [finished(job, index, given=given, **options) for index in range(job.shards)]
        return gather(job.reference, shards, on_error=on_error)
