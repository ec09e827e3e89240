"""A module that imports a second one, which imports a third."""

import sys

from farm.middle import raised


def chained(item):
    return raised(item) + 1, sys._getframe().f_code.co_filename


def noted(function):
    """A decorator that uses nothing but its own module, and calls the function."""
    from functools import wraps

    @wraps(function)
    def around(item):
        return wrapped(function(item))

    return around


def wrapped(answer):
    value, origin = answer
    return ("noted", value), origin


@noted
def doubled(item):
    return 2 * item, sys._getframe().f_code.co_filename
