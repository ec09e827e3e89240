"""A program whose initializers set globals: prints, as JSON, what its functions did not see of that."""

# ruff: noqa: PLW0603, PLW0108 - globals are the point, and so are lambdas

from __future__ import annotations

import asyncio
import functools
import json
import multiprocessing
import sys

import runwide

VALUE = 3
COUNTER = None
FACTOR = None
TABLE: dict = {}
ALIAS = TABLE
NAMES: list = []
TOKEN = "token"
SHAPE = None
LARGE = list(range(100_000))
LARGE_TABLE = dict.fromkeys(range(100_000))
SETTINGS = {"depth": 1}


class Config:
    depth = 1

    def __init__(self, depth):
        self.depth = depth


class Setup:
    """Sets a global where it is made."""

    def __init__(self, value):
        global COUNTER
        COUNTER = value


class Loader:
    def __init__(self, extra):
        self.extra = extra

    def load(self, value):
        global COUNTER
        COUNTER = value + self.extra

    __call__ = load

    @classmethod
    def of_class(cls, value):
        global COUNTER
        COUNTER = value

    @staticmethod
    def of_none(value):
        global COUNTER
        COUNTER = value


def rebind(value):
    global COUNTER
    COUNTER = value


def count(x):
    return x * COUNTER


def add(value):
    global MODEL
    MODEL = value


def model(x):
    return x * MODEL


def mutate(value):
    TABLE["a"] = value
    NAMES.append(value)


def look_up(x):
    return x * TABLE["a"] * len(NAMES)


def through_alias(x):
    return x * ALIAS["a"]


def by_default(x, table=TABLE):
    return x * table["a"]


def by_keyword(x, *, table=TABLE):
    return x * table["a"]


def delete(value):
    global TOKEN
    del TOKEN


def has_token(x):
    try:
        return TOKEN and 0
    except NameError:
        return x * VALUE


def by_globals(value):
    globals().update(COUNTER=value, MODEL=value)


def by_globals_name(value):
    globals()["COUN" + "TER"] = value


def by_module(value):
    vars(sys.modules["__main__"])["COUNTER"] = value


def by_import(value):
    import __main__

    __main__.COUNTER = value


def by_exec(value):
    exec(f"COUNTER = {value}", globals())


def through(value):
    rebind(value)


def count_through(x):
    return count(x)


def decorator(function):
    @functools.wraps(function)
    def inner(*args):
        return function(*args)

    return inner


@decorator
def decorated(value):
    global COUNTER
    COUNTER = value


@decorator
def count_decorated(x):
    return x * COUNTER


@functools.cache
def cached(x):
    return x * COUNTER


def class_in_global(value):
    global SHAPE
    SHAPE = Config


def uses_shape(x):
    return x * SHAPE(VALUE).depth if SHAPE is Config else None


def instance_in_global(value):
    global SHAPE
    SHAPE = Config(value)


def uses_instance(x):
    return x * SHAPE.depth if isinstance(SHAPE, Config) else None


def new_class(value):
    global KIND

    class KIND:
        depth = value


def uses_new_class(x):
    return x * KIND.depth


def class_attribute(value):
    Config.depth = value
    Config.added = value


def uses_class_attribute(x):
    return x * Config.added if Config.added == Config.depth else None


def function_attribute(value):
    uses_function_attribute.factor = value


def uses_function_attribute(x):
    return x * uses_function_attribute.factor


def helper():
    return 1


def replace_function(value):
    global helper
    helper = lambda: value


def uses_helper(x):
    return x * helper()


def replace_large(value):
    global LARGE
    LARGE = [value]


def uses_large(x):
    return x * LARGE[0] if len(LARGE) == 1 else None


def mutate_large(value):
    LARGE_TABLE["a"] = value


def uses_large_table(x):
    return x * LARGE_TABLE["a"]


def several(value):
    global COUNTER, FACTOR
    COUNTER, FACTOR = value, 1


def uses_several(x):
    return x * COUNTER * FACTOR


class Work:
    def __init__(self, by):
        self.by = by

    def method(self, x):
        return x * COUNTER * self.by

    __call__ = method

    @staticmethod
    def static(x):
        return x * COUNTER

    @classmethod
    def of_class(cls, x):
        return x * COUNTER


def nested():
    unit = 1

    def begin(value):
        global COUNTER
        nonlocal unit
        unit = 2
        COUNTER = value

    def work(x):
        return x * COUNTER

    return begin, work


def closed_over():
    state = None

    def begin(value):
        nonlocal state
        state = value

    def work(x):
        return x * state

    return begin, work


def closed_mutable():
    state = {}

    def begin(value):
        state["a"] = value

    def work(x):
        return x * state["a"]

    return begin, work


CASES = {
    "rebound": (rebind, count),
    "added": (add, model),
    "mutated": (mutate, look_up),
    "alias": (mutate, through_alias),
    "default": (mutate, by_default),
    "keyword default": (mutate, by_keyword),
    "deleted": (delete, has_token),
    "globals()": (by_globals, count),
    "globals() adds": (by_globals, model),
    "globals()[]": (by_globals_name, count),
    "sys.modules": (by_module, count),
    "import __main__": (by_import, count),
    "exec": (by_exec, count),
    "through": (through, count_through),
    "decorated": (decorated, count_decorated),
    "cached": (rebind, cached),
    "class in global": (class_in_global, uses_shape),
    "instance in global": (instance_in_global, uses_instance),
    "new class": (new_class, uses_new_class),
    "class attribute": (class_attribute, uses_class_attribute),
    "function attribute": (function_attribute, uses_function_attribute),
    "replaced function": (replace_function, uses_helper),
    "large": (replace_large, uses_large),
    "large mutated": (mutate_large, uses_large_table),
    "several": (several, uses_several),
    "lambda": (lambda value: rebind(value), lambda x: count(x)),
    "lambda with globals": (lambda value: globals().update(COUNTER=value), lambda x: x * COUNTER),
    "partial": (functools.partial(rebind), functools.partial(count)),
    "bound method": (Loader(0).load, Work(1).method),
    "object": (Loader(0), Work(1)),
    "class method": (Loader.of_class, Work.of_class),
    "static method": (Loader.of_none, Work.static),
    "class": (Setup, count),
    "setattr": (functools.partial(setattr, sys.modules["__main__"], "COUNTER"), count),
    "nested": nested(),
    "nonlocal": closed_over(),
    "closed mutable": closed_mutable(),
}
OURS = {
    "sys.modules",
    "import __main__",
    "setattr",
    "lambda",
    "lambda with globals",
    "nested",
    "nonlocal",
    "closed mutable",
}
"""Cases that plain pickle refuses, or where the ``__main__`` of a spawned process has no globals of its functions."""


async def awaited(work, items, **options):
    return await runwide.amap(work, items, **options)


def by_pool(call, **options):
    def run(work, items, initializer):
        with runwide.Pool(1, initializer, (VALUE,), **options) as pool:
            return list(call(pool, work, items))

    return run


def by_executor(call):
    def run(work, items, initializer):
        with runwide.Executor(1, initializer=initializer, initargs=(VALUE,)) as executor:
            return list(call(executor, work, items))

    return run


def by_map(call, **options):
    def run(work, items, initializer):
        return list(call(work, items, workers=1, initializer=initializer, initargs=(VALUE,), **options))

    return run


def by_multiprocessing(work, items, initializer):
    with multiprocessing.get_context("spawn").Pool(1, initializer, (VALUE,)) as pool:
        return pool.map(work, items)


def by_joblib(work, items, initializer):
    from joblib import Parallel, delayed

    runwide.register_joblib()
    return Parallel(n_jobs=2, backend="runwide", initializer=initializer, initargs=(VALUE,))(
        delayed(work)(item) for item in items
    )


def by_joblib_config(work, items, initializer):
    from joblib import Parallel, delayed, parallel_config

    runwide.register_joblib()
    with parallel_config(backend="runwide", n_jobs=2, initializer=initializer, initargs=(VALUE,)):
        return Parallel()(delayed(work)(item) for item in items)


STORE = "memory://initializers"
SURFACES = {
    "map": by_map(runwide.map),
    "map with a store": by_map(runwide.map, store=STORE),
    "imap": by_map(runwide.imap),
    "imap_unordered": by_map(runwide.imap_unordered),
    "amap": by_map(lambda *args, **options: asyncio.run(awaited(*args, **options))),
    "Executor.submit": by_executor(lambda executor, work, items: [executor.submit(work, x).result() for x in items]),
    "Executor.map": by_executor(lambda executor, work, items: executor.map(work, items)),
    "Pool.apply": by_pool(lambda pool, work, items: [pool.apply(work, (x,)) for x in items]),
    "Pool.map": by_pool(lambda pool, work, items: pool.map(work, items)),
    "Pool.map_async": by_pool(lambda pool, work, items: pool.map_async(work, items).get()),
    "Pool.imap": by_pool(lambda pool, work, items: pool.imap(work, items)),
    "Pool.imap_unordered": by_pool(lambda pool, work, items: pool.imap_unordered(work, items)),
    "Pool.starmap": by_pool(lambda pool, work, items: pool.starmap(work, [(x,) for x in items])),
    "Pool.map with a store": by_pool(lambda pool, work, items: pool.map(work, items), store=STORE),
    "Pool.imap with a store": by_pool(lambda pool, work, items: pool.imap(work, items), store=STORE),
    "joblib": by_joblib,
    "joblib.parallel_config": by_joblib_config,
    "multiprocessing": by_multiprocessing,
}  # fmt: skip
FEW = ["rebound", "added", "deleted", "globals()", "default", "class attribute", "nonlocal"]


def described(surface, case):
    initializer, work = CASES[case]
    try:
        return sorted(surface(work, [1, 2, 3], initializer))
    except Exception as error:
        return f"{type(error).__name__}: {error}"


if __name__ == "__main__":
    # A surface, and its cases: all, a few, or those that multiprocessing can send to another process.
    cases = {"all": list(CASES), "few": FEW, "standard": [case for case in CASES if case not in OURS]}[
        sys.argv[2]
    ]
    found = {case: described(SURFACES[sys.argv[1]], case) for case in cases}
    print(json.dumps({case: values for case, values in found.items() if values != [3, 6, 9]}))
