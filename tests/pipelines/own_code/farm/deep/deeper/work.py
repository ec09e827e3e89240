"""A function three packages deep, which imports relatively in each way."""

import sys

from ... import common
from ...kinds import Data
from .sibling import OFFSET


def scaled(item):
    return Data(item * common.FACTOR + OFFSET), sys._getframe().f_code.co_filename
