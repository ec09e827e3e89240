"""The working directory when runwide was loaded: relative paths of imported modules are below it."""

from __future__ import annotations

import os

try:
    DIRECTORY = os.getcwd()  # noqa: PTH109 - pathlib takes time to load
except FileNotFoundError:  # it was removed
    DIRECTORY = ""
