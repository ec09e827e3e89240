"""A joblib backend: ``parallel_config(backend="runwide")`` runs scikit-learn on the physical cores."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from joblib.parallel import (
    AutoBatchingMixin,
    FallbackToBackend,
    ParallelBackendBase,
    SequentialBackend,
    register_parallel_backend,
)

from runwide import host
from runwide.errors import RunwideError
from runwide.pool import worker
from runwide.pool.executor import Executor

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future


class _Unnumbered(Sequence[Any]):
    """Numbers for joblib's batches in what their tasks print: none, since those of the tasks are others."""

    def __len__(self) -> int:
        return 0

    def __getitem__(self, place: Any) -> Any:
        return [None] * (place.stop - place.start)


class _Executor(Executor):
    _indices = _Unnumbered()


class RunwideBackend(AutoBatchingMixin, ParallelBackendBase):  # type: ignore[misc]  # joblib has no types
    """Runs joblib's batches on a `runwide.Executor`; ``n_jobs=-1`` means every physical core."""

    supports_retrieve_callback = True
    supports_return_generator = True
    supports_timeout = True

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._executor: Executor | None = None
        self._tasks: WeakKeyDictionary[Future[Any], int] = WeakKeyDictionary()  # of batches of one

    def effective_n_jobs(self, n_jobs: int | None) -> int:
        """Number of workers: negative counts down from the number of cores, as everywhere in joblib."""
        if n_jobs == 0:
            raise ValueError("n_jobs == 0 in Parallel has no meaning")
        if n_jobs is None or worker.inside:
            return 1
        return n_jobs if n_jobs > 0 else max(1, host.cores().count + 1 + n_jobs)

    def configure(self, n_jobs: int = 1, parallel: Any = None, **_options: Any) -> int:
        """Open the executor; for one worker there is none, as with joblib's own backends."""
        workers = self.effective_n_jobs(n_jobs)
        if workers == 1:
            raise FallbackToBackend(SequentialBackend(nesting_level=self.nesting_level))
        self._executor = _Executor(workers)
        self.parallel = parallel
        return workers

    def submit(self, func: Callable[[], Any], callback: Callable[[Any], None] | None = None) -> Future[Any]:
        """Run one batch."""
        if self._executor is None:
            raise RuntimeError("the backend is not configured")
        future = self._executor.submit(func)
        with suppress(TypeError, AttributeError):  # another joblib may have other batches
            if len(func) == 1:  # type: ignore[arg-type]  # a joblib.parallel.BatchedCalls
                self._tasks[future] = self.parallel.n_dispatched_tasks - 1
        if callback is not None:
            future.add_done_callback(callback)
        return future

    def retrieve_result_callback(self, future: Future[Any]) -> Any:
        """The result of a batch, or its exception, which names joblib's own task if the batch has no other."""
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
        """Stop what runs, after an exception."""
        if self._executor is not None:
            self._executor.kill()
            self._executor = None
        if ensure_ready:
            self.configure(self.parallel.n_jobs, self.parallel)


def register_joblib() -> None:
    """Make the backend known to joblib under the name ``runwide``.

    Example:
        >>> from joblib import Parallel, delayed, parallel_config
        >>> runwide.register_joblib()
        >>> with parallel_config(backend="runwide", n_jobs=2):
        ...     Parallel()(delayed(abs)(x) for x in [-1, -2])
        [1, 2]
    """
    register_parallel_backend("runwide", RunwideBackend)
