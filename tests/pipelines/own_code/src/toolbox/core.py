"""The main module of the editable package."""

import sys
from dataclasses import dataclass


@dataclass
class Tool:
    name: str


def used(item):
    return Tool(f"tool {item}"), sys._getframe().f_code.co_filename
