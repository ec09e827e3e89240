"""Names of a package that are loaded on first use, so that the package itself loads fast."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


def found(package: str, homes: Mapping[str, str], name: str) -> Any:
    """Load the object of a name, and set it on the package.

    Args:
        package: Name of the package.
        homes: Module of each name.
        name: The name.

    Raises:
        AttributeError: The package has no such name.
        ImportError: Code of the module raised an AttributeError, which ``from package import name`` would hide.

    Example:
        >>> found("runwide", {"cores": "runwide.host"}, "cores").__name__
        'cores'
    """
    home = homes.get(name)
    if home is None:
        raise AttributeError(f"module {package!r} has no attribute {name!r}")
    try:
        module = import_module(home)
    except AttributeError as error:
        raise ImportError(f"cannot import {home}: AttributeError: {error}", name=home) from error
    value = getattr(module, name)
    setattr(sys.modules[package], name, value)
    return value
