"""The kernel's list of CPUs."""

from __future__ import annotations

import contextlib
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runwide.host.topology import format_cpulist, parse_cpulist

cpus = st.frozensets(st.integers(0, 4095), max_size=64)


@given(cpus)
def test_a_formatted_list_parses_to_the_same_cpus(numbers):
    assert parse_cpulist(format_cpulist(numbers)) == numbers


@given(cpus)
def test_the_format_has_no_neighbouring_runs(numbers):
    runs = [[int(end) for end in run.split("-")] for run in format_cpulist(numbers).split(",") if run]
    assert all(later[0] > earlier[-1] + 1 for earlier, later in pairwise(runs))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", set()),
        ("0", {0}),
        ("0-3,8", {0, 1, 2, 3, 8}),
        (" 1 , 3 \n", {1, 3}),
        ("0-8:2/4", {0, 1, 4, 5, 8}),
        ("0-2,", {0, 1, 2}),
    ],
)
def test_the_kernels_forms_are_understood(text, expected):
    assert parse_cpulist(text) == expected


@pytest.mark.parametrize(
    "text", ["banana", "0-", "-3", "3-1", "0-99999999", "1.5", "0-3:1/0", "٣", "0x1", "1-2-3"]
)
def test_anything_else_is_an_error(text):
    with pytest.raises(ValueError, match="not a range"):
        parse_cpulist(text)


@given(st.text())
def test_any_text_is_a_list_or_a_value_error(text):
    with contextlib.suppress(ValueError):
        parse_cpulist(text)
