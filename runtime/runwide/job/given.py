"""A job's function and items where they are in memory, so that neither is read from the store."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from runwide.job.scatter import encoded
from runwide.job.task import Part

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

    from runwide.job.manifest import Job
    from runwide.job.task import Packet


@dataclass(frozen=True, slots=True)
class Given:
    """What this process was asked to run.

    Args:
        function: cloudpickle's bytes of the function, for other programs.
        items: All items of the job.
        call: The function itself, for workers of this one.
    """

    function: bytes
    items: Sequence[Any]
    call: Callable[[Any], Any]

    def frames(self, job: Job, pending: Sequence[int]) -> Generator[Packet, None, None]:
        """As `runwide.job.items.frames`."""
        definitions: dict[type, bytes] = {}
        for item in pending:
            value = encoded(self.items[item], item, job.id, definitions)
            yield item, value.digest, Part(bytearray().join(value.parts))
