"""Arguments of `runwide scatter`, in each form, and those that it rejects."""

from __future__ import annotations

import base64
import json
import pickle
import zlib

import pytest
from as_engine import SCATTER

from runwide.cli.scatter_arguments import QUOTED, Arguments, Table, check_shards
from runwide.errors import InputError
from runwide.job.reference import short_reference

PLAIN = ("--function", "math:sqrt", "--store", "/s", "--shards", "2")


def told(*words):
    given = SCATTER.make_context("scatter", list(words)).params
    return Arguments.of(given["pickled"], given["composed"], given["given"]), given


def items(*words):
    arguments, given = told(*PLAIN, *words)
    return arguments.items(
        text=given["items_json"], file=given["items_file"], parameter=given["items_parameter"], kind=given["items_type"],
        source=given["items_from"], table=Table(given["items_format"], given["items_types"], given["executor_input"]),
    )  # fmt: skip


def packed(value):
    return "z:" + base64.b64encode(zlib.compress(pickle.dumps(value))).decode()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("--items-json", "[1.0, 2]"), [1.0, 2]),
        (("--items-parameter", "[1.0, 2.5]"), [1, 2.5]),
        (("--items-type", "list[float]", "--items-parameter", "[1, 2.5]"), [1.0, 2.5]),
        (("--pickled", "items", packed([(1,)])), [(1,)]),
        (("--composed", "items", '[{"name": "a", "type": "list[int]"}]', "--given", "a", "[1.0]"), [1]),
    ],
)
def test_items_are_given_in_one_way(words, expected):
    assert repr(items(*words)) == repr(expected)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ((), "there are no items: in a pipeline, its parameter for them was left out; .* give one of --items-json"),
        (("--composed", "items", '[{"name": "a"}]'), "there are no items: in a pipeline, its parameter"),
        (("--items-json", "[1]", "--items-parameter", "[1]"), "give one of --items-json"),
        (("--pickled", "store", "z:"), "--pickled store is unknown; it takes items, constants"),
        (("--composed", "job", "[]"), "--composed job is unknown; it takes store, shards, items"),
        (("--pickled", "items", "z:AAAA"), "--pickled is not base64 of a pickle"),
        (
            ("--composed", "items", '[{"name": "a", "among": "q"}]', "--given", "a", "x"),
            "a is an element of 'q', which is missing; give --given q as well",
        ),
        (("--pickled", "items", packed(3)), "items is an int, not a list"),
        (("--composed", "items", "3"), "invalid --composed items: expected a text with parameters"),
        (("--composed", "items", '[{"nam": "a"}]'), "invalid --composed items: expected a text with parameters"),
        (("--composed", "items", "[1"), "--composed items is '.1', not JSON"),
        (("--items-type", "list[int]", "--items-parameter", '["a"]'), r"a list\[int\] of a pipeline: items\[0\] is 'a'"),
        (("--composed", "items", '[{"name": "a"}]', "--given", "a", "{{$.pipeline_root}}"), "has not filled in"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused_in_one_line(words, says):
    with pytest.raises(InputError, match=says):
        items(*words)


def test_the_store_and_the_shards_are_given_once():
    composed = ("--composed", "store", '["/", {"name": "n", "type": "int"}]', "--given", "n", "3.0")
    arguments, _ = told(*composed)
    assert arguments.text("store", None) == "/3"
    with pytest.raises(InputError, match="--store is given twice"):
        arguments.text("store", "/s")
    with pytest.raises(InputError, match="--shards is missing; give --shards once"):
        arguments.text("shards", None)


def test_constants_of_all_ways_are_joined():
    arguments, given = told(
        "--constants-json", '{"a": 1.0}', "--constants-parameter", '{"b": 1.0}', "--constant", "c", "list[float]", "[1]",
        "--pickled", "constants", packed({"d": {1}}),
    )  # fmt: skip
    found = arguments.constants(given["constants_json"], given["constants_parameter"], given["typed"])
    assert repr(found) == "{'a': 1.0, 'c': [1.0], 'd': {1}, 'b': 1}"


def test_shards_whose_references_are_too_long_for_a_step_are_refused():
    most = next(count for count in range(1, 4000) if not fits(count)) - 1
    assert most > 1800
    long = json.dumps(
        [short_reference(index, f"/j/shards/s.json#sha256={'0' * 64}") for index in range(most)]
    )
    assert len(long) <= QUOTED
    with pytest.raises(
        InputError, match=r"components have \d+ bytes of references, .*; use fewer components"
    ):
        check_shards(most + 1)


def fits(count):
    try:
        check_shards(count)
    except InputError:
        return False
    return True
