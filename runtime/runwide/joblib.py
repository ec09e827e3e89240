"""joblib, and so scikit-learn, on the physical cores: importing this module makes the backend ``runwide`` known to joblib.

Example:
    >>> import runwide.joblib
    >>> from joblib import Parallel, delayed, parallel_config
    >>> with parallel_config(backend="runwide", n_jobs=2):
    ...     Parallel()(delayed(abs)(x) for x in [-1, -2])
    [1, 2]
"""

from __future__ import annotations

try:
    from runwide.pool.joblib import RunwideBackend, register
except ModuleNotFoundError as error:
    if error.name != "joblib":  # but something that it needs
        raise
    raise ImportError('joblib is not installed: pip install "runwide[joblib]"', name="joblib") from error

__all__ = ["RunwideBackend", "register"]

register()
