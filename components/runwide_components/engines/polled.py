"""A run on a service that is asked now and then how it is."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

from runwide.errors import EngineError
from runwide_components.engines.base import RunState
from runwide_components.engines.pace import looks

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self


class PolledRun(ABC):
    """One run on a service; see `Run`. It goes on when this process ends, unless it is cancelled.

    Args:
        run: What the service calls it.
        poll: Seconds between two looks, at first and at most.
    """

    outlives_client = True

    def __init__(self, run: str, poll: tuple[float, float]) -> None:
        self.id = run
        self._poll = poll
        self._ended: RunState | None = None

    @property
    @abstractmethod
    def logs(self) -> str:
        """A link to it."""

    @abstractmethod
    def argument(self, name: str) -> Any:
        """An argument of its pipeline; see `Run.argument`."""

    @abstractmethod
    def _ask(self) -> RunState:
        """Where it is now, from the service."""

    @abstractmethod
    def _outputs(self) -> dict[str, Any]:
        """Its outputs, once it has succeeded."""

    @abstractmethod
    def _failure(self) -> EngineError:
        """Why it failed, once it has."""

    @abstractmethod
    def _cancel(self) -> None:
        """Ask the service to stop it."""

    def state(self) -> RunState:
        """Where it is now."""
        if self._ended is None:
            state = self._ask()
            if not state.ended:
                return state
            self._ended = state
        return self._ended

    def wait(self, timeout: float | None = None) -> dict[str, Any]:
        """Wait for its end and return the outputs by name; see `Run.wait`."""
        deadline = None if timeout is None else time.monotonic() + timeout
        for pause in looks(*self._poll):
            state = self.state()
            if state.ended:
                break
            left = pause if deadline is None else min(pause, deadline - time.monotonic())
            if left <= 0:
                raise TimeoutError(f"run {self.id} goes on after {timeout} s")
            time.sleep(left)
        if state is RunState.SUCCEEDED:
            return self._outputs()
        raise (
            EngineError("the run was cancelled", uri=self.id)
            if state is RunState.CANCELLED
            else self._failure()
        )

    def cancel(self) -> None:
        """Stop it; the service takes a moment to do so."""
        if not self.state().ended:
            self._cancel()

    def leave(self) -> None:  # noqa: B027 - there is nothing to do, for all services alike
        """Let go of it; it goes on."""

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.cancel()
