"""A program with functions and items of many shapes, which prints what each of them gives as a pickle."""

import abc
import asyncio
import collections
import datetime
import decimal
import enum
import fractions
import functools
import hashlib
import json
import operator
import pathlib
import pickle
import re
import sys
import types
import typing
import uuid
from dataclasses import dataclass, field

import numpy as np
import pandas as pd


class Colour(enum.Enum):
    RED = "red"
    GREEN = "green"

    @property
    def short(self):
        return self.value[0]


class Access(enum.Flag):
    READ = enum.auto()
    WRITE = enum.auto()


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


@dataclass
class Point:
    x: float
    y: float = 0.0
    tags: frozenset = frozenset({"near", "far", "here"})

    def norm(self):
        return (self.x**2 + self.y**2) ** 0.5


@dataclass(frozen=True, slots=True, order=True)
class Frozen:
    name: str
    points: tuple = ()


@dataclass
class Heir(Point):
    more: dict = field(default_factory=lambda: {"a": {"x", "y"}})


class Pair(typing.NamedTuple):
    first: str
    second: int = 2


Loose = collections.namedtuple("Loose", "a b")


class Options(typing.TypedDict, total=False):
    depth: int
    words: list


class Shape(abc.ABC):
    @abc.abstractmethod
    def area(self): ...


class Square(Shape):
    def __init__(self, side):
        self.side = side

    def area(self):
        return self.side**2


for _name in ("One", "Two", "Three", "Four"):
    Shape.register(type(_name, (), {"__module__": __name__}))

T = typing.TypeVar("T")


class Box(typing.Generic[T]):
    kinds = {"paper", "wood", "metal"}

    def __init__(self, value):
        self.value = value


class Slotted:
    __slots__ = ("left", "right")

    def __init__(self, left, right):
        self.left, self.right = left, right


class Words(set):
    """A set of a class of its own."""


class Missing(dict):
    def __missing__(self, key):
        return f"no {key}"


def make_local(base):
    class Local:
        known = {"u", "v", "w"}

        def __init__(self, value):
            self.value = value

        def __call__(self, x):
            return self.value, base

    return Local


def twice(x):
    return half(x) * 4 if x else 0


def half(x):
    return twice(x - 1) / 2 if x > 1 else x


LOOP = ["a"]
LOOP.append(LOOP)
LocalA, LocalB = make_local({"p", "q"}), make_local(Point(1, 2))

VALUES = {
    "none": None,
    "text": "some text, not a name",
    "texts": {"alpha", "beta", "gamma", "delta", "epsilon"},
    "frozen": frozenset({("a", 1), ("b", 2), ("c", 3)}),
    "mixed": {1, "one", (1, "one"), None, 2.5, b"one"},
    "nested": {"a": [{"b": {"c", "d"}}], ("k", 1): frozenset({frozenset({"x", "y"}), frozenset({"z"})})},
    "numbers": {5, 3, 2**70, -1},
    "enums": {Colour.RED, Colour.GREEN},
    "flags": [Access.READ | Access.WRITE, Level.HIGH],
    "point": Point(1.0, 2.0),
    "points": {Frozen("a"), Frozen("b", (1, 2)), Frozen("c")},
    "heir": Heir(1, 2),
    "pairs": [Pair("a"), Loose(1, {"x", "y"})],
    "options": Options(depth=3, words=["a", "b"]),
    "square": Square(2),
    "box": Box({"a", "b", "c"}),
    "slots": Slotted({"l1", "l2"}, Colour.RED),
    "words": Words({"one", "two", "three"}),
    "missing": Missing(a=1),
    "local": LocalA({"m", "n", "o"}),
    "locals": [LocalA(1), LocalB(2)],
    "array": np.arange(6.0).reshape(2, 3),
    "scalar": np.float32(1.5),
    "long": np.arange(4000),
    "table": pd.DataFrame({"a": [1, 2], "b": ["x", "y"]}),
    "series": pd.Series([1.5, None], index=["p", "q"]),
    "times": [datetime.datetime(2026, 11, 30, tzinfo=datetime.timezone.utc), datetime.date(2026, 1, 2)],
    "exact": [decimal.Decimal("1.10"), fractions.Fraction(1, 3), 1 + 2j, -0.0, 0.0],
    "bytes": [b"abc", bytearray(b"abc"), b"abc"],
    "ordered": collections.OrderedDict(b=1, a=2),
    "counted": collections.Counter("banana"),
    "deque": collections.deque([1, {"a", "b"}], maxlen=4),
    "grouped": collections.defaultdict(set, {"a": {"x", "y"}}),
    "path": pathlib.PurePosixPath("a/b"),
    "pattern": re.compile("a+b"),
    "id": uuid.UUID(int=5),
    "space": types.SimpleNamespace(names={"a", "b"}),
    "range": [range(3), slice(1, 2), ..., NotImplemented],
    "loop": LOOP,
    "lambda": lambda x: x in {"a", "b", "c"},
    "partial": functools.partial(sorted, key=lambda x: -x),
    "types": [int, Point, Colour, typing.Optional[int], list[str], dict[str, Point]],
}


def as_default(value):
    return lambda x, given=value: given


def as_keyword(value):
    def function(x, *, given=value):
        return given

    return function


def as_closure(value):
    def function(x):
        """Return what it closes over."""
        return value

    return function


def as_deep_closure(value):
    def outer():
        def inner(x):
            return (lambda: value)()

        return inner

    return outer()


def as_partial(value):
    return functools.partial(lambda given, x: given, value)


def as_attribute(value):
    def function(x):
        return x

    function.given = value
    function.about = {"b", "a"}
    return function


def as_method(value):
    class Holder:
        def __init__(self, given):
            self.given = given

        def run(self, x):
            return self.given

    return Holder(value).run


def as_wrapped(value):
    def wrapper(function):
        @functools.wraps(function)
        def wrapped(x):
            return function(x), value

        return wrapped

    @wrapper
    def function(x: Point) -> "dict[str, Colour]":
        return x if x in ("a", "b") else {1, 2, 3}

    return wrapped_twice(function)


def wrapped_twice(function):
    return functools.lru_cache(maxsize=3)(function)


MAKERS = [
    as_default,
    as_keyword,
    as_closure,
    as_deep_closure,
    as_partial,
    as_attribute,
    as_method,
    as_wrapped,
]


async def later(x):
    await asyncio.sleep(0)
    return x


def stream(x):
    yield from ({"a": x}, [y for y in range(x) if y not in {1, 2}])


@functools.singledispatch
def shown(x):
    return f"{x}"


@shown.register(int)
def _(x):
    return x + 1


@shown.register
def _(x: str):
    return x * 2


def with_class(x):
    @dataclass
    class Inside:
        value: int = 3
        kind: Colour = Colour.RED

    return Inside(x)


def with_imports(x):
    import json as j
    from collections import abc as a

    match x:
        case {"a": [first, *rest]}:
            return first, rest
        case Point(x=1) | None:
            return j.dumps([True])
    try:
        assert isinstance(x, a.Mapping), f"{x!r:>10}"
        return (1, 2, (3, "four", b"five", 6j), ...), -0.0, 0.0
    except (KeyError, ValueError) as error:
        raise RuntimeError from error
    finally:
        del x


def using_modules(x):
    return np.linalg.norm(x), np.random.default_rng, collections.abc.Mapping, json.decoder.JSONDecoder


FUNCTIONS = {f"{make.__name__} {name}": make(value) for make in MAKERS for name, value in VALUES.items()} | {
    "async": later,
    "generator": stream,
    "dispatch": shown,
    "class inside": with_class,
    "imports": with_imports,
    "modules": using_modules,
    "recursive": twice,
    "class": Point,
    "instance": LocalB(3),
    "bound": Point(3, 4).norm,
    "static": Colour.RED.__class__,
    "builtin": abs,
    "operator": operator.itemgetter("a", 1),
    "method of a builtin": ", ".join,
    "global set": lambda x: x in Box.kinds,
    "global values": lambda x: (VALUES["texts"], MAKERS, Shape),
}


ALIKE = {  # what has other bytes once it was loaded, and is the same
    "series": lambda one, other: one.equals(other),
    "lambda": lambda one, other: one("a") and other("a") and not other("d"),
    "partial": lambda one, other: one([1, 2]) == other([1, 2]) == [2, 1],
}


def are_alike(name, one, other):
    from runwide.pickling import reproducible
    from runwide.pickling.items import Definitions

    if name in ALIKE:
        return bool(ALIKE[name](one, other))
    return reproducible.item(one, Definitions()) == reproducible.item(other, Definitions())


def main():
    from runwide.pickling import reproducible
    from runwide.pickling.items import Definitions

    found = {}
    for name, value in FUNCTIONS.items():
        made = reproducible.function(value)
        loaded = pickle.loads(made.data)
        found[f"function {name}"] = made.digest
        if name.startswith("as_") and not name.startswith("as_attribute"):
            given = [function("a") for function in (value, loaded)]
            if name.startswith("as_wrapped"):
                given = [value for _, value in given]
            found[f"same {name}"] = are_alike(name.partition(" ")[2], *given)
    for name, value in VALUES.items():
        made = reproducible.item(value, Definitions())
        found[f"item {name}"] = hashlib.sha256(made).hexdigest()
        found[f"list {name}"] = hashlib.sha256(reproducible.item([value, value], Definitions())).hexdigest()
        found[f"same {name}"] = are_alike(name, value, pickle.loads(made))
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()
