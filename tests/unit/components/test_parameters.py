"""Sets of parameters, from whatever they are given as."""

import re

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
    with pytest.raises(InputError, match=re.escape("'seven' is not a int [") + ".*row 1, days"):
        parameter_sets(path, INPUTS)


def test_rows_of_a_dataframe_are_plain_values():
    import pandas as pd

    frame = pd.DataFrame([{"days": 7, "rate": 0.5, "country": "fr"}])
    (row,) = parameter_sets(frame, None)
    assert row == {"days": 7, "rate": 0.5, "country": "fr"}
    assert [type(value) for value in row.values()] == [int, float, str]


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ([], NoItems, "nothing to run"),
        (7, InputError, "a int gives no sets"),
        ([7], InputError, "set of parameters 0 is no mapping"),
        ([{**ROW, "no": 1}], InputError, "has no, which the pipeline does not take; it takes about, country"),
        ([{"country": "fr"}], InputError, "lacks about, days, dry, rate, rows"),
        ([ROW, {**ROW, "days": 8}, ROW], InputError, "sets of parameters 0 and 2 are equal"),
        ([{**ROW, "rate": float("nan")}], InputError, "cannot travel"),
        ("/no/such/file.csv", InputError, "cannot be read"),
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
    with pytest.raises(InputError, match="no parameter c"):
        labels_of({"a": 1}, ["c"])
