"""Classes of a module: a plain one, a dataclass, an enum, a named tuple."""

import enum
import sys
from dataclasses import dataclass
from typing import NamedTuple


class Plain:
    def __init__(self, size):
        self.size = size

    def __repr__(self):
        return f"Plain({self.size})"

    def plus(self, item):
        return Data(self.size + item), sys._getframe().f_code.co_filename

    def __call__(self, item):
        return Pair(self.size, item), sys._getframe().f_code.co_filename

    @classmethod
    def made(cls, item):
        return cls(item), sys._getframe().f_code.co_filename

    @staticmethod
    def coloured(item):
        return Colour(item), sys._getframe().f_code.co_filename


@dataclass(frozen=True)
class Data:
    size: int


class Colour(enum.Enum):
    RED = 1
    GREEN = 2


class Pair(NamedTuple):
    left: object
    right: object


KINDS = (Plain(1), Data(2), Colour.RED, Pair(1, Data(3)))
OTHERS = (Plain(2), Data(3), Colour.GREEN, Pair(Data(3), 1))


def mirrored(item):
    """Another instance of an item's class, and whether that is the class that this module has."""
    number = item if type(item) is int else [type(one).__name__ for one in KINDS].index(type(item).__name__)
    given = KINDS[number] if type(item) is int else item
    return (OTHERS[number], type(given) is type(KINDS[number])), sys._getframe().f_code.co_filename


def shifted(item, unit):
    return Data(unit.size + item if type(unit) is Data else -1), sys._getframe().f_code.co_filename
