"""A module of a namespace package: no folder above it has an __init__.py."""

import sys

from .piece import PIECE


def parted(item):
    return item - PIECE, sys._getframe().f_code.co_filename
