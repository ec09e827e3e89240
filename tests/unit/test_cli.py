"""The program ``runwide``: its exit codes, its help, and commands that are loaded when they are called."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from importlib.metadata import entry_points

import click
import pytest
from click.testing import CliRunner

import runwide
from runwide import __version__
from runwide.cli import cli, commands, inputs, main
from runwide.cli.commands import coded
from runwide.errors import InputError, Preempted, RunwideError
from runwide.job import finish
from runwide.job.reference import parse

ENDS = {
    "an error": (RunwideError("it failed"), 1, "runwide: RunwideError: it failed"),
    "a wrong call": (InputError("it is wrong"), 2, "runwide: InputError: it is wrong"),
    "SIGTERM": (Preempted("stopped"), 143, "runwide: Preempted: stopped"),
    "Ctrl-C": (KeyboardInterrupt(), 130, "Aborted!"),
    "a wrong option": (click.UsageError("it is wrong"), 2, "Error: it is wrong"),
    "another release": (
        click.NoSuchOption("--later", ctx=click.Context(cli, info_name="shard")),
        2,
        f"runwide: this is {__version__}; a pipeline made by",
    ),
    "a question without an answer": (click.Abort(), 1, "Aborted!"),
    "a secret": (RunwideError("password=hunter2"), 1, "runwide: RunwideError: password=[redacted]"),
}


JOB = f"gs://bucket/runs/a-20261124t231308-36c13f7040d35a90/job.json#sha256={'0' * 64}"


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


COMMANDS = cli.list_commands(click.Context(cli))


def examples(command: click.Command) -> list[list[str]]:
    """The words of each example in the help of a command, as a shell passes them."""
    text = (command.help or "").partition("Example:\n")[2].replace("\\\n", " ")
    lines = (line.partition(" | ")[0].partition(" > ")[0] for line in text.splitlines())
    return [shlex.split(line.replace('"$job"', JOB)) for line in lines if line.strip()]


def test_the_help_keeps_the_lines_of_its_example(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["--help"])
    assert not caught.value.code
    assert "\n      runwide cores\n      runwide map mymodule:score items.jsonl\n" in capsys.readouterr().out


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_accepts_the_examples_in_its_help(name):
    command = cli.get_command(click.Context(cli), name)
    found = examples(command)
    assert found
    for program, called, *words in found:
        assert (program, called) == ("runwide", name)
        command.make_context(name, words)  # raises the error that the command would raise


def test_the_examples_in_the_help_of_the_group_name_commands():
    for program, called, *words in examples(cli):
        assert program == "runwide"
        cli.get_command(click.Context(cli), called).make_context(called, words)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["mpa"], "No such command 'mpa'. Did you mean 'map'"),
        (["reslts"], "Did you mean 'results'"),
        (["map", "--wrokers", "2"], "No such option '--wrokers'"),
        (["xyzzy"], "No such command 'xyzzy'."),
    ],
    ids=["map", "results", "option", "far"],
)
def test_a_misspelt_command_is_an_error_that_names_similar_ones(words, said, capsys):
    with pytest.raises(SystemExit) as caught:
        main(words)
    assert caught.value.code == 2
    error = capsys.readouterr().err
    assert said in error
    assert ("Did you mean" in error) is (words != ["xyzzy"])


FILES = {
    "items.json": b'[{"zip": "01", "n": 2}]',
    "items.jsonl": b'{"zip": "01", "n": 2}\n',
    "items.csv": b"zip,n\n01,2\n",
    "plain": b"zip,n\n01,2\n",
}


@pytest.mark.parametrize("command", ["map", "submit"])
@pytest.mark.parametrize("file", [*FILES, "items.parquet", "*.csv", "part"])
def test_map_and_submit_read_items_in_the_same_way(command, file, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, data in FILES.items():
        (tmp_path / name).write_bytes(data)
    (tmp_path / "part").mkdir()
    pandas = pytest.importorskip("pandas")
    pandas.DataFrame({"zip": ["01"], "n": [2]}).to_parquet(tmp_path / "items.parquet")
    pandas.DataFrame({"zip": ["01"], "n": [2]}).to_parquet(tmp_path / "part" / "0.parquet")
    words = [command, "builtins:repr", file]
    if file in ("items.csv", "plain", "*.csv"):
        words += ["--items-types", '{"zip": "str"}', "--items-format", "csv"]
    if command == "submit":
        words += [
            "--components",
            "1",
            "--engine",
            "subprocess",
            "--store",
            str(tmp_path / "store"),
            "--dry-run",
        ]
    done = CliRunner().invoke(cli, words, catch_exceptions=False)
    assert ("{'zip': '01', 'n': 2}" if command == "map" else "items        1, ") in done.stdout


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_of_commands_has_no_markup(name, capsys):
    with pytest.raises(SystemExit) as caught:
        main([name, "--help"])
    assert not caught.value.code
    said = capsys.readouterr().out
    assert said.startswith(f"Usage: runwide {name} ")
    assert "\\b" not in said


def test_a_command_loads_no_module_of_another_command():
    program = (
        "import json, sys\nfrom runwide.cli import main\ntry:\n    main(['cores'])\n"
        "finally:\n    print(json.dumps(sorted(sys.modules)))"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    loaded = set(json.loads(ran.stdout.splitlines()[-1]))
    assert set(commands._COMMANDS.values()) & loaded == {"runwide.cli.cores"}


def test_a_command_that_a_program_calls_does_not_change_the_programs_own_output(tmp_path, capfd):
    (tmp_path / "items.json").write_text("[4]")
    called = CliRunner().invoke(cli, ["map", "math:sqrt", str(tmp_path / "items.json"), "--workers", "1"])
    assert called.output.splitlines()[-1:] == ["2.0"]
    runwide.map(print, ["mine"], workers=1)
    assert "mine" in capfd.readouterr().out.splitlines()


def test_the_results_of_a_job_are_items_in_each_way_to_name_the_job(tmp_path, monkeypatch):
    job = runwide.map(abs, [-4, 9], store=tmp_path, name="scores", workers=1).job
    uri = parse(job).folder
    monkeypatch.setenv("RUNWIDE_STORE", str(tmp_path))
    for text in (job, finish(job), uri, uri.rpartition("/")[2], "scores"):
        assert inputs.items_named(text) == [4, 9]
    assert inputs.job_meant("scores", str(tmp_path)) == job
    with pytest.raises(InputError, match="cannot be read"):
        inputs.items_named("scoresx")
    words = ["submit", "math:sqrt", "scores", "--components", "1", "--engine", "subprocess", "--dry-run"]
    done = CliRunner().invoke(cli, words, catch_exceptions=False)
    assert "items        2, " in done.stdout


@pytest.mark.parametrize(
    ("words", "lines"),
    [
        (["shard", "job", "--later"], 1),
        (["shard", "job", "--worker"], 0),
        (["map", "--later"], 0),
        (["ls", "--later"], 0),
    ],
    ids=str,
)
def test_only_an_unknown_option_of_a_pipelines_command_may_be_of_another_release(words, lines, capsys):
    with pytest.raises(SystemExit):
        main(words)
    assert capsys.readouterr().err.count("another release") == lines
