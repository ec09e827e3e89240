"""Pickles of plain data come back unchanged; other pickles run no code, change nothing, and do not end the process."""

import collections
import datetime as dt
import decimal
import os
import pickle
import resource
import struct
import subprocess
import sys
import uuid

import numpy as np
import pytest

from runwide.store.codec import decode_verified, encode
from runwide.store.plain import NotPlain, loads

UTC = dt.timezone.utc
MOMENT = dt.datetime(2026, 11, 29, 12, tzinfo=UTC)
VALUES = [
    1, -5, 2**70, 1.5, True, None, "x", "é" * 300, "", b"a" * 300, bytearray(b"z" * 9), [1, [2]], {"a": (1, 2, 3, 4)},
    {1, 2}, frozenset([(1, (2,))]), {(1, 2): 3}, (), (1,), complex(1, 2), range(3), slice(1, None),
    collections.OrderedDict(a=1), collections.deque([1, 2]), collections.deque([1], 3), MOMENT, MOMENT.date(),
    MOMENT.replace(tzinfo=None), MOMENT.timetz(), dt.timedelta(1), UTC, decimal.Decimal("1.5"),
    dt.timezone(dt.timedelta(hours=1), "x"), uuid.UUID(int=7), uuid.SafeUUID.safe,
]  # fmt: skip
PLACED = {"names": ["a", "b"], "formats": ["i4", "i4"], "offsets": [8, 0], "itemsize": 16}
KINDS = [
    "f8", ">f4", "U5", "S3", "?", "M8[ns]", "M8[25us]", "m8", "M8", "c16", "V3", "V0", "O", "g", "f2", [],
    [("a", "f8"), ("b", "O")], [("a", "f8"), ("b", "i1")], np.dtype([("a", "f8"), ("b", "i1")], align=True),
    [("a", "f8", (2,)), ("n", [("x", ">i4"), ("y", "U2")])], [("a", "M8[s]"), ("b", "m8[D]")], PLACED,
]  # fmt: skip


def through(value):
    frame = encode(value, context="c")
    return decode_verified(b"".join(frame.parts), context="c", plain=True)


@pytest.mark.parametrize("value", VALUES, ids=lambda value: repr(value)[:30])
def test_plain_values_come_back(value):
    back = through(value)
    assert back == value
    assert type(back) is type(value)


def test_values_inside_of_themselves_come_back():
    value = []
    value.append((value, {"me": value}))
    back = through(value)
    assert back[0][0] is back
    assert back[0][1]["me"] is back


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_arrays_and_their_scalars_come_back_as_from_numpy(kind):
    kind = np.dtype(kind)
    assert through(kind) == kind
    arrays = [np.zeros(4, kind), np.zeros((4, 2), kind)[:, ::2], np.zeros((0, 3), kind), np.zeros((), kind)]
    for array in [*arrays, np.zeros((300, 30), kind, order="F")]:
        back, numpys = through(array), pickle.loads(pickle.dumps(array, 5))
        assert (back.dtype, back.shape, back.strides) == (numpys.dtype, numpys.shape, numpys.strides)
        assert repr(back.tolist()) == repr(array.tolist())
    if not kind.hasobject and kind.itemsize and kind != "M8":  # numpy cannot show it
        scalar = np.zeros(1, kind)[0]
        assert repr(through(scalar)) == repr(scalar)


def test_arrays_of_objects_come_back():
    array = np.array([1, "a", None, [1], np.arange(2)], dtype=object)
    assert repr(through({"a": [array]})) == repr({"a": [array]})


# --- pickles of an attacker's

HEAD = b"\x80\x05"
MANY = 300_000  # beyond any usual stack


def name(module, attribute):
    return b"".join(b"\x8c" + bytes([len(one)]) + one.encode() for one in (module, attribute)) + b"\x93"


def dtype(state):
    """A dtype of objects with a state of the attacker's."""
    return name("numpy", "dtype") + b"\x8c\x02O8\x89\x88\x87R" + state + b"b"


NO_OBJECTS = (
    b"(K\x03\x8c\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00t"  # says that it has none: flags are 0
)
OBJECTS = NO_OBJECTS[:-2] + b"\x3ft"
EMPTY = (
    name("numpy._core.multiarray", "_reconstruct") + name("numpy", "ndarray") + b"K\x00\x85C\x01b\x87R\x94"
)
LAUGHS = b"N\x94" + b"".join(b"h" + bytes([n]) + b"h" + bytes([n]) + b"\x86\x94" for n in range(60))
ATTACKS = {
    "a key that is nested deeper than the stack": b"(N" + b"\x85" * MANY + b"\x91",
    "a key of a dict that is": b"}N" + b"\x85" * MANY + b"Ns",
    "keys of a dict that are": b"}(N" + b"\x85" * MANY + b"Nu",
    "a member of a set that is": b"\x8f(N" + b"\x85" * MANY + b"\x90",
    "sets of sets without end": b"(" * MANY + b"\x91" * MANY,
    "a key that takes years to hash": b"(" + LAUGHS + b"\x91",
    "numbers without end": name("builtins", "set")
    + name("builtins", "range")
    + b"J\xff\xff\xff\x7f\x85R\x85R",
    "more of them": b"]" + name("builtins", "range") + b"J\xff\xff\xff\x7f\x85Ra" + b"\x8fh\x00(\x90",
    "a deque of them": name("collections", "deque")
    + name("builtins", "range")
    + b"J\xff\xff\xff\x7f\x85R\x85R",
    "a deque in a deque": name("collections", "deque") + b"\x940" + b"h\x00)R" * MANY + b"a" * (MANY - 1),
    "a slice in a slice": name("builtins", "slice") + b"\x940" + b"h\x00" * MANY + b"N" + b"\x85R" * MANY,
    "a memo of many places": b"Nr\xff\xff\xff\x0f",
    "more of them by text": b"Np4294967295\n",
    "bytes that are not there": b"\x96" + struct.pack("<Q", 1 << 40),
    "other bytes that are not there": b"\x8e" + struct.pack("<Q", 1 << 40),
    "text that is not there": b"\x8d" + struct.pack("<Q", 1 << 40),
    "a frame that is not there": b"\x95" + struct.pack("<Q", 1 << 40),
    "a number that is not there": b"\x8b\xff\xff\xff\x7f",
    "an array that is not there": name("numpy", "ndarray") + b"J\x00\x00\x00\x70\x85R",
    "a new array that is not there": name("numpy", "ndarray") + b"J\x00\x00\x00\x70\x85\x81",
    "a scalar that is not there": name("numpy._core.multiarray", "scalar")
    + name("numpy", "dtype")
    + b"\x8c\x0bV2000000000\x89\x88\x87R\x85R",
    "numbers as addresses": EMPTY + b"(K\x01K\x01\x85" + dtype(NO_OBJECTS) + b"\x89C\x08AAAAAAAAtb",
    "numbers as addresses of a field": EMPTY
    + b"(K\x01K\x01\x85"
    + name("numpy", "dtype")
    + b"\x8c\x02V8\x89\x88\x87R(K\x03\x8c\x01|N\x8c\x01a\x85}\x8c\x01a"
    + dtype(OBJECTS)
    + b"K\x00\x86sK\x08K\x01K\x00tb\x89C\x08AAAAAAAAtb",
    "numbers as the address of a scalar": name("numpy._core.multiarray", "scalar")
    + dtype(NO_OBJECTS)
    + b"C\x08AAAAAAAA\x86R",
    "numbers as addresses in a buffer": name("numpy._core.numeric", "_frombuffer")
    + b"(C\x08AAAAAAAA"
    + dtype(NO_OBJECTS)
    + b"K\x01\x85\x8c\x01CtR",
    "an array in an array": EMPTY
    + b"0"
    + (EMPTY + b"(K\x01K\x01\x85" + dtype(OBJECTS) + b"\x89]") * 2000
    + b"Na"
    + b"tba" * 1999
    + b"tb",
    "an attribute of a class": name("uuid", "UUID") + b"N}\x8c\x07__str__K\x05s\x86b",
    "attributes of a function": name("numpy._core.numeric", "_frombuffer") + b"N}\x8c\x0c__defaults__)s\x86b",
    "a dtype that all use": name("numpy", "dtype") + b"\x8c\x02f8\x89\x89\x87R" + NO_OBJECTS + b"b",
    "a UUID of something else": name("uuid", "UUID") + b")\x81}\x8c\x03int]sb",
    "an extension": b"\x82\x01",
    "a persistent id": b"Q",
}

LOAD = f"""
import pickle, resource, sys
resource.setrlimit(resource.RLIMIT_AS, ({2 << 30}, {2 << 30}))
import numpy, uuid
from runwide.store.plain import loads
before = uuid.UUID.__str__, numpy._core.numeric._frombuffer.__defaults__, numpy.dtype("f8")
for name, stream in pickle.load(sys.stdin.buffer).items():
    print(name, end=": ", flush=True)
    try:
        found = loads(stream)
    except MemoryError:
        raise
    except Exception:
        print("refused", flush=True)
    else:
        print("loaded", flush=True)
        del found
    assert before == (uuid.UUID.__str__, numpy._core.numeric._frombuffer.__defaults__, numpy.dtype("f8"))
"""


def loaded(streams):
    """Load pickles in a process of their own, which may end, and return the results."""
    ran = subprocess.run(
        [sys.executable, "-c", LOAD], input=pickle.dumps(streams), capture_output=True, timeout=200, check=False
    )  # fmt: skip
    assert (ran.returncode, ran.stderr) == (0, b""), ran.stdout.decode()
    return ran.stdout.decode().splitlines()


def test_attacks_end_in_an_exception():
    streams = {attack: HEAD + stream + b"." for attack, stream in ATTACKS.items()}
    assert loaded(streams) == [f"{attack}: refused" for attack in ATTACKS]


@pytest.mark.parametrize(
    "opens", [b"N" + b"\x85" * MANY, b"]" * MANY + b"a" * (MANY - 1)], ids=["tuple", "list"]
)
def test_deeply_nested_values_that_are_not_keys_are_loaded(opens):
    assert loaded({"deep": HEAD + opens + b"."}) == ["deep: loaded"]


@pytest.mark.parametrize(
    "call", [os.system, print, pickle.loads, resource.getrusage, np.load, np.fromfile, collections.Counter]
)
def test_no_other_name_is_looked_up(call):
    with pytest.raises(NotPlain, match="not plain data"):
        loads(pickle.dumps(call))


def test_an_extension_of_the_program_is_not_used(monkeypatch):
    import copyreg

    copyreg.add_extension("os", "system", 231)
    try:
        with pytest.raises(NotPlain, match="opcode"):
            loads(HEAD + b"\x82\xe7.")
    finally:
        copyreg.remove_extension("os", "system", 231)


def test_a_key_that_is_large_and_not_deep_is_accepted():
    value = {tuple(range(1000)): 1, (("a", 1.0), frozenset(range(50))): {(1, (2, (3,)))}}
    assert through(value) == value
