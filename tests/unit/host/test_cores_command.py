"""The command `runwide cores`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from runwide.cli import cli, main
from runwide.host import cores

TREES = Path(__file__).parents[2] / "fixtures" / "host"
POD = str(TREES / "gke-pod-7.5-of-8.tree")


@pytest.fixture(autouse=True)
def _no_override(monkeypatch):
    monkeypatch.delenv("RUNWIDE_WORKERS", raising=False)


def command(*arguments: str):
    return CliRunner().invoke(cli, ["cores", *arguments], catch_exceptions=False)


def test_it_shows_each_step_with_its_source_and_what_it_cut():
    lines = command("--from", POD).output.splitlines()
    assert lines[0].split() == ["step", "says", "cut", "left", "source"]
    assert [line.split()[0] for line in lines[1:6]] == ["online", "affinity", "cpuset", "topology", "quota"]
    assert "-4" in lines[4]
    assert "4 cores" in lines[4]
    assert lines[5].split()[-1] == "/sys/fs/cgroup/cpu.max"
    assert "held back by its CPU limit in 90 of 900 periods" in "\n".join(lines)
    assert lines[-1].startswith("4 workers: these 8 CPUs are threads of 4 physical cores")


def test_sources_that_cannot_be_read_are_noted():
    assert (
        "note: /sys/devices/system/cpu/online: says nothing"
        in command("--from", str(TREES / "no-sysfs.tree")).output
    )


def test_the_json_form_is_the_record_with_the_pressure():
    plain = json.loads(command("--from", POD, "--json").output)
    assert plain["count"] == 4
    assert plain["throttling"]["throttled"] == 90
    assert plain["steal"]["stolen"] == 400
    assert plain["measured"] is None


def test_on_this_machine_it_shows_the_result_of_the_call():
    assert json.loads(command("--json").output)["cores"] == json.loads(json.dumps(cores().as_dict()))["cores"]
    assert json.loads(command("--json", "--workers", "6").output)["decided_by"] == "workers="


def test_a_recording_can_be_counted_elsewhere(tmp_path):
    target = tmp_path / "mine.tree"
    here = json.loads(command("--json", "--record", str(target)).output)
    there = json.loads(command("--json", "--from", str(target)).output)
    assert (there["count"], there["cores"]) == (here["count"], here["cores"])


def test_a_measurement_is_made_on_request_only(monkeypatch):
    monkeypatch.setattr("runwide.host.measuring.gains.BUDGET", 0.1)
    plain = json.loads(
        command("--json", "--measure", "--function", "os.path:basename", "--item", '"a/b"').output
    )
    measured = plain["measured"]
    assert measured["readings"][0]["workers"] == 1
    assert all(reading["median"] > 0 for reading in measured["readings"])
    shown = command("--measure").output
    assert "speed-up" in shown
    assert "Measured: " in shown


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--function", "m:f"], "add --measure"),
        (["--measure", "--item", "1"], "add --function"),
        (["--measure", "--function", "f"], "not of the form module:name"),
        (["--measure", "--function", "m:f", "--item", "{"], "is not JSON"),
        (["--measure", "--from", POD], "cannot be measured"),
    ],
)
def test_an_invalid_call_is_one_line_and_exit_code_2(arguments, words, capsys):
    with pytest.raises(SystemExit) as left:
        main(["cores", *arguments])
    assert left.value.code == 2
    printed = capsys.readouterr()
    assert words in printed.err
    assert len(printed.err.strip().splitlines()) == 1


def test_a_function_that_fails_is_one_line_and_exit_code_1(capfd):
    with pytest.raises(SystemExit) as left:
        main(["cores", "--measure", "--function", "os:strerror", "--item", '"text"'])
    assert left.value.code == 1
    assert "the function failed: TypeError" in capfd.readouterr().err


def test_a_wrong_override_in_the_environment_is_one_line_and_exit_code_2(monkeypatch, capsys):
    monkeypatch.setenv("RUNWIDE_WORKERS", "many")
    with pytest.raises(SystemExit) as left:
        main(["cores"])
    assert left.value.code == 2
    assert "RUNWIDE_WORKERS='many'" in capsys.readouterr().err
