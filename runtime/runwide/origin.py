"""The directory in which this program loaded runwide; what it has imported by a relative path lies below that one."""

from __future__ import annotations

import os

try:
    DIRECTORY = os.getcwd()  # noqa: PTH109 - which loads nothing
except FileNotFoundError:  # it is gone
    DIRECTORY = ""
