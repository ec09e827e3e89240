"""The main module of the package."""

import sys
from typing import NamedTuple


class Gadget(NamedTuple):
    number: int


def made(item):
    return Gadget(item), sys._getframe().f_code.co_filename
