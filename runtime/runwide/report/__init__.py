"""What happened: one page, or a few numbers, made of the events that a job or a map has left."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

from runwide.report.report import Recording, Report, framed, report

if TYPE_CHECKING:
    from runwide.results import Results

__all__ = ["Recording", "Report", "framed", "report"]


class _Room(ModuleType):
    """This module, which is also what its name means: ``runwide.report(job)`` works whoever has imported what."""

    def __call__(self, job: str | Recording | Results[Any], *, store: str | None = None) -> Report:
        return report(job, store=store)


sys.modules[__name__].__class__ = _Room
