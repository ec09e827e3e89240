"""A joblib backend: ``parallel_config(backend="runwide")`` runs scikit-learn on the physical cores."""

from __future__ import annotations

import multiprocessing
import warnings
from collections.abc import Sequence
from contextlib import suppress
from queue import Queue
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from joblib.parallel import (
    AutoBatchingMixin,
    FallbackToBackend,
    ParallelBackendBase,
    SequentialBackend,
    default_parallel_config,
    register_parallel_backend,
)

from runwide import host
from runwide.errors import RunwideError
from runwide.outcomes import portable_exception_of
from runwide.pool import worker
from runwide.pool.executor import Executor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from concurrent.futures import Future

_OF_JOBLIB = {*default_parallel_config, "context"}
"""Options that joblib passes to every backend."""


class _Unnumbered(Sequence[Any]):
    """The numbers of joblib's batches in printed lines: none, since tasks have other numbers."""

    def __len__(self) -> int:
        return 0

    def __getitem__(self, place: Any) -> Any:
        return [None] * (place.stop - place.start)


class _Executor(Executor):
    _indices = _Unnumbered()
    # Like loky's, a PicklingError with the part; the standard executor raises the exception of pickling itself.
    _exception_of = staticmethod(portable_exception_of)
    _ends_with_main = False  # joblib's own threads and processes do not either

    def __init__(self, workers: int, threads: int | None, **options: Any) -> None:
        self._threads = threads
        super().__init__(workers, **options)


class RunwideBackend(AutoBatchingMixin, ParallelBackendBase):  # type: ignore[misc]  # joblib has no types
    """Runs joblib's batches on a `runwide.Executor`; ``n_jobs=-1`` means every physical core.

    Args:
        nesting_level: joblib's own.
        inner_max_num_threads: Threads of numerical libraries in each worker, in spite of the environment; None for its
            share of the cores.
        initializer: Called once in each worker before its first task.
        initargs: Arguments of ``initializer``.
    """

    supports_inner_max_num_threads = True
    supports_retrieve_callback = True
    supports_return_generator = True
    supports_timeout = True

    def __init__(
        self,
        nesting_level: int | None = None,
        inner_max_num_threads: int | None = None,
        *,
        initializer: Callable[..., object] | None = None,
        initargs: Iterable[Any] = (),
    ) -> None:
        super().__init__(nesting_level=nesting_level, inner_max_num_threads=inner_max_num_threads)
        self._preparation: dict[str, Any] = {"initializer": initializer, "initargs": tuple(initargs)}
        self._prepared = self._preparation  # that of the last call
        self._executor: Executor | None = None
        self._tasks: WeakKeyDictionary[Future[Any], int] = WeakKeyDictionary()  # of batches of one

    def effective_n_jobs(self, n_jobs: int | None) -> int:
        """Return the number of workers. A negative number counts down from the number of cores, as always in joblib."""
        if n_jobs == 0:
            raise ValueError("n_jobs == 0 in Parallel has no meaning")
        if n_jobs not in (None, 1) and multiprocessing.current_process().daemon and not worker.inside:
            message = "runwide-backed parallel loops cannot be called in a daemonic process, setting n_jobs=1"
            warnings.warn(message, stacklevel=3)
        if n_jobs is None or _in_place():
            return 1
        return n_jobs if n_jobs > 0 else max(1, host.cores().count + 1 + n_jobs)

    def configure(self, n_jobs: int = 1, parallel: Any = None, **options: Any) -> int:
        """Open the executor. For one worker there is none, as in joblib's own backends.

        Args:
            **options: ``initializer`` and ``initargs``, as for the backend itself; options of joblib's memory maps, which
                have no effect.
        """
        unknown = options.keys() - _OF_JOBLIB - self._preparation.keys()
        if unknown:
            raise TypeError(f"the backend runwide has no option {min(unknown)!r}")
        if self._executor is not None:  # another Parallel of the same parallel_config has not ended
            raise FallbackToBackend(self._another())
        if self.inner_max_num_threads is not None and self.inner_max_num_threads < 1:
            raise ValueError(
                f"invalid inner_max_num_threads={self.inner_max_num_threads}: expected 1 or more"
            )
        workers = self.effective_n_jobs(n_jobs)
        self._prepared = {name: options.get(name, value) for name, value in self._preparation.items()}
        if workers == 1:
            _prepare_alone(n_jobs, **self._prepared)
            raise FallbackToBackend(SequentialBackend(nesting_level=self.nesting_level))
        self._open(workers)
        self.parallel = parallel
        return workers

    def _open(self, workers: int) -> None:
        self._executor = _Executor(workers, self.inner_max_num_threads, **self._prepared)

    def _another(self) -> RunwideBackend:
        return RunwideBackend(self.nesting_level, self.inner_max_num_threads, **self._preparation)

    def submit(self, func: Callable[[], Any], callback: Callable[[Any], None] | None = None) -> Future[Any]:
        """Run one batch."""
        if self._executor is None:
            raise RuntimeError("the backend is not configured")
        future = self._executor.submit(_run, func)
        with suppress(TypeError, AttributeError):  # another joblib may have other batches
            if len(func) == 1:  # type: ignore[arg-type]  # a joblib.parallel.BatchedCalls
                self._tasks[future] = self.parallel.n_dispatched_tasks - 1
        if callback is not None:
            future.add_done_callback(callback)
        return future

    apply_async = submit  # its name before joblib 1.5

    def retrieve_result_callback(self, future: Future[Any]) -> Any:
        """Return the result of a batch, or raise its exception, with the number of joblib's task for a batch of one."""
        try:
            return future.result()
        except BaseException as error:
            for one in (error, error.__cause__):
                if isinstance(one, RunwideError):
                    one.item = self._tasks.get(future)
            raise

    def terminate(self) -> None:
        """Close the executor."""
        if self._executor is not None:
            self._executor.shutdown(cancel_futures=True)
            self._executor = None
        self.reset_batch_stats()

    def abort_everything(self, ensure_ready: bool = True) -> None:  # noqa: FBT001, FBT002 - joblib's signature
        """Stop the running batches, after an exception."""
        if self._executor is not None:
            self._executor.kill()
            self._executor = None
        # joblib keeps the batches of this call, and would run them in the next one.
        self.parallel._ready_batches = Queue()  # noqa: SLF001 - it has no other name
        if ensure_ready:
            self._open(self.effective_n_jobs(self.parallel.n_jobs))


def register() -> None:
    """Make the backend known to joblib under the name ``runwide``."""
    register_parallel_backend("runwide", RunwideBackend)


def _run(batch: Callable[[], Any]) -> Any:
    """Run a batch in a worker, where a nested call may also use the backend."""
    register()
    return batch()


def _in_place() -> bool:
    """Return whether tasks must run in this process, since it may not start workers."""
    return worker.inside or multiprocessing.current_process().daemon


def _prepare_alone(n_jobs: int, initializer: Callable[..., object] | None, initargs: tuple[Any, ...]) -> None:
    """Run the initializer if tasks run in this process because it is a worker; joblib would not run it."""
    if initializer is None:
        return
    if _in_place():
        initializer(*initargs)
    elif n_jobs != 1:
        warnings.warn(
            "there is one core, so tasks run in this process, without the initializer", stacklevel=2
        )
