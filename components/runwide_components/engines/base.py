"""The protocol of an engine: submit a compiled pipeline, and follow its run."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

    from typing_extensions import Self


class RunState(str, Enum):
    """Where a run is."""

    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Run(Protocol):
    """One run of a pipeline; leaving it as a context manager cancels it if it has not ended."""

    @property
    def id(self) -> str:
        """What the engine calls this run."""

    @property
    def logs(self) -> str:
        """Where its logs are: a link or a path."""

    def state(self) -> RunState:
        """Where it is now."""

    def wait(self, timeout: float | None = None) -> dict[str, Any]:
        """Wait for its end and return the outputs of the pipeline by name.

        Args:
            timeout: Seconds to wait; None for as long as it takes.

        Raises:
            EngineError: It failed, or was cancelled; a `StepFailed` where a step is to blame.
            TimeoutError: It goes on.
        """

    def cancel(self) -> None:
        """Stop it, with everything that it started."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class Engine(Protocol):
    """What runs pipelines."""

    def submit(
        self,
        pipeline: Any,
        arguments: Mapping[str, Any] | None = None,
        *,
        store: str | None = None,
        parallelism: int | None = None,
    ) -> Run:
        """Start a run.

        Args:
            pipeline: A ``@dsl.pipeline``, or the path of a compiled one.
            arguments: Arguments of the pipeline by name.
            store: URI of the store that its steps read and write, so that the engine can give them access.
            parallelism: How many steps of a loop the caller expects at the same time.

        Raises:
            EngineError: The engine is not there or refuses.
        """
