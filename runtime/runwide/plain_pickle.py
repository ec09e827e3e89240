"""The base of classes of ours that plain pickle does for."""

from __future__ import annotations


class PlainPickle:
    """Base of what is ours, holds nothing that is known by name only, and is of a class that workers can import."""

    __slots__ = ()
