"""Reports: a page and numbers, made from the events of a job or a map."""

from __future__ import annotations

from runwide._report.public import Recording, Report, framed, report

__all__ = ["Recording", "Report", "framed", "report"]
