"""The machine that this process runs on: its cores, its memory and its threads."""

from __future__ import annotations

from runwide.host.cores import Cores, cores

__all__ = ["Cores", "cores"]
