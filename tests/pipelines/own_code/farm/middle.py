"""The second module of a chain of imports."""

from .common import FACTOR


def raised(item):
    return item**2 * FACTOR
