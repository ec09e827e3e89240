"""A module that reads a large file beside itself, so that the code does not fit into the pipeline's spec."""

import sys
from importlib.resources import files


def measured(item):
    data = files(__package__).joinpath("noise.bin").read_bytes()
    return len(data) + item, sys._getframe().f_code.co_filename
