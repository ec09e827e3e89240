"""What happened: one page, or a few numbers, made of the events that a job or a map has left."""

from __future__ import annotations

from runwide.report.report import Recording, Report, report

__all__ = ["Recording", "Report", "report"]
