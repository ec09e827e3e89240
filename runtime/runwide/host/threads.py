"""The number of threads and processes that libraries in a worker may start, so that all workers together fill the cores."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from runwide import settings
from runwide.host.cores import count
from runwide.host.tree import Tree

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from runwide.host.cores import Cores

# loky reads it, and so do joblib, which contains a copy of loky, and scikit-learn, which asks joblib: `n_jobs=-1` is at most
# that number, for processes and for threads.
_COUNT = "LOKY_MAX_CPU_COUNT"

_GENERAL = "OMP_NUM_THREADS"

# These libraries obey OMP_NUM_THREADS if their own variable is not set.
# (OpenMP itself, and through it PyTorch and Arrow's CPU pool, have only that variable.)
_LIKE_OPENMP = ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS", "NUMEXPR_NUM_THREADS")

# These libraries read only their own variable.
_ALONE = ("NUMBA_NUM_THREADS", "POLARS_MAX_THREADS", "RAYON_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")

# The kind of a native library, as threadpoolctl names it -> the variable that it should have obeyed.
_NATIVE = {
    "openmp": "OMP_NUM_THREADS",
    "openblas": "OPENBLAS_NUM_THREADS",
    "mkl": "MKL_NUM_THREADS",
    "blis": "BLIS_NUM_THREADS",
}

# Variable -> the modules that should have obeyed it, and their functions that set the number of threads.
_MODULES = {
    "OMP_NUM_THREADS": (("pyarrow", "set_cpu_count"), ("torch", "set_num_threads")),
    "NUMEXPR_NUM_THREADS": (("numexpr", "set_num_threads"),),
    "NUMBA_NUM_THREADS": (("numba", "set_num_threads"),),
}


def per_worker(workers: int, cores: Cores | int) -> int:
    """Return the number of threads for each worker, at least one.

    Example:
        >>> per_worker(2, 8), per_worker(3, 8), per_worker(16, 8)
        (4, 2, 1)
    """
    usable = cores if isinstance(cores, int) else cores.usable
    return max(1, usable // max(1, workers))


def environment(workers: int, cores: Cores | int, each: int | None = None) -> dict[str, str]:
    """Return the variables with which a worker starts: thread counts of numerical libraries, and joblib's count.

    Workers times threads is the number of cores. Variables that the user has set are left out, so that the user's values
    apply; if the user has set ``OMP_NUM_THREADS``, so are the variables of libraries that would follow it.

    ``LOKY_MAX_CPU_COUNT`` is the share of one worker, too. The user's own value is for the whole program with all
    workers, so it may lower the share, and never raises it.

    Args:
        each: Threads of each worker, regardless of the user's variables; None for the above.

    Example:
        >>> environment(2, 8)["POLARS_MAX_THREADS"], environment(2, 8, 1)["POLARS_MAX_THREADS"]
        ('4', '1')
    """
    share = per_worker(workers, cores)
    if each is not None:
        return {**dict.fromkeys((_GENERAL, *_LIKE_OPENMP, *_ALONE), str(each)), **_counted(share)}
    followers = () if settings.is_set(_GENERAL) else (_GENERAL, *_LIKE_OPENMP)
    threads = {name: str(share) for name in (*followers, *_ALONE) if not settings.is_set(name)}
    return {**threads, **_counted(share)}


def of_the_user(names: Iterable[str]) -> dict[str, str]:
    """Return the user's values of variables that `environment` leaves out, or else that of OpenMP.

    Example:
        >>> of_the_user(["NO_SUCH_VARIABLE"])
        {}
    """
    values = {
        name: settings.value(_GENERAL if name in _LIKE_OPENMP and not settings.is_set(name) else name)
        for name in names
    }
    return {name: value for name, value in values.items() if value is not None}


def announce(cores: Cores | int | None = None) -> None:
    """Set the number of cores that joblib and loky use in this process, unless the user has set it.

    ``n_jobs=-1`` means that number from then on, here and in programs that this one starts.

    Args:
        cores: The cores, as a record or a number; None to count them.

    Example:
        >>> import os
        >>> announce()
        >>> int(os.environ.pop("LOKY_MAX_CPU_COUNT")) > 0
        True
    """
    if settings.is_set(_COUNT):
        return
    if cores is None:
        cores = count(Tree())  # without RUNWIDE_WORKERS, which is a number of workers
    settings.set_default(_COUNT, str(per_worker(1, cores)))


def apply(variables: Mapping[str, str]) -> tuple[str, ...]:
    """Set the thread counts of libraries that this process loaded before it got its variables.

    Polars cannot be changed once it is loaded; the others can. This costs nothing if none is loaded.

    Args:
        variables: The results of `environment` and `of_the_user`, so that the user's own settings are respected. If
            a value is a list, as OpenMP has it for nested levels, the first number counts.

    Returns:
        The names of the libraries and modules that were set.
    """
    first = {name: value.partition(",")[0] for name, value in variables.items()}
    counts = {name: int(value) for name, value in first.items() if value.isdecimal()}
    return (*_apply_to_modules(counts), *_apply_to_native(counts))


def _counted(share: int) -> dict[str, str]:
    """Return the number of cores of a worker for joblib and loky; an invalid value of the user's is not replaced."""
    try:
        theirs = int(settings.value(_COUNT) or share)
    except ValueError:
        return {}
    return {_COUNT: str(max(1, min(theirs, share)))}


def _apply_to_modules(counts: Mapping[str, int]) -> list[str]:
    found = []
    for variable, modules in _MODULES.items():
        for name, setter in modules:
            set_threads = getattr(sys.modules.get(name), setter, None)
            if variable in counts and set_threads is not None:
                set_threads(counts[variable])
                found.append(name)
    return found


def _apply_to_native(counts: Mapping[str, int]) -> list[str]:
    if not counts or "numpy" not in sys.modules:  # no package loads such a library without numpy
        return []
    from threadpoolctl import ThreadpoolController

    found = []
    for library in ThreadpoolController().lib_controllers:
        number = counts.get(_NATIVE.get(library.internal_api, ""))
        if number is not None:
            library.set_num_threads(number)
            found.append(library.prefix)
    return found
