"""Leave out of classes and type variables what differs between processes that have the same source."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from typing import TypeVar

_INCIDENTAL = frozenset(
    {"__firstlineno__", "__slotnames__"}
)  # the second comes with the first pickle of an instance


def attributes_of(kind: type, values: dict[str, Any]) -> dict[str, Any]:
    """Return the attributes of a class that are the same in each process, in the same order.

    Args:
        kind: The class.
        values: Its attributes.

    Example:
        >>> attributes_of(int, {"__firstlineno__": 3, "rate": 1.2})
        {'rate': 1.2}
    """
    kept = {name: value for name, value in values.items() if name not in _INCIDENTAL}
    if not kept.get("__annotations__", True):  # as it is once somebody has asked for it
        del kept["__annotations__"]
    if _is_made_of_defaults(kept.get("__doc__"), kind):
        del kept["__doc__"]
    if "_abc_impl" in kept:
        kept["_abc_impl"] = sorted(kept["_abc_impl"], key=lambda kind: (kind.__module__, kind.__qualname__))
    if "__static_attributes__" in kept:
        kept["__static_attributes__"] = tuple(sorted(kept["__static_attributes__"]))
    return kept


def named(variable: TypeVar, reduced: Any) -> Any:
    """Return what a type variable reduces to, known to cloudpickle by what it is, the same in each process."""
    make, arguments = reduced
    if make is getattr:
        return reduced
    name = f"{variable.__module__}:{arguments[:-1]}"
    return make, (*arguments[:-1], hashlib.sha256(name.encode()).hexdigest())


def _is_made_of_defaults(doc: Any, kind: type) -> bool:
    """Whether a dataclass has a docstring that shows its defaults: sets in any order, and objects by their address."""
    return (
        isinstance(doc, str)
        and "__dataclass_fields__" in vars(kind)
        and doc.startswith(f"{kind.__name__}(")
        and ("{" in doc or " at 0x" in doc)
    )
