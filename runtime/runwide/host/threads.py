"""How many threads the libraries in a worker may start, so that all of them together fill the cores."""

from __future__ import annotations

from typing import TYPE_CHECKING

from runwide import settings

if TYPE_CHECKING:
    from runwide.host.cores import Cores

_GENERAL = "OMP_NUM_THREADS"

# These libraries obey OMP_NUM_THREADS where their own variable is not set.
# (OpenMP itself and, by it, PyTorch and Arrow's CPU pool have no variable but that one.)
_LIKE_OPENMP = ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS", "NUMEXPR_NUM_THREADS")

# These know their own variable only.
_ALONE = ("NUMBA_NUM_THREADS", "POLARS_MAX_THREADS", "RAYON_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")


def per_worker(workers: int, cores: Cores | int) -> int:
    """Threads for each of some workers, at least one.

    Args:
        workers: Number of workers.
        cores: The cores that they share, as a record or a number.

    Example:
        >>> per_worker(2, 8), per_worker(3, 8), per_worker(16, 8)
        (4, 2, 1)
    """
    usable = cores if isinstance(cores, int) else cores.usable
    return max(1, usable // max(1, workers))


def environment(workers: int, cores: Cores | int) -> dict[str, str]:
    """Variables that set the thread counts of numerical libraries in a worker, for its start.

    Workers times threads is the number of cores. What the user has set is left out, so that theirs wins; and
    where they have set ``OMP_NUM_THREADS``, so are the variables of libraries that would follow it.

    Args:
        workers: Number of workers.
        cores: The cores that they share, as a record or a number.

    Example:
        >>> environment(2, 8)["POLARS_MAX_THREADS"]
        '4'
    """
    followers = () if settings.is_set(_GENERAL) else (_GENERAL, *_LIKE_OPENMP)
    count = str(per_worker(workers, cores))
    return {name: count for name in (*followers, *_ALONE) if not settings.is_set(name)}
