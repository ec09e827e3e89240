"""Objects in and out: values to frames, frames to packs, packs to a store and back, verified before unpickling."""

from __future__ import annotations

from runwide.spill.codec import Encoded, decode, encode
from runwide.spill.store import ObjectInfo, Store, open_store

__all__ = ["Encoded", "ObjectInfo", "Store", "decode", "encode", "open_store"]
