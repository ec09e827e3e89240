"""The program ``runwide``: how it ends, and that each command is loaded when it is called."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.metadata import entry_points

import click
import pytest
from click.testing import CliRunner

import runwide
from runwide import __version__
from runwide.cli import cli, commands, main
from runwide.cli.ends import coded
from runwide.errors import InputError, Preempted, RunwideError

ENDS = {
    "an error": (RunwideError("it failed"), 1, "runwide: RunwideError: it failed"),
    "a wrong call": (InputError("it is wrong"), 2, "runwide: InputError: it is wrong"),
    "SIGTERM": (Preempted("stopped"), 143, "runwide: Preempted: stopped"),
    "Ctrl-C": (KeyboardInterrupt(), 130, "Aborted!"),
    "a wrong option": (click.UsageError("it is wrong"), 2, "Error: it is wrong"),
    "another release": (
        click.NoSuchOption("--later"),
        2,
        f"runwide: this is {__version__}; a pipeline made by",
    ),
    "a question without an answer": (click.Abort(), 1, "Aborted!"),
    "a secret": (RunwideError("password=hunter2"), 1, "runwide: RunwideError: password=[redacted]"),
}


def ended(error: BaseException) -> int:
    with pytest.raises(SystemExit) as caught, coded():
        raise error
    return caught.value.code


@pytest.mark.parametrize(("error", "code", "line"), ENDS.values(), ids=ENDS)
def test_a_command_ends_with_a_line_and_an_exit_code(error, code, line, capsys):
    assert ended(error) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines()[-1].startswith(line)


def test_ctrl_c_at_a_question_is_ctrl_c(capsys):
    aborted = click.Abort()
    aborted.__cause__ = KeyboardInterrupt()
    assert ended(aborted) == 130
    assert capsys.readouterr().err == "Aborted!\n"


def test_the_script_is_this_program():
    (script,) = entry_points(group="console_scripts", name="runwide")
    assert script.load() is main


def test_the_help_keeps_the_lines_of_its_example(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["--help"])
    assert not caught.value.code
    assert "\n      runwide cores\n      runwide map mymodule:score items.jsonl\n" in capsys.readouterr().out


@pytest.mark.parametrize("name", cli.list_commands(click.Context(cli)))
def test_the_help_of_each_command_has_no_mark_of_its_source(name, capsys):
    with pytest.raises(SystemExit) as caught:
        main([name, "--help"])
    assert not caught.value.code
    said = capsys.readouterr().out
    assert said.startswith(f"Usage: runwide {name} ")
    assert "\\b" not in said


def test_a_command_loads_no_module_of_another():
    program = (
        "import json, sys\nfrom runwide.cli import main\ntry:\n    main(['cores'])\n"
        "finally:\n    print(json.dumps(sorted(sys.modules)))"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    loaded = set(json.loads(ran.stdout.splitlines()[-1]))
    assert set(commands._COMMANDS.values()) & loaded == {"runwide.cli.cores"}


def test_a_command_called_in_a_program_leaves_the_programs_own_prints_as_they_are(tmp_path, capfd):
    (tmp_path / "items.json").write_text("[4]")
    called = CliRunner().invoke(cli, ["map", "math:sqrt", str(tmp_path / "items.json"), "--workers", "1"])
    assert called.output.splitlines()[-1:] == ["2.0"]
    runwide.map(print, ["mine"], workers=1)
    assert "mine" in capfd.readouterr().out.splitlines()
