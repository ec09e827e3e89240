"""The protocol of an engine that runs the shards of a job in containers, with a base class for its runs.

It is in the runtime, without kfp, so that an engine is one file which imports nothing but this module.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any, Protocol

from runwide.errors import EngineError, RunwideError, StepFailed
from runwide.log import Log

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import TracebackType

    from typing_extensions import Self


_log = Log("engine")


class RunState(str, Enum):
    """The state of a run."""

    PENDING = "pending"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def ended(self) -> bool:
        """True for a state that does not change any more.

        Example:
            >>> RunState.CANCELLED.ended, RunState.PENDING.ended
            (True, False)
        """
        return self not in (RunState.PENDING, RunState.RUNNING)


@dataclass(frozen=True, slots=True)
class ShardOptions:
    """The options with which an engine starts shards.

    Args:
        image: Image of the containers.
        words: Options of the command ``runwide shard``.
        store: URI of the store that the shards read and write, so that the engine can give them access.
        parallelism: The largest number of shards that may run at the same time; None for all.
        run_key: The key that signs the results of this run; None where another key does, or none.
        configuration: Labels, service account, node selector, tolerations and Kubernetes secrets, for an engine that has
            these: a `runwide_components.configuration.StepConfiguration`. Its variables and secrets of Secret Manager are
            among the ``words``.
    """

    image: str
    words: tuple[str, ...]
    store: str
    parallelism: int | None = None
    run_key: str | None = None
    configuration: Any = None

    def command(self, job: str, index: int) -> list[str]:
        """Return the command that the container of one shard runs.

        Example:
            >>> ShardOptions("runwide:1", ("--workers", "2"), "/runs").command("/runs/j/job.json#sha256=00", 3)
            ['runwide', 'shard', '/runs/j/job.json#sha256=00', '3', '--run-key', '-', '--workers', '2']
        """
        return ["runwide", "shard", job, str(index), "--run-key", self.run_key or "-", *self.words]


class Run(Protocol):
    """One run of an engine; leaving it as a context manager cancels it if it has not ended."""

    @property
    def id(self) -> str:
        """The name by which `attach` of the same engine finds this run."""

    @property
    def logs(self) -> str:
        """A link to the logs, or their path."""

    @property
    def outlives_client(self) -> bool:
        """True for a run that continues when this process ends."""

    def state(self) -> RunState:
        """Return the current state.

        Raises:
            EngineError: The engine does not answer, or does not know the run.
        """

    def wait(self, timeout: float | None = None) -> dict[str, Any]:
        """Wait for the end, and return the outputs of the pipeline by name, as far as the engine reports them.

        Args:
            timeout: Seconds to wait; None for no limit.

        Raises:
            EngineError: The run failed, or was cancelled; a `StepFailed` where one step failed.
            TimeoutError: The run has not ended yet.
        """

    def argument(self, name: str) -> Any:
        """Return an argument of the run by name, such as ``job``; None where it has no argument of that name.

        Raises:
            EngineError: The engine does not answer, or does not know the run.
        """

    def cancel(self) -> None:
        """Stop the run with everything that it started. A run that has ended already stays as it is."""

    def leave(self) -> None:
        """Free what this process holds of the run: a run on a service continues, a run on this machine ends."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class ShardRunner(Protocol):
    """An engine that runs shards of jobs, each in a container: the ``engine=`` of `Components`.

    An entry point of the group ``runwide.engines`` registers it under the name that `about` returns as ``engine``, so that
    records of its runs can be read.

    Two methods are optional; both reject what the engine cannot run before anything is stored. ``examine(None, {}, stores=,
    images=)`` checks stores and images. ``check_steps(requested)`` checks labels, accounts and options of Kubernetes.
    """

    def start(self, job: str, shards: Sequence[int], options: ShardOptions, resources: Any) -> Run:
        """Start shards of a job.

        Args:
            job: The job's reference.
            shards: Numbers of the shards.
            options: Image and command of the containers.
            resources: CPUs, memory, accelerators and restarts of each: a `runwide_components.resources.Resources`.

        Raises:
            EngineError: The engine cannot be reached, or refuses.
        """

    def attach(self, run: str) -> Run:
        """Return the run of an id, which this or another process has started.

        Raises:
            EngineError: The engine does not know it.
        """

    def about(self) -> dict[str, Any]:
        """Return the name of the engine as ``engine``, and the arguments that make the same engine again, as JSON."""


def looks(first: float, longest: float) -> Iterator[float]:
    """Yield the seconds between looks at something slow: each pause is a quarter longer, up to a limit.

    Example:
        >>> pauses = looks(2, 3)
        >>> [round(next(pauses), 3) for _ in range(4)]
        [2, 2.5, 3, 3]
    """
    pause = first
    while True:
        yield pause
        pause = min(1.25 * pause, longest)


class PolledRun(ABC):
    """A run on a service that is polled; see `Run`. It continues when this process ends, unless it is cancelled.

    An `OSError` of ``_ask``, such as a ConnectionError, is taken as a short outage: ``_ask`` is called again for up to
    ``patience`` seconds, and then `state` and `wait` raise an EngineError. Any other exception, and each RunwideError, is
    raised at once.

    Args:
        run: Id of the run.
        poll: Seconds between two looks, at first and at most.
    """

    outlives_client = True
    patience = 60.0
    """Seconds for which a service may fail to answer."""

    def __init__(self, run: str, poll: tuple[float, float]) -> None:
        self.id = run
        self._poll = poll
        self._ended: RunState | None = None

    @property
    @abstractmethod
    def logs(self) -> str:
        """A link to the logs, or their path."""

    @abstractmethod
    def argument(self, name: str) -> Any:
        """Return an argument of the run; see `Run.argument`."""

    @abstractmethod
    def _ask(self) -> RunState:
        """Ask the service for the current state; it may raise an OSError while the service does not answer."""

    @abstractmethod
    def _failure(self) -> EngineError:
        """Return the error of a run that failed."""

    @abstractmethod
    def _cancel(self) -> None:
        """Ask the service to stop the run."""

    def _outputs(self) -> dict[str, Any]:
        """Return the outputs of a run that succeeded; empty for a service that reports none."""
        return {}

    def _failed(self, steps: Sequence[tuple[str, str]], otherwise: str) -> EngineError:
        """Return the error of a run with failed steps.

        Args:
            otherwise: The message where no failed step is known.
        """
        see = f"see {self.logs}"
        if not steps:
            return EngineError(f"the run failed: {otherwise}", uri=self.id, hint=see)
        step, message = steps[0]
        others = f" (and {len(steps) - 1} other steps)" if steps[1:] else ""
        return StepFailed(f"{step}{others} failed: {message}", step=step, log=message, uri=self.id, hint=see)

    def state(self) -> RunState:
        """Return the current state.

        Raises:
            EngineError: The service has not answered for ``patience`` seconds.
        """
        return self._state(None)

    def _state(self, deadline: float | None) -> RunState:
        if self._ended is None:
            state = self._answer(deadline)
            if not state.ended:
                return state
            self._ended = state
        return self._ended

    def _answer(self, deadline: float | None) -> RunState:
        """Ask for the state, and repeat it while the service does not answer, until ``patience`` or the deadline is over."""
        end = time.monotonic() + self.patience
        for pause in looks(*self._poll):
            try:
                return self._ask()
            except RunwideError:
                raise
            except OSError as error:
                now = time.monotonic()
                if now >= end:
                    raise EngineError(
                        f"{type(self).__name__}: the engine has not answered for {self.patience:g} s: "
                        f"{type(error).__name__}: {error}",
                        uri=self.id,
                    ) from error
                if deadline is not None and now >= deadline:
                    raise TimeoutError(f"run {self.id}: the engine does not answer: {error}") from error
                _log.warning("engine.silent", run=self.id, cause=f"{type(error).__name__}: {error}")
            time.sleep(min(pause, max(0.0, min(end, deadline or end) - now)))
        raise AssertionError  # the pauses do not end

    def wait(self, timeout: float | None = None) -> dict[str, Any]:
        """Wait for the end and return the outputs by name; see `Run.wait`."""
        deadline = None if timeout is None else time.monotonic() + timeout
        for pause in looks(*self._poll):
            state = self._state(deadline)
            if state.ended:
                break
            left = pause if deadline is None else min(pause, deadline - time.monotonic())
            if left <= 0:
                raise TimeoutError(f"run {self.id} has not ended after {timeout} s")
            time.sleep(left)
        if state is RunState.SUCCEEDED:
            return self._outputs()
        if state is RunState.CANCELLED:
            raise EngineError("the run was cancelled", uri=self.id)
        raise self._failure()

    def cancel(self) -> None:
        """Stop the run; the service takes a moment to do so."""
        if not self.state().ended:
            self._cancel()

    def leave(self) -> None:  # noqa: B027 - a run on a service holds nothing in this process
        """Leave the run alone: it continues."""

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.cancel()
