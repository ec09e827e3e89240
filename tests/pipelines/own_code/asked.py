"""A module that reads a file by a name that is computed, so that only ``code=`` says which."""

import sys
from pathlib import Path

FOLDER = Path(__file__).parent / "artxe"[::-1]


def labelled(item):
    text = (FOLDER / "slebal-emos"[::-1]).read_text()
    return text.split()[item], sys._getframe().f_code.co_filename
