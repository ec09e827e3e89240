"""What machine is this: its cores, its memory, its threads, told truthfully."""

from __future__ import annotations

from runwide.host.cores import Cores, cores

__all__ = ["Cores", "cores"]
