"""Stores, and the encoding of values into their objects, which are verified before anything is unpickled."""

from __future__ import annotations

from runwide.spill.codec import Encoded, decode, encode
from runwide.spill.store import ObjectInfo, Store, open_store

__all__ = ["Encoded", "ObjectInfo", "Store", "decode", "encode", "open_store"]
