"""Stores, and the encoding of values into their objects."""

from __future__ import annotations

from runwide.store.base import ObjectInfo, Store, open_store
from runwide.store.codec import Encoded, decode, encode

__all__ = ["Encoded", "ObjectInfo", "Store", "decode", "encode", "open_store"]
