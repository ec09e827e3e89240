"""The protocol of an engine: submit a compiled pipeline, and follow its run from this process or a later one."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from types import TracebackType

    from typing_extensions import Self


class RunState(str, Enum):
    """Where a run is."""

    PENDING = "pending"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def ended(self) -> bool:
        """Whether it stays there.

        Example:
            >>> RunState.CANCELLED.ended, RunState.PENDING.ended
            (True, False)
        """
        return self not in (RunState.PENDING, RunState.RUNNING)


class Run(Protocol):
    """One run of a pipeline; leaving it as a context manager cancels it if it has not ended."""

    @property
    def id(self) -> str:
        """What `Engine.attach` of the same engine takes."""

    @property
    def logs(self) -> str:
        """Where its logs are: a link or a path."""

    @property
    def outlives_client(self) -> bool:
        """Whether it goes on when this process ends."""

    def state(self) -> RunState:
        """Where it is now.

        Raises:
            EngineError: The engine does not answer, or does not know the run.
        """

    def wait(self, timeout: float | None = None) -> dict[str, Any]:
        """Wait for its end and return the outputs of the pipeline by name, as far as the engine tells them.

        Args:
            timeout: Seconds to wait; None for as long as it takes.

        Raises:
            EngineError: It failed, or was cancelled; a `StepFailed` where a step is to blame.
            TimeoutError: It goes on.
        """

    def argument(self, name: str) -> Any:
        """An argument of the pipeline that it runs, by name; None where it has none of that name.

        Raises:
            EngineError: The engine does not answer, or does not know the run.
        """

    def cancel(self) -> None:
        """Stop it, with everything that it started; that it has ended already is fine."""

    def leave(self) -> None:
        """Let go of it: a run on a service goes on by itself, one on this machine ends."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class Engine(Protocol):
    """What runs pipelines.

    One that also has ``check_steps(asked)`` is asked by it to refuse what steps ask for, before anything is stored or
    started; see `runwide_components.engines.asked`.
    """

    def submit(
        self,
        pipeline: Any,
        arguments: Mapping[str, Any] | None = None,
        *,
        store: str | None = None,
        parallelism: int | None = None,
        name: str | None = None,
        labels: Mapping[str, str] | None = None,
    ) -> Run:
        """Start a run.

        Args:
            pipeline: A ``@dsl.pipeline``, or the path of a compiled one; some engines take a registry's URL as well.
            arguments: Arguments of the pipeline by name.
            store: URI of the store that its steps read and write, so that the engine can give them access.
            parallelism: How many steps of a loop the caller expects at the same time.
            name: Name of the run. On an engine that keeps names apart, a run of that name which is there already is
                attached to and not started again.
            labels: What to mark the run with, where the engine has marks.

        Raises:
            EngineError: The engine is not there or refuses.
            InputError: What was given is no pipeline.
        """

    def examine(
        self,
        spec: Any,
        arguments: Mapping[str, Any],
        *,
        stores: Iterable[str | None] = (),
        images: Iterable[str] = (),
    ) -> None:
        """Reject a run that cannot work there, before anything is written or submitted; `submit` does so too.

        Args:
            spec: The compiled pipeline; None where it is not known yet.
            arguments: Arguments of the pipeline by name.
            stores: Further stores that its steps use; None is none.
            images: Further images of steps of ours.

        Raises:
            InputError: Its steps cannot be started there, or do not see a store.
        """

    def attach(self, run: str) -> Run:
        """The run of that id, which this or another process has submitted.

        Raises:
            EngineError: The engine does not know it.
        """

    def about(self) -> dict[str, Any]:
        """What makes the same engine again, as JSON, by `runwide_components.engines.registry.engine_of`."""
