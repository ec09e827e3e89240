"""loky's process class, adapted to a pool. Only this module loads loky."""

from __future__ import annotations

from typing import Any

from loky.backend import get_context
from loky.backend.popen_loky_posix import Popen

_Loky: Any = get_context("loky").Process


class _Popen(Popen):  # type: ignore[misc]  # loky has no types
    """loky's Popen, which does not flush this program's streams first: they may be None, closed or full."""

    __module__ = Popen.__module__  # the module that the new interpreter runs

    def __init__(self, process: Any) -> None:
        self.returncode = None
        self._fds: list[int] = []
        self._launch(process)


class Process(_Loky):  # type: ignore[misc]  # likewise
    """A process of loky's context in which multiprocessing keeps its own default, also for children of tasks."""

    _start_method = None

    @staticmethod
    def _Popen(process: Any) -> _Popen:  # noqa: N802 - multiprocessing's name
        return _Popen(process)
