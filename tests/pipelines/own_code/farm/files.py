"""A module that reads a file beside itself."""

import sys
from pathlib import Path


def looked_up(item):
    table = Path(__file__).with_name("data") / "table.txt"
    return table.read_text().split()[item], sys._getframe().f_code.co_filename
