"""The function of a fan-out gets values of the program unchanged, and values of the pipeline with their declared types.

Each test has the scatter step's inputs made, gives them the texts that an engine would, and reads them as the step does.
No annotations as strings: kfp takes them as objects.
"""

# ruff: noqa: UP006, UP035, UP045 - as users of kfp spell types
import datetime as dt
import decimal
import fractions
import importlib
import json
import subprocess
import sys
import uuid
from typing import Any, Dict, List, Optional

import numpy as np
import pandas as pd
import pytest
from any_value import same, values
from as_engine import seen, seen_in
from google.protobuf import json_format
from hypothesis import example, given, settings
from hypothesis import strategies as st
from kfp import dsl

from runwide.cli.encoding import is_by_value, values_bytes, written_code
from runwide.code.archive import code_of
from runwide.errors import InputError, ItemNotPicklable
from runwide.pickling.functions import Needs
from runwide.pickling.items import Definitions
from runwide_components import fan_out
from runwide_components.wires import wires

STORE = "gs://bucket/runs"


def take(item, **constants):
    return item, constants


@settings(max_examples=100, deadline=None)
@given(st.lists(values, min_size=1, max_size=4), st.dictionaries(st.sampled_from("abc"), values))
def test_items_and_constants_arrive_as_they_were(items, constants):
    found = seen(wires(take, items, 1, STORE, constants))
    assert same(found.items, items)
    assert same(found.constants, constants)


@settings(max_examples=20, deadline=None)
@example([1], {"a": "{{$.pipeline_", "b": "}}"})  # no placeholder, but the parts of one
@given(st.lists(values, min_size=1, max_size=9), st.dictionaries(st.sampled_from("abc"), values))
def test_they_are_in_that_form_in_the_spec_for_engines(items, constants):
    @dsl.pipeline(name="fixed")
    def fixed():
        fan_out(take, items, components=1, store=STORE, constants=constants)

    found = seen_in(json.loads(json_format.MessageToJson(fixed.pipeline_spec)))
    assert same(found.items, items)
    assert same(found.constants, constants)


@settings(max_examples=100, deadline=None)
@given(st.recursive(st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False),
                              st.text()), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)))  # fmt: skip
def test_values_that_json_preserves_are_in_the_pipeline_in_clear_text(value):
    made = wires(take, [value], 1, STORE, {})
    assert same(seen(made).items, [value])
    (option,) = [port.options for port, _ in made.all if port.name == "items"]
    text = json.dumps([value])
    if len(text) < 30_000 and "{{" not in text and '{"Concat"' not in text and '{"IfPresent"' not in text:
        assert option == ("--items-json",)


@pytest.mark.parametrize(
    "items",
    [
        np.arange(3), pd.Series([1.5, 2.5]), {"a": 1}.keys(), {1, 2}, range(3), (one for one in "ab"), np.eye(2),
        [uuid.UUID(int=1)], [decimal.Decimal("1.10")], [fractions.Fraction(1, 3)], [dt.date(2026, 11, 24)],
    ],
    ids=["array", "series", "keys", "set", "range", "generator", "rows", "uuid", "decimal", "fraction", "date"],
)  # fmt: skip
def test_every_iterable_gives_its_items(items):
    expected = list(items) if not hasattr(items, "send") else ["a", "b"]
    assert same(seen(wires(take, items, 1, STORE, {})).items, expected)


def test_a_value_that_cannot_be_pickled_is_named():
    with pytest.raises(ItemNotPicklable, match=r"constant 'k' cannot be pickled: TypeError.*list\[1\]"):
        wires(take, [1], 1, STORE, {"k": [1, (one for one in "ab")]})


def test_values_that_hold_themselves_and_deep_ones_are_gone_through():
    endless = [1]
    endless.append(endless)
    (found,) = seen(wires(take, [endless], 1, STORE, {})).items
    assert found[0] == 1
    assert found[1] is found
    deep = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(InputError, match="are nested too deeply for Python"):
        wires(take, [deep], 1, STORE, {})


def test_long_values_go_to_the_store_with_their_digest(tmp_path):
    long = np.random.default_rng(1).bytes(100_000)
    made = wires(take, [long], 1, str(tmp_path), {"k": long[::-1]})
    assert sum(len(str(value)) for _, value in made.fixed) < 10_000
    found = seen(made)
    assert found.items == [long]
    assert found.constants == {"k": long[::-1]}


def test_values_that_are_short_alone_are_not_too_long_together(tmp_path):
    middling = [np.random.default_rng(seed).bytes(45_000) for seed in range(3)]
    made = wires(lambda item, k, one=middling[0]: item, [middling[1]], 1, str(tmp_path), {"k": middling[2]})
    assert sum(len(str(value)) for _, value in made.fixed) < 128 * 1024
    found = seen(made)
    assert (found.items, found.constants) == ([middling[1]], {"k": middling[2]})


def test_long_values_need_a_store_that_is_known_when_compiling():
    seen_error = "takes .* bytes: a pipeline spec has room for .*, and the store is not known before the run"

    @dsl.pipeline(name="late")
    def late(bucket: str):
        with pytest.raises(InputError, match=seen_error):
            fan_out(
                take, [np.random.default_rng(1).bytes(100_000)], components=1, store=f"gs://{bucket}/runs"
            )
        fan_out(take, [1], components=1, store=f"gs://{bucket}/runs")


ANNOTATIONS = [
    # what kfp accepts, a value, and how it arrives
    (str, "3", "3"), (int, 3, 3), (float, 3.0, 3.0), (bool, False, False),
    (list, [1, 2.5, "1", [2]], [1, 2.5, "1", [2]]), (List, [1.0], [1]), (List[str], ["1", "a"], ["1", "a"]),
    (list[int], [1, 2], [1, 2]), (List[float], [1.0, 2.5], [1.0, 2.5]), (list[bool], [True], [True]),
    (List[List[float]], [[1.0], []], [[1.0], []]), (List[Dict[str, Any]], [{"a": 1}], [{"a": 1}]),
    (dict, {"a": 1, "b": [0.5]}, {"a": 1, "b": [0.5]}), (Dict, {"a": 1.0}, {"a": 1}),
    (Dict[str, int], {"a": 1}, {"a": 1}), (dict[str, float], {"a": 1.0}, {"a": 1.0}),
    (Dict[str, List[int]], {"a": [1, 2]}, {"a": [1, 2]}), (Dict[str, List[float]], {"a": [1.0]}, {"a": [1.0]}),
]  # fmt: skip
OPTIONAL = [
    (Optional[int], 3, 3),
    (Optional[List[float]], [1.0], [1.0]),
    (Optional[Dict], {"a": 1}, {"a": 1}),
]
PLACES = ["parameter", "output", "loop variable", "loop sub-variable"]
# kfp itself accepts optional values as parameters only
CASES = [
    *((place, *one) for place in PLACES for one in ANNOTATIONS),
    *(("parameter", *one) for one in OPTIONAL),
]


def pipeline_with(place, annotation, use):
    """A pipeline that has a value of an annotation at a place, and uses it."""

    def make():
        return None

    make.__annotations__ = {"return": annotation}
    outer = {"loop variable": List[annotation], "loop sub-variable": List[Dict[str, annotation]]}.get(
        place, annotation
    )  # type: ignore[valid-type]

    def body(given):
        if place == "output":
            use(dsl.component(base_image="python:3.11")(make)().output)
        elif place == "parameter":
            use(given)
        else:
            with dsl.ParallelFor(given) as item:
                use(item.x if place == "loop sub-variable" else item)

    body.__annotations__ = {"given": outer}
    return dsl.pipeline(name="annotated")(body)


def engine(place, value):
    """Return the values that the engine gives for the channels of such a pipeline."""
    whole = {"x": value} if place == "loop sub-variable" else value
    return {"given": value, "given-loop-item": whole, "make-Output": value}


@pytest.mark.parametrize(
    ("place", "annotation", "value", "expected"),
    CASES,
    ids=[f"{place}-{number}" for number, (place, *_) in enumerate(CASES)],
)
def test_every_annotation_of_kfp_compiles_and_gives_its_type(place, annotation, value, expected):
    made, items_made = [], []

    def use(channel):
        made.append(wires(take, [0], 1, STORE, {"k": channel, "deep": [(channel,)]}))
        fan_out(take, [0], components=1, store=STORE, constants={"k": channel})
        if isinstance(value, list):
            items_made.append(wires(take, channel, 1, STORE, {}))
            fan_out(take, channel, components=1, store=STORE)

    pipeline_with(place, annotation, use)
    assert same(seen(made[0], **engine(place, value)).constants, {"k": expected, "deep": [(expected,)]})
    for one in items_made:
        assert same(seen(one, **engine(place, value)).items, expected)


def test_classes_of_own_modules_are_known_where_their_files_are_not(tmp_path, monkeypatch):
    (tmp_path / "shop_rows.py").write_text(
        "import dataclasses, enum\n\n\nclass Kind(enum.Enum):\n    FOOD = 1\n\n\n"
        "@dataclasses.dataclass\nclass Price:\n    kind: Kind\n    cents: int = 0\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    module = importlib.import_module("shop_rows")
    shared = Definitions()
    data = values_bytes([module.Price(module.Kind.FOOD, 3), (module.Kind.FOOD,)], "the items", shared)
    (tmp_path / "data").write_bytes(data)
    (tmp_path / "code").write_text(written_code(code_of(Needs(frozenset(shared.modules)))))
    program = (
        "import sys\nfrom pathlib import Path\nfrom runwide.cli.encoding import value_of_bytes\n"
        "from runwide.cli.wire import code_used\ncode_used(Path(sys.argv[2]).read_text())\n"
        "found = value_of_bytes(Path(sys.argv[1]).read_bytes())\n"
        "import shop_rows\nprint(found, type(found[0]) is shop_rows.Price)"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-c", program, str(tmp_path / "data"), str(tmp_path / "code")],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout == "[Price(kind=<Kind.FOOD: 1>, cents=3), (<Kind.FOOD: 1>,)] True\n"
    assert not is_by_value(data)
    assert not is_by_value(values_bytes([np.arange(3), decimal.Decimal(1), {1: (2,)}]))
