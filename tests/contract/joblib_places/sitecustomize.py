"""Have joblib's backend of the name loky be runwide's, in every interpreter that has this folder on its path.

Programs that the tests start and workers have it too, since they inherit the path.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys

JOBLIB, RUNWIDE = "joblib.parallel", "runwide.pool.joblib"


class AfterLoading:
    """Calls something once a module is loaded; where it never is, it costs nothing.

    Args:
        name: The module.
        then: Called with it.
    """

    def __init__(self, name, then):
        self.name, self.then = name, then

    def find_spec(self, name, _path, _target=None):
        if name != self.name:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        execute = spec.loader.exec_module

        def exec_module(module):
            execute(module)
            self.then(module)

        spec.loader.exec_module = exec_module
        return spec


def take_the_place(runwide_joblib):
    """Have loky's name, and the name of its class, mean runwide's backend."""
    from joblib import _parallel_backends, parallel

    class LokyBackend(runwide_joblib.RunwideBackend):
        """With a name for what the tests look at inside, and a count of what was run on it."""

        configured = 0

        @property
        def _workers(self):
            return self._executor

        def configure(self, *args, **options):
            workers = super().configure(*args, **options)
            LokyBackend.configured += 1
            return workers

    # `parallel` keeps the class that it imported: by it it knows who has loky's own executor.
    parallel.BACKENDS["loky"] = _parallel_backends.LokyBackend = LokyBackend


# Each may be loaded first, and then loads the other.
sys.meta_path[:0] = [
    AfterLoading(JOBLIB, lambda _: importlib.import_module(RUNWIDE)),
    AfterLoading(RUNWIDE, take_the_place),
]
