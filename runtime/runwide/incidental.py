"""Remove the parts of classes and type variables that differ between processes with the same source."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from typing import TypeVar

_INCIDENTAL = frozenset({"__firstlineno__", "__slotnames__"})  # pickling an instance sets __slotnames__


def attributes_of(kind: type, values: dict[str, Any]) -> dict[str, Any]:
    """Return the attributes of a class that are the same in every process, in the same order.

    Example:
        >>> attributes_of(int, {"__firstlineno__": 3, "rate": 1.2})
        {'rate': 1.2}
    """
    kept = {name: value for name, value in values.items() if name not in _INCIDENTAL}
    if not kept.get("__annotations__", True):  # Python sets it when it is first read
        del kept["__annotations__"]
    if _is_generated(kept.get("__doc__"), kind):
        del kept["__doc__"]
    if "_abc_impl" in kept:
        kept["_abc_impl"] = sorted(kept["_abc_impl"], key=lambda kind: (kind.__module__, kind.__qualname__))
    if "__static_attributes__" in kept:
        kept["__static_attributes__"] = tuple(sorted(kept["__static_attributes__"]))
    return kept


def type_variable(variable: TypeVar, reduced: Any) -> Any:
    """Reduce a type variable with an identifier for cloudpickle that is the same in every process."""
    make, arguments = reduced
    if make is getattr:
        return reduced
    name = f"{variable.__module__}:{arguments[:-1]}"
    return make, (*arguments[:-1], hashlib.sha256(name.encode()).hexdigest())


def _is_generated(doc: Any, kind: type) -> bool:
    """Return whether a dataclass has a generated docstring whose defaults show sets, in any order, or addresses."""
    return (
        isinstance(doc, str)
        and "__dataclass_fields__" in vars(kind)
        and doc.startswith(f"{kind.__name__}(")
        and ("{" in doc or " at 0x" in doc)
    )
