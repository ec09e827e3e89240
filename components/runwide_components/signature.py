"""Set signatures on functions: kfp reads the interface of a component from a signature."""

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
    """Set the name, parameters and types that kfp reads on a function of ``*values``.

    Args:
        function: The function, which is changed and returned.
        name: Its new name.
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
