"""Sets of parameters, from each form of input."""

import re
from typing import Optional

import pytest
from kfp import dsl

from runwide.errors import InputError, NoItems
from runwide_components import base_image
from runwide_components.parameters import Inputs, labels_of, parameter_sets, run_name


@dsl.component(base_image=base_image(), install_kfp_package=False)
def typed(country: str, days: int, rate: float, dry: bool, rows: list, about: dict, store: str = "x"):  # noqa: PLR0917 - how kfp takes them
    pass


INPUTS = Inputs.of(typed.pipeline_spec)
ROW = {"country": "fr", "days": 7, "rate": 0.5, "dry": True, "rows": [1, 2], "about": {"a": 1}}


def test_the_inputs_of_a_pipeline_are_read_from_its_spec():
    assert INPUTS.kinds == {
        "country": "str", "days": "int", "rate": "float", "dry": "bool", "rows": "list", "about": "dict", "store": "str",
    }  # fmt: skip
    assert INPUTS.required == set(ROW)


def test_a_grid_is_every_combination_in_order():
    found = parameter_sets({"a": [1, 2], "b": ("x", "y"), "c": 3, "d": range(1)}, None)
    assert found == [{"a": a, "b": b, "c": 3, "d": 0} for a in (1, 2) for b in ("x", "y")]


def test_cells_of_a_csv_file_have_the_types_of_the_pipeline(tmp_path):
    path = tmp_path / "sets.csv"
    path.write_text(
        '\ufeffcountry,days,rate,dry,rows,about\nfr,7,0.5,Yes,"[1, 2]","{""a"": 1}"\n', encoding="utf-8"
    )
    assert parameter_sets(path, INPUTS) == parameter_sets(str(path), INPUTS) == [ROW]
    path.write_text("country,days\nfr,seven\n")
    with pytest.raises(InputError, match=re.escape("'seven' is not an int [") + ".*row 1, days"):
        parameter_sets(path, INPUTS)


@dsl.component(base_image=base_image(), install_kfp_package=False)
def lenient(n: int, k: Optional[int] = None, rate: float = 0.5, text: str = "x"):  # noqa: UP045 - as users of kfp write it
    pass


LENIENT = Inputs.of(lenient.pipeline_spec)


def test_an_empty_cell_leaves_out_an_optional_parameter_of_its_row(tmp_path):
    path = tmp_path / "sets.csv"
    path.write_text("n,k,rate,text\n1,,,\n2,3,1,a\n")
    assert parameter_sets(path, LENIENT) == [{"n": 1, "text": ""}, {"n": 2, "k": 3, "rate": 1.0, "text": "a"}]
    path.write_text("n,k\n,1\n")
    with pytest.raises(InputError, match=r"'' is not an int .*row 1, n"):
        parameter_sets(path, LENIENT)


def test_a_file_of_json_lines_has_a_set_a_line(tmp_path):
    path = tmp_path / "sets.jsonl"
    path.write_text('{"n": 1, "k": null}\n\n{"n": 2}\n')
    assert parameter_sets(str(path), LENIENT) == [{"n": 1, "k": None}, {"n": 2}]
    path.write_text('{"n": 1}\nx\n')
    with pytest.raises(InputError, match="line 2 is not JSON"):
        parameter_sets(path, LENIENT)


@pytest.mark.parametrize(
    ("name", "value", "kind"),
    [
        ("days", "3", "int"), ("days", True, "int"), ("days", 2.5, "int"), ("days", None, "int"), ("country", 7, "str"),
        ("rate", "x", "float"), ("rate", False, "float"), ("dry", 1, "bool"), ("dry", "true", "bool"),
        ("rows", {}, "list"), ("about", [], "dict"), ("store", 1, "str"),
    ],
    ids=range(12),
)  # fmt: skip
def test_an_argument_of_another_type_is_refused(name, value, kind):
    with pytest.raises(InputError, match=f"set of parameters 1, {name}: .* is not an? {kind}"):
        parameter_sets([ROW, {**ROW, name: value}], INPUTS)


def test_whole_numbers_may_be_floats_and_the_other_way_round():
    sets = [{**ROW, "days": 7.0, "rate": 1, "rows": (1, 2)}]
    assert parameter_sets(sets, INPUTS) == sets


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"country,days\nfr\n", "line 2 has 1 values, and the header has 2"),
        (b"country,days\nfr,7\nde,8,9\n", "line 3 has 3 values"),
        (b"days,days\n1,2\n", "names columns twice: 'days'"),
        (b"country\n\xff\n", "line 2 is not UTF-8"),
    ],
    ids=range(4),
)
def test_a_row_that_does_not_fit_its_header_is_refused(tmp_path, data, message):
    (tmp_path / "sets.csv").write_bytes(data)
    with pytest.raises(InputError, match=message):
        parameter_sets(tmp_path / "sets.csv", None)


def test_a_cell_may_be_long(tmp_path):
    (tmp_path / "sets.csv").write_text(f"about,days\n{'x' * 200_000},7\n")
    assert parameter_sets(tmp_path / "sets.csv", None) == [{"about": "x" * 200_000, "days": "7"}]


def test_rows_of_a_dataframe_are_plain_values():
    import pandas as pd

    frame = pd.DataFrame([{"days": 7, "rate": 0.5, "country": "fr"}])
    (row,) = parameter_sets(frame, None)
    assert row == {"days": 7, "rate": 0.5, "country": "fr"}
    assert [type(value) for value in row.values()] == [int, float, str]


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ([], NoItems, "there are no sets of parameters"),
        (7, InputError, "an int has no sets"),
        ([7], InputError, "set of parameters 0 is not a mapping"),
        ([{**ROW, "no": 1}], InputError, "has no: the pipeline has no such parameter; it has about, country"),
        ([{"country": "fr"}], InputError, "lacks about, days, dry, rate, rows"),
        ([ROW, {**ROW, "days": 8}, ROW], InputError, "sets of parameters 0 and 2 are equal"),
        ([{**ROW, "rate": float("nan")}], InputError, "cannot be passed to a pipeline"),
        ("/no/such/file.csv", InputError, "cannot read the file"),
    ],
)
def test_what_does_not_fit_is_refused(given, error, message):
    with pytest.raises(error, match=message):
        parameter_sets(given, INPUTS)


def test_names_are_what_vertex_allows():
    for title, value in (("7 Überraschungen", "é"), ("x" * 300, "y" * 300), ("", "")):
        name = run_name(title, {"a": value}, "0123456789abcdef", 11)
        assert re.fullmatch(r"[a-z][-a-z0-9]{0,127}", name), name
        assert name.endswith("-01234567-12")


def test_labels_are_what_google_allows():
    found = labels_of({"Country": "FR/é", "long": "x" * 100, "rows": [1], "n": 1.5})
    assert all(re.fullmatch(r"[a-z0-9_-]{0,63}", word) for pair in found.items() for word in pair)
    assert "rows" not in found
    assert labels_of({"a": 1, "b": 2}, ["b"]) == {"b": "2"}
    with pytest.raises(InputError, match="labels= names c, which is not a parameter"):
        labels_of({"a": 1}, ["c"])
