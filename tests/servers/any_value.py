"""Hypothesis strategies for values of every kind that a program may have, and a comparison of two values."""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp


class Colour(enum.Enum):
    RED = 1
    BLUE = "b"


class Text(str):
    """A subclass of str."""

    __slots__ = ()


class Point(NamedTuple):
    x: Any
    y: Any


@dataclass(frozen=True)
class Row:
    """A class whose instances must be made again if they contain a parameter."""

    name: Any
    many: tuple = ()
    made: str = field(default="", init=False)


@dataclass
class Open:
    """A class whose instances may have attributes that are not fields."""

    value: Any


def same(one, other):
    """Return whether two values are equal, and have the same types in all their parts."""
    return type(one) is type(other) and _equal(one, other)


def _equal(one, other):
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict):
        return same(list(one), list(other)) and same(list(one.values()), list(other.values()))
    if isinstance(one, (Row, Open)):
        return same(vars(one), vars(other))
    if isinstance(one, (np.ndarray, np.generic)):
        return one.dtype == other.dtype and np.array_equal(one, other, equal_nan=one.dtype.kind in "fcmM")
    if isinstance(one, (pd.Series, pd.DataFrame)):
        return one.equals(other)
    return (isinstance(one, float) and math.isnan(one) and math.isnan(other)) or bool(one == other)


DTYPES = [
    "bool",
    "int8",
    "int64",
    "float32",
    "float64",
    "complex128",
    "U3",
    "S2",
    "datetime64[ns]",
    "timedelta64[s]",
]
keys = st.one_of(
    st.integers(), st.text(), st.tuples(st.integers(), st.text()), st.dates(), st.sampled_from(Colour)
)
scalars = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.binary(), st.complex_numbers(allow_nan=False),
    st.decimals(allow_nan=False), st.fractions(), st.dates(), st.datetimes(), st.timedeltas(), st.times(), st.uuids(),
    st.sampled_from(Colour), st.text().map(Text),
    hnp.arrays(st.sampled_from(DTYPES), hnp.array_shapes(max_dims=2, max_side=3)),
    st.integers(-9, 9).map(np.int64), st.floats(width=32).map(np.float32),
    st.lists(st.floats()).map(pd.Series), st.lists(st.text()).map(lambda texts: pd.DataFrame({"text": texts})),
    st.sampled_from([pd.Timestamp("2026-11-24", tz="UTC"), range(3), Ellipsis, int, "{{$.pipeline_job_name}", "{{ x }}"]),
)  # fmt: skip
values = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.tuples(inner, inner), st.dictionaries(keys, inner, max_size=3),
        st.sets(keys, max_size=3), st.frozensets(keys, max_size=3), st.builds(Point, inner, inner), st.builds(Row, inner),
        st.builds(Open, inner),
    ),
    max_leaves=8,
)  # fmt: skip
