"""Functions with the parameters and types that kfp is to see: it reads the interface of a component from a signature."""

from __future__ import annotations

from inspect import Parameter, Signature
from typing import Any


def with_signature(
    function: Any,
    name: str,
    types: dict[str, Any],
    *,
    defaults: dict[str, Any] | None = None,
    returns: Any = Signature.empty,
) -> Any:
    """Give a function of ``*values`` the name, parameters and types that kfp is to see.

    Args:
        function: The function; changed in place and returned.
        name: The name that it is to have.
        types: Parameter names and their annotations, in order, those with a default last.
        defaults: Default values by parameter name.
        returns: Annotation of the return value.
    """
    function.__name__ = function.__qualname__ = name
    function.__signature__ = Signature(
        [
            Parameter(
                name,
                Parameter.POSITIONAL_OR_KEYWORD,
                annotation=kind,
                default=(defaults or {}).get(name, Parameter.empty),
            )
            for name, kind in types.items()
        ],
        return_annotation=returns,
    )
    function.__annotations__ = types | ({} if returns is Signature.empty else {"return": returns})
    return function
