"""A job's function and items in memory, so that neither is read from the store."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from runwide.item_definitions import Definitions
from runwide.job import chained
from runwide.job._scatter import encoded
from runwide.job.chained import Chain
from runwide.job.task import Part

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

    from runwide.function_pickle import Pickle
    from runwide.job.model import Job
    from runwide.job.task import Packet


@dataclass(frozen=True, slots=True)
class Given:
    """The function and the items of a call.

    Args:
        pickled: The function, for other programs.
        items: All items of the job; or the job whose results they are.
        call: The function, for workers of this program.
        whole: Further modules of the program that go with the job, see `runwide.archive.code_of`.
        reduce: Reduces two results to one; None if all results are kept.
    """

    pickled: Pickle
    items: Sequence[Any] | Chain
    call: Callable[[Any], Any]
    whole: Sequence[str] = ()
    reduce: Callable[[Any, Any], Any] | None = None

    def frames(self, job: Job, pending: Sequence[int]) -> Generator[Packet, None, None]:
        """Yield the frames of items, as `runwide.job.items.frames` does."""
        if isinstance(self.items, Chain):
            yield from chained.frames(job, pending)
            return
        definitions = Definitions(self.pickled.needs.by_name)
        for item in pending:
            value = encoded(self.items[item], item, job.id, definitions)
            yield item, value.digest, Part(bytearray().join(value.parts))
