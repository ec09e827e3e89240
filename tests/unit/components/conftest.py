"""The emulator, for what reads a bucket."""

from __future__ import annotations

from runwide.testing.plugin import gcs, gcs_server

__all__ = ["gcs", "gcs_server"]
