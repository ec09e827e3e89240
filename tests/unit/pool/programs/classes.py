"""A program whose classes are its own: prints, as JSON, what did not come back as itself, by surface."""

from __future__ import annotations

import abc
import collections
import ctypes
import dataclasses
import enum
import functools
import json
import multiprocessing
import pickle
import sys
import typing
from pathlib import Path
from typing import Generic, NamedTuple, Protocol, TypeVar

import runwide

T = TypeVar("T")


class Point(NamedTuple):
    x: int
    y: str = "a"

    def text(self) -> str:
        return f"{self.x}{self.y}"


if sys.version_info >= (3, 11):  # the language has generic ones since then

    class Pair(NamedTuple, Generic[T]):
        one: T

else:

    class Pair(NamedTuple):
        one: int


Old = collections.namedtuple("Old", "a b")  # noqa: PYI024 - as programs do


class Tagging(type):
    """Wants what a pickle does not have, and refuses attributes that are set later."""

    def __new__(cls, name, bases, values, *, tag):
        made = super().__new__(cls, name, bases, values)
        type.__setattr__(made, "tag", tag)
        return made

    def __init__(cls, name, bases, values, *, tag):
        super().__init__(name, bases, values)

    def __setattr__(cls, name, value):
        raise TypeError(f"{name} is fixed")


class Tagged(metaclass=Tagging, tag="t"):
    level = 3


class Registering:
    known: typing.ClassVar[dict] = {}

    def __init_subclass__(cls, *, key, **options):
        super().__init_subclass__(**options)
        if key in Registering.known:
            raise ValueError(f"{key} is there already")
        Registering.known[key] = cls
        cls.key = key


class Registered(Registering, key="first"):
    pass


class Needing:
    """Its hook wants the body of the class."""

    def __init_subclass__(cls):
        cls.double = cls.single * 2


class Needy(Needing):
    single = 4


class Color(enum.Enum):
    RED = 1
    BLUE = 2
    CRIMSON = 1  # noqa: PIE796 - another name for it


class Labelled(enum.Enum):
    def __new__(cls, value, label):
        made = object.__new__(cls)
        made._value_ = value
        made.label = label
        return made


class Planet(Labelled):
    EARTH = (3, "earth")


@dataclasses.dataclass(frozen=True)
class Body:
    mass: float
    radius: float


class Bodies(Body, enum.Enum):
    EARTH = (5.9, 6.3)


class Rights(enum.IntFlag):
    READ = 1
    WRITE = 2
    BOTH = 3


@dataclasses.dataclass(frozen=True, slots=True)
class Frozen:
    value: int
    other: Frozen | None = None
    color: Color = Color.RED


@dataclasses.dataclass
class Plain:
    value: int

    def fine(self) -> bool:
        return type(self) is Plain


class Abstract(abc.ABC):
    @abc.abstractmethod
    def area(self) -> int: ...


class Square(Abstract):
    def area(self) -> int:
        return super().area() or 4


class Box(Generic[T]):
    def __init__(self, content: T) -> None:
        self.content = content


class IntBox(Box[int]):
    pass


class Sized(Protocol):
    def size(self) -> int: ...


class Nested:
    class Inner:
        pass


class Slotted:
    __slots__ = ("__hidden", "shown")

    def __init__(self) -> None:
        self.__hidden, self.shown = 1, 2


class Lazy:
    @functools.cached_property
    def value(self) -> int:
        return 42


class Structure(ctypes.Structure):
    _fields_ = (("x", ctypes.c_int), ("y", ctypes.c_double))


class Unit:
    """Keeps its instances, which are found by their names."""

    known: typing.ClassVar[dict] = {}

    def __init__(self, name):
        self.name = name
        Unit.known[name] = self

    def __reduce__(self):
        return Unit.get, (self.name,)

    @classmethod
    def get(cls, name):
        return cls.known.get(name) or cls(name)


METRE = Unit("m")


class Missing:
    """Has one instance."""

    _one = None

    def __new__(cls):
        if cls._one is None:
            cls._one = super().__new__(cls)
        return cls._one

    def __reduce__(self):
        return Missing, ()


MISSING = Missing()


class Wrong(Exception):
    def __init__(self, code, *, detail):
        super().__init__(code)
        self.detail = detail

    def __reduce__(self):
        return _wrong, (self.args[0], self.detail)


def _wrong(code, detail):
    return Wrong(code, detail=detail)


@functools.singledispatch
def described(value):
    return "something"


@described.register
def _(value: int):
    return "int"


@described.register(list)
def _(value):
    return [described(one) for one in value]


@functools.lru_cache
def fib(n):
    return n if n < 2 else fib(n - 1) + fib(n - 2)


def same(value):
    return value


def local():
    class Local:
        content = 1

    return Local()


def plain_pickle(value):
    """Tasks that only work if ``__main__`` has the names."""
    assert type(pickle.loads(pickle.dumps(value))) is type(value)
    for method in (
        ("fork", "spawn") if Path(getattr(sys.modules["__main__"], "__file__", "")).is_file() else ("fork",)
    ):
        with multiprocessing.get_context(method).Pool(1) as pool:
            (nested,) = pool.map(same, [value])
        assert type(nested) is type(value)
    return sorted(typing.get_type_hints(Frozen))


def fail(value):
    raise Wrong(value, detail="all of it")


def instances():
    named = [Point(1), Pair(2), Old(1, 2), Frozen(1, Frozen(2)), Plain(3), [Plain(6), {Color.RED: Point(7)}]]
    members = [Color.BLUE, Color.CRIMSON, Planet.EARTH, Bodies.EARTH, Rights.BOTH]
    made = [Tagged(), Registered(), Needy(), Square(), Box(4), IntBox(5), Nested.Inner(), Slotted(), Lazy()]
    return [*named, *members, *made, Structure(1, 2.0), METRE, MISSING, Wrong(1, detail="d")]


def things():
    return [Point, Color, Sized, Registered, Tagged, same, described, fib, Plain.fine]


def differences(sent, came, *, also_things):
    for one, other in zip(sent, came, strict=True):
        if type(other) is not type(one) or (isinstance(one, (enum.Enum, Unit, Missing)) and other is not one):
            yield f"{one!r} came as {other!r}"
        elif dataclasses.is_dataclass(one) and one != other:
            yield f"{one!r} is not equal to {other!r}"
        elif also_things and callable(one) and other is not one:
            yield f"{one!r} is another one now"


def surfaces(sent):
    """Each way of running a function, with what came back."""
    from joblib import Parallel, delayed, parallel_config

    yield "map", runwide.map(same, sent, workers=2)
    yield "imap", list(runwide.imap(same, sent, workers=2))
    with runwide.Pool(1) as pool:
        yield "Pool.map", pool.map(same, sent)
        yield "Pool.apply", [pool.apply(same, (one,)) for one in sent]
    with runwide.Executor(1) as executor:
        yield "submit", [future.result() for future in [executor.submit(same, one) for one in sent]]
    runwide.register_joblib()
    with parallel_config(backend="runwide", n_jobs=2):
        yield "joblib", Parallel()(delayed(same)(one) for one in sent)


def main():
    found = {}
    state = Plain.limit = object()
    sent = [*instances(), local()]
    for name, came in surfaces([*sent, *things()]):
        found[name] = list(differences([*sent, *things()], came, also_things=True))
    stored = runwide.map(
        lambda index: instances()[index],
        range(len(instances())),
        store=sys.argv[1],
        name="n",
        workers=1,
    )
    found["store"] = list(differences(instances(), stored, also_things=False))
    for store in ({}, {"store": sys.argv[1]}):
        (failure,) = runwide.map(fail, [5], on_error="return", workers=1, **store)
        raised = failure.exception
        found[f"exception {len(store)}"] = (
            [] if type(raised) is Wrong and raised.detail == "all of it" else [repr(raised)]
        )
    hints = runwide.map(plain_pickle, [Plain(1), Color.RED, Point(2)], workers=1)
    found["plain pickle"] = [] if hints == [["color", "other", "value"]] * 3 else [repr(hints)]
    ran = runwide.map(
        lambda one: (described(one), fib(20), Planet.EARTH.label, Planet(3).label, Needy.double, Tagged.tag),
        [1, [2, "a"]],
    )
    rest = 6765, "earth", "earth", 8, "t"
    found["ran"] = [] if ran == [("int", *rest), (["int", "something"], *rest)] else [repr(ran)]
    if (
        Plain.limit is not state
        or Plain.fine.__globals__ is not globals()
        or Registering.known != {"first": Registered}
    ):
        found["state"] = ["the program's own classes were changed"]
    print(json.dumps({name: what for name, what in found.items() if what}))


if __name__ == "__main__":
    main()
