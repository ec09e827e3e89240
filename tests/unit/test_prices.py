"""Estimates of costs: sums of list prices with a date, from a table that a file may replace."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from runwide import prices
from runwide.errors import InputError
from runwide.prices import LISTED, Machine, estimate, machine_of
from runwide_components import Components, Kubeflow, Local, Vertex
from runwide_components.cli import planned

HOUR = 3600.0


@pytest.mark.parametrize(
    ("name", "spot", "dollars"),
    [
        ("n2-standard-8", False, 0.388472),  # from Google's page of prices
        ("e2-standard-4", False, 0.134023),
        ("n1-standard-4", False, 0.19),
        ("g2-standard-8", False, 0.853608),
        ("e2-small", False, 0.016753),
        ("n2d-standard-8", True, 0.172112),
    ],
)
def test_a_machine_costs_what_its_parts_cost(name, spot, dollars):
    found = estimate(replace(machine_of(name), spot=spot), HOUR, LISTED)
    assert found.dollars == pytest.approx(dollars, abs=2e-4)
    assert found.notes == ()


def test_prices_of_vertex_are_those_of_its_own_table():
    machine = Machine(4, 15.0, "n1", vertex=True)
    assert estimate(machine, HOUR, LISTED).dollars == pytest.approx(0.21849885, abs=1e-6)
    assert estimate(Machine(4, 16.0, "e2", vertex=True), HOUR, LISTED).dollars == pytest.approx(
        0.154126276, abs=1e-6
    )


@pytest.mark.parametrize(
    ("machine", "note"),
    [
        (Machine(4, 16.0), "unknown machines are priced as e2"),
        (Machine(4, 16.0, "x9"), "there is no price of x9, it is priced as e2"),
        (Machine(4, 16.0, "n2", spot=True), "there is no Spot price of n2"),
        (Machine(4, 16.0, "n2", "NVIDIA_Z1", 2), "without NVIDIA_Z1, which has no listed price"),
    ],
    ids=["family", "no-rate", "spot", "accelerator"],
)
def test_an_estimate_names_its_assumptions(machine, note):
    assert note in str(estimate(machine, HOUR, LISTED))


def test_a_file_replaces_prices(tmp_path, monkeypatch):
    file = tmp_path / "prices.json"
    families = {"x9": {"vcpu": 1, "gib": 0}}
    mine = {
        "date": "2027-01-01",
        "families": families,
        "accelerators": {"NVIDIA_L4": 2},
        "vertex": 1,
        "run": 0,
    }
    file.write_text(json.dumps(mine))
    monkeypatch.setenv("RUNWIDE_PRICES", str(file))
    found = estimate(Machine(4, 16.0, "x9", "NVIDIA_L4", 1, vertex=True), HOUR)
    assert (found.dollars, found.date, found.notes) == (6.0, "2027-01-01", ())
    assert prices.current().families["n2"] == LISTED.families["n2"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "the file cannot be read"),
        ("{", "it is not JSON"),
        ("[]", "the file is not an object of JSON"),
        ("{}", "date is not a text"),
        ('{"date": "x", "machine": {}}', "the file has 'machine'; expected only date, "),
        ('{"date": "x", "families": {"n2": {"vcpu": 1}}}', "families.n2 has no gib"),
        (
            '{"date": "x", "families": {"n2": {"vcpu": "1", "gib": 1}}}',
            "families.n2.vcpu is '1', not a price",
        ),
        ('{"date": "x", "accelerators": {"T4": -1}}', "accelerators.T4 is '-1', not a price"),
        (f'{{"date": "x", "run": {"9" * 400}}}', f"run is '{'9' * 100}', not a price"),
        ('{"date": "x", "vertex": 1e308}', "vertex is '1e+308', not a price"),
        ('{"date": "x", "family": "x9"}', "family is 'x9', which has no price in families"),
    ],
    ids=[
        "absent",
        "broken",
        "list",
        "empty",
        "strange",
        "part",
        "text",
        "negative",
        "digits",
        "infinite",
        "family",
    ],
)
def test_a_malformed_file_of_prices_is_rejected_in_one_line(text, message, tmp_path, monkeypatch):
    file = tmp_path / "prices.json"
    if text is not None:
        file.write_text(text)
    monkeypatch.setenv("RUNWIDE_PRICES", str(file))
    with pytest.raises(InputError) as caught:
        prices.current()
    assert str(caught.value).startswith(f"RUNWIDE_PRICES: {message}")
    assert "\n" not in str(caught.value)
    assert str(file) in str(caught.value)


VERTEX, KUBEFLOW = Vertex("shop-123", "europe-west1"), Kubeflow("https://pipelines.example.com")
BASIS = "(an estimate: list prices of 2026-09-23"
UNKNOWN = "unknown machines are priced as e2"
IMAGE = "europe-west1-docker.pkg.dev/shop/images/runwide:1"


@pytest.mark.parametrize(
    ("engine", "options", "said"),
    [
        (Local("subprocess"), {}, "none: it runs on this machine"),
        (VERTEX, {"machine_type": "n2-standard-8"}, f"about $1.79 an hour, and $0.03 for the run {BASIS})"),
        (VERTEX, {}, "about $0.62 an hour, and $0.03 for the run"),
        (KUBEFLOW, {"cpu": "8", "memory": "32Gi"}, f"about $1.07 an hour {BASIS}; {UNKNOWN})"),
    ],
    ids=["local", "machine", "default", "asked"],
)
def test_a_dry_run_says_what_an_hour_costs(engine, options, said):
    place = Components(4, store="gs://shop/runs", engine=engine, image=IMAGE, **options)
    lines = {line.split()[0]: line for line in planned("f", 100, place)}
    assert said in lines["cost"]
    on_this_machine = engine.about()["engine"] == "local"
    assert (IMAGE in lines["components"]) is not on_this_machine
    assert ("the CPUs of this machine" in lines["CPUs"]) is on_this_machine
