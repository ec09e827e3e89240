"""Types as a pipeline declares them, and JSON values brought to them."""

# ruff: noqa: UP006, UP035, UP045 - as users of kfp spell types
from __future__ import annotations

import sys
from dataclasses import dataclass
from functools import partial, wraps
from typing import Annotated, Any, Dict, List, NewType, Optional

import pytest

from runwide.cli.declared import JSON, annotations_of, convert, fitted, of_annotation, of_values, parse
from runwide.errors import InputError


@pytest.mark.parametrize(
    ("spelling", "canonical"),
    [
        ("List", "list"), ("typing.List", "list"), ("LIST", "list"), ("list[int]", "list[int]"),
        ("typing.List[str]", "list[str]"), ("List[Integer]", "list[int]"), ("Dict[String, Integer]", "dict[str, int]"),
        ("typing.Dict[str, typing.List[int]]", "dict[str, list[int]]"), ("typing.Dict", "dict"), ("Double", "float"),
        ("Boolean", "bool"), ("JsonObject", "dict"), ("Dict[int, float]", "dict[int, float]"),
        ("typing.Optional[int]", "optional[int]"), ("int | None", "optional[int]"),
        ("List[typing.Optional[float]]", "list[optional[float]]"), ("List[int | None]", "list[optional[int]]"),
        ("typing.List[typing.Dict[str, typing.Any]]", "list[dict[str, json]]"), ("list[shop.Row]", "list[json]"),
        ("typing.Union[int, str]", "json"), ("typing.List[typing.Tuple[int, str]]", "list[json]"),
    ],
)  # fmt: skip
def test_a_spelling_has_one_canonical_form_that_means_the_same(spelling, canonical):
    assert str(parse(spelling)) == canonical
    assert parse(canonical) == parse(spelling)


@pytest.mark.parametrize("spelling", ["set", "typing.Tuple[int]", "shop.Row", "", "system.Dataset@0.0.1"])
def test_what_names_no_type_of_json_has_none(spelling):
    assert parse(spelling) is None


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        ("int", 3.0, 3), ("float", 3, 3.0), ("bool", True, True), ("str", "3", "3"),
        ("list", [1.0, 2.5, "a", None, [3.0]], [1, 2.5, "a", None, [3]]), ("dict", {"a": 1.0}, {"a": 1}),
        ("list[float]", [1, 2.0], [1.0, 2.0]), ("list[int]", [1.0], [1]), ("list[list[float]]", [[1]], [[1.0]]),
        ("dict[str, list[float]]", {"a": [1]}, {"a": [1.0]}), ("dict[int, str]", {"1": "x"}, {1: "x"}),
        ("list[optional[float]]", [1, None], [1.0, None]), ("optional[int]", None, None), ("list[float]", [1e300], [1e300]),
        ("json", 2.0, 2),
    ],
)  # fmt: skip
def test_a_value_is_brought_to_the_declared_type(kind, value, expected):
    found = convert(value, parse(kind), "x")
    assert repr(found) == repr(expected)


@pytest.mark.parametrize(
    ("kind", "value", "says"),
    [
        ("int", 2.5, "x is 2.5, not an int"), ("int", True, "x is True, not an int"),
        ("float", "1", "x is '1', not a float"),
        ("list[int]", [1, "a"], r"x\[1\] is 'a', not an int"), ("bool", 1, "x is 1, not a bool"),
        ("dict[str, list[int]]", {"k": [1, None]}, r"x\['k'\]\[1\] is None, not an int"), ("str", 1, "x is 1, not a str"),
        ("dict[int, str]", {"a": "b"}, "a key of x is 'a', not an int"), ("int", float("inf"), "x is inf, not an int"),
    ],
)  # fmt: skip
def test_a_value_of_another_type_is_refused_with_its_place(kind, value, says):
    with pytest.raises(InputError, match=says):
        convert(value, parse(kind), "x")


@pytest.mark.parametrize("value", [2**53, -(2.0**53), 2**64 - 1])
@pytest.mark.parametrize("kind", ["json", "int"])
def test_a_whole_number_that_may_have_lost_digits_is_refused(kind, value):
    with pytest.raises(
        InputError, match=r"engines keep whole numbers exactly only below 2\*\*53; declare it as float"
    ):
        convert(value, parse(kind), "x")
    assert convert(2**53 - 1, parse(kind), "x") == 2**53 - 1


@pytest.mark.parametrize(
    ("annotation", "kind"),
    [
        (int, "int"), (list[float], "list[float]"), (List[float], "list[float]"), (Dict[str, int], "dict[str, int]"),
        (Optional[float], "optional[float]"), ("float", "float"), (dict, "dict"),
    ],
)  # fmt: skip
def test_an_annotation_of_a_function_means_the_same(annotation, kind):
    assert str(of_annotation(annotation)) == kind


@pytest.mark.parametrize("annotation", [set, tuple[int, ...], Any, object, 3], ids=repr)
def test_other_annotations_say_nothing(annotation):
    assert of_annotation(annotation) is None


def test_a_wish_that_does_not_fit_changes_nothing():
    assert repr(fitted([1, 2], parse("list[float]"), "x")) == "[1.0, 2.0]"
    assert fitted(["a"], parse("list[float]"), "x") == ["a"]


def test_the_type_of_values_is_what_they_have_in_common():
    assert str(of_values([{"a": 1.0}, {"a": 2.0}])) == "dict[str, float]"
    assert str(of_values([[1], [2.5]])) == "list[json]"
    assert of_values([None]) == of_values([1, "a"]) == of_values([]) == JSON


def test_a_number_that_is_too_large_for_a_whole_one_of_an_engine_is_a_float():
    for value in (6.02e23, -1e300, sys.float_info.max, 2**64, 2.0**64, 10**22):
        assert repr(convert([value], JSON, "x")) == repr([float(value)])
        assert repr(convert({"m": value, "n": "x"}, parse("dict[str, Any]"), "x")) == repr(
            {"m": float(value), "n": "x"}
        )
    with pytest.raises(InputError, match="engines keep whole numbers exactly only below"):
        convert(10**400, JSON, "x")
    assert repr(convert([float("inf"), float("nan"), 0.5], JSON, "x")) == "[inf, nan, 0.5]"


def test_a_wish_is_fitted_to_each_element():
    assert repr(fitted([1, 2, None], parse("list[float]"), "x")) == "[1.0, 2.0, None]"
    assert (
        repr(fitted({"a": 1, "b": "x", "c": [3]}, parse("dict[str, float]"), "x"))
        == "{'a': 1.0, 'b': 'x', 'c': [3]}"
    )
    assert repr(fitted([[1, "a"], None], parse("list[optional[list[float]]]"), "x")) == "[[1.0, 'a'], None]"


Metres = NewType("Metres", float)
Far = NewType("Far", Metres)


class Score:
    x: float

    def __call__(self, x: int, k: Missing = 0, d: Metres = 0.0):  # noqa: F821 - known to type checkers only
        return x

    def method(self, x: float):
        return x


@dataclass
class Row:
    x: float
    n: int = 0


def scaled(k: int, x: float, *, by: Missing = 0):  # noqa: F821 - likewise
    return x


def wrapped(function):
    @wraps(function)
    def run(*words, **named):
        return function(*words, **named)

    return run


@pytest.mark.parametrize(
    ("function", "item", "others"),
    [
        (Score(), int, {"d": Metres}), (Score().method, float, {}), (Row, float, {"n": int}),
        (partial(scaled, 1), float, {}), (partial(partial(scaled, k=1), by=2), int, {"x": float}),
        (wrapped(scaled), int, {"x": float}),
        (len, None, {}), (3, None, {}),
    ],
    ids=["instance", "method", "class", "partial", "partials", "wrapped", "builtin", "no-function"],
)  # fmt: skip
def test_each_annotation_of_any_callable_is_found_by_itself(function, item, others):
    found = annotations_of(function)
    assert found[0] is item
    assert {name: one for name, one in found[1].items() if name in others} == others


@pytest.mark.parametrize(
    ("annotation", "kind"),
    [
        (Metres, "float"), (Far, "float"), (list[Far], "list[float]"), (Optional[Metres], "optional[float]"),
        (Metres | None, "optional[float]"), (Annotated[int, "n"], "int"),
        (Dict[str, List[Metres]], "dict[str, list[float]]"),
    ],
    ids=str,
)  # fmt: skip
def test_a_new_type_is_that_of_its_values(annotation, kind):
    assert str(of_annotation(annotation)) == kind
