"""A program with functions of many shapes, which a test runs in each of the ways in which pipelines are compiled.

No annotations as strings: kfp takes them as objects.
"""

import enum
import functools
import hashlib
import json
import os
import re
from dataclasses import dataclass
from typing import Any, NamedTuple

import asked
import beside
import toolbox
from bulk.sizes import measured
from chain import chained, doubled, noted
from farm import common
from farm.deep.deeper.work import scaled
from farm.files import looked_up
from farm.kinds import KINDS, OTHERS, Colour, Data, Pair, Plain, mirrored, shifted
from gadgets.made import Gadget, made
from kfp import dsl
from space.inner import part

import runwide
from runwide.job.named_jobs import scatter_or_find
from runwide.store import open_store
from runwide_components import Components, Kubeflow, Local, Vertex, fan_out

TASKS = json.loads(os.environ.get("MATRIX", "{}"))
"""What the test asks for: the shapes, the store, the engine."""


class Round:
    """A plain class of the program."""

    def __init__(self, size):
        self.size = size

    def __repr__(self):
        return f"Round({self.size})"


@dataclass(frozen=True)
class Row:
    size: int


class Way(enum.Enum):
    UP = 1
    DOWN = 2


class Step(NamedTuple):
    left: object
    right: object


MINE = (Round(1), Row(2), Way.UP, Step(1, Row(3)))
MINE_TOO = (Round(2), Row(3), Way.DOWN, Step(Row(3), Data(1)))


def mirrored_here(item):
    number = item if type(item) is int else [type(one).__name__ for one in MINE].index(type(item).__name__)
    given = MINE[number] if type(item) is int else item
    return (MINE_TOO[number], type(given) is type(MINE[number])), None


def of_program(item):
    value, origin = beside.triple(item)
    return Row(value), origin


def with_attribute(item):
    return item * beside.RATE + common.FACTOR, beside.triple(0)[1]


def imports_inside(item):
    from farm.late import late

    return late(item)


@noted
def decorated(item):
    """Its docstring, which it keeps."""
    return part.parted(item)


by_lambda = lambda item: (Data(scaled(item)[0].size + 1), beside.triple(0)[1])
by_partial = functools.partial(shifted, unit=Data(100))
by_method = Plain(5).plus
by_object = Plain(6)


class Shape(NamedTuple):
    """A function with its items and expected results; ``constants`` and ``code`` if the way has them."""

    function: Any
    items: Any
    expected: Any
    constants: Any = {}
    code: Any = ()


TWO = [1, 2]
SHAPES = {
    "beside": Shape(beside.triple, TWO, [3, 6]),
    "package": Shape(scaled, TWO, [Data(15), Data(25)]),
    "namespace": Shape(part.parted, TWO, [-6, -5]),
    "editable": Shape(toolbox.used, TWO, [toolbox.Tool("tool 1"), toolbox.Tool("tool 2")]),
    "editable-by-hook": Shape(made, TWO, [Gadget(1), Gadget(2)]),
    "second-helper": Shape(chained, TWO, [11, 41]),
    "in-program": Shape(of_program, TWO, [Row(3), Row(6)]),
    "lambda": Shape(by_lambda, TWO, [Data(16), Data(26)]),
    "partial": Shape(by_partial, TWO, [Data(101), Data(102)]),
    "bound-method": Shape(by_method, TWO, [Data(6), Data(7)]),
    "decorated": Shape(decorated, TWO, [("noted", -6), ("noted", -5)]),
    "decorated-in-module": Shape(doubled, TWO, [("noted", 2), ("noted", 4)]),
    "callable": Shape(by_object, TWO, [Pair(6, 1), Pair(6, 2)]),
    "attribute": Shape(with_attribute, TWO, [13, 16]),
    "classes": Shape(mirrored, KINDS, [(one, True) for one in OTHERS]),
    "classes-in-program": Shape(mirrored_here, MINE, [(one, True) for one in MINE_TOO]),
    "import-inside": Shape(imports_inside, TWO, [11, 12]),
    "data-file": Shape(looked_up, TWO, ["one", "two"]),
    "large": Shape(measured, TWO, [150_001, 150_002]),
    "classmethod": Shape(Plain.made, TWO, [Plain(1), Plain(2)]),
    "staticmethod": Shape(Plain.coloured, TWO, [Colour.RED, Colour.GREEN]),
    "constant": Shape(shifted, TWO, [Data(8), Data(9)], {"unit": Data(7)}),
    "asked-for": Shape(asked.labelled, TWO, ["first", "second"], code=[str(asked.FOLDER)]),
}
by_constant = functools.partial(shifted, **SHAPES["constant"].constants)


def wanted():
    return {name: SHAPES[name] for name in TASKS.get("shapes", ())}


def store_of(name):
    return f"{TASKS['store']}/{name}"


@dsl.pipeline(name="shapes")
def shapes():
    for name, shape in wanted().items():
        fan_out(
            shape.function, shape.items, store=store_of(name), components=1, workers=1, report=False,
            constants=shape.constants, code=shape.code,
        )  # fmt: skip


def engine():
    name, words, options = TASKS["engine"]
    return {"Local": Local, "Vertex": Vertex, "Kubeflow": Kubeflow}[name](*words, **options)


def by_pipeline():
    engine().submit(shapes, {}).wait(300)
    tell(results_in)


def by_components():
    def mapped(name):
        shape = SHAPES[name]
        place = Components(1, store=store_of(name), engine=engine(), code=shape.code)
        return runwide.map(with_constants(shape), shape.items, on=place)

    tell(mapped)


def with_constants(shape):
    return functools.partial(shape.function, **shape.constants) if shape.constants else shape.function


def by_begun_map():
    """The part of a stored map before anything runs."""
    print(json.dumps([
        scatter_or_find(with_constants(shape), shape.items, store=store_of(name), shards=1, name="n").job.reference
        for name, shape in wanted().items()
    ]))  # fmt: skip


def by_map():
    """A stored map; one that is finished by ``runwide shard`` is found again under its name."""

    def mapped(name):
        shape = SHAPES[name]
        return runwide.map(
            with_constants(shape), shape.items, store=store_of(name), name="n", shards=1, workers=1
        )

    tell(mapped)


def by_commands():
    """Return the objects that commands left in the store."""
    tell(results_in)


def results_in(name):
    with open_store(store_of(name)) as store:
        (found,) = [
            info.name for info in store.list("") if re.fullmatch(r"[^/]+/result[^/]*\.json", info.name)
        ]
        digest = hashlib.sha256(bytes(store.read(found))).hexdigest()
    return runwide.load(f"{store_of(name)}/{found}#sha256={digest}")


def tell(results_of):
    """Print how the results of each shape compare with the expected results."""
    print(
        "VERDICTS", json.dumps({name: verdict(shape, results_of(name)) for name, shape in wanted().items()})
    )


def verdict(shape, results):
    values = [value for value, _ in results]
    return {
        "results": repr(values),
        "expected": repr(shape.expected),
        "same": same(values, shape.expected),
        "origins": sorted({origin for _, origin in results if origin}),
    }


def same(one, other):
    """Return True if two values are equal and have the same classes."""
    if type(one) is not type(other):
        return False
    if isinstance(one, enum.Enum):
        return one is other
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    if hasattr(one, "__dict__"):
        return same([*vars(one).items()], [*vars(other).items()])
    return one == other


def main():
    {
        "pipeline": by_pipeline, "components": by_components, "begin": by_begun_map, "map": by_map, "commands": by_commands,
    }[TASKS["do"]]()  # fmt: skip


if __name__ == "__main__":
    main()
