"""A package in the layout with a folder ``src``, which is installed editable."""

from toolbox.core import Tool, used

__all__ = ["Tool", "used"]
