"""Recognize a class in another process, or in another run of its program."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

_INCIDENTAL = frozenset({
    "__abstractmethods__", "__annotate_func__", "__annotations__", "__annotations_cache__", "__conditional_annotations__",
    "__dict__", "__doc__", "__firstlineno__", "__hash__", "__orig_bases__", "__parameters__", "__slotnames__",
    "__static_attributes__", "__weakref__", "_abc_impl",
})  # fmt: skip
"""Attributes that differ between Python versions, or are added and removed during the life of a class."""


@dataclass(frozen=True, slots=True)
class Identity:
    """The identity of a class.

    Args:
        key: Module and qualified name, with a suffix if another class has these names, or none has them.
        qualname: Its name in the module; empty if the module does not have it, as for local classes.
        shape: Digest of its bases, slots, annotated names and members, on which instances depend.
        program: Name of the program; empty if it has none.
    """

    key: str
    module: str
    qualname: str
    shape: str
    names: str
    program: str


def program() -> str:
    """Return the name of this program, the same as a script and with ``-m``; empty in notebooks and with ``-c``."""
    main = sys.modules.get("__main__")
    spec = getattr(main, "__spec__", None)
    file = (getattr(main, "__file__", None) or "").replace(os.sep, "/")
    path = spec.name.split(".") if spec is not None else file.removesuffix(".py").split("/")
    return str(path[-2] if path[-1] == "__main__" and len(path) > 1 else path[-1])


def named(module: str, qualname: str) -> Any:
    """Return the object of a loaded module by its qualified name; None if there is none."""
    found: Any = sys.modules.get(module)
    for name in qualname.split("."):
        found = getattr(found, "__dict__", {}).get(name)
    return found


def is_named(thing: Any) -> bool:
    """Return whether a class or function can be found in its module by its qualified name.

    Example:
        >>> is_named(Identity), is_named(lambda: None)
        (True, False)
    """
    return thing.__module__ is not None and named(thing.__module__, thing.__qualname__) is thing


def shape(kind: type) -> str:
    """Return a digest of the parts of a class on which its instances depend: bases, slots, annotated names, members.

    Example:
        >>> class Point: x: int
        >>> class Other: x: int
        >>> class Another: y: int
        >>> shape(Point) == shape(Other), shape(Point) == shape(Another)
        (True, False)
    """
    own = vars(kind)
    bases = [f"{base.__module__}.{base.__qualname__}" for base in kind.__bases__]
    slots = own.get("__slots__", ())
    with suppress(Exception):  # reading annotations may evaluate them
        annotated = list(own.get("__annotations__") or ())
        return _digest(
            bases,
            slots if isinstance(slots, str) else list(slots),
            annotated,
            list(own.get("_member_map_", ())),
        )
    return _digest(bases)


def names(kind: type) -> str:
    """Return a digest of the names of a class's attributes, without those that may be added or removed.

    Example:
        >>> class Point: x = 0
        >>> class Other: y = 0
        >>> names(Point) == names(Other)
        False
    """
    return _digest(sorted(name for name in vars(kind) if name not in _INCIDENTAL))


def _digest(*parts: Any) -> str:
    from hashlib import sha256  # slow to load; workers that only run functions do not need it

    return sha256(repr(parts).encode(errors="backslashreplace")).hexdigest()[:16]


def is_same(kind: Any, other: Identity) -> bool:
    """Return whether a class of this program has an identity, perhaps that of an earlier version of its source."""
    if not isinstance(kind, type) or shape(kind) != other.shape:
        return False
    return names(kind) == other.names or (other.program != "" and program() == other.program)
