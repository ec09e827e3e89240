"""Requirements are read when a job is made, installed into scratch by each step, and removed when the step ends."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from hashlib import sha256
from importlib import metadata
from itertools import pairwise
from pathlib import Path

import pytest
import wheels
from click.testing import CliRunner

import runwide
from runwide.cli.installing import Wanted, installed, needed_by_runwide
from runwide.cli.requirements import MOST, text_of
from runwide.errors import EnvironmentMismatch, InputError
from runwide.options.record import RunOptions
from runwide_components import recorded
from runwide_components.cli import submit_command
from runwide_components.resources import as_custom_job
from runwide_components.steps import JobOptions, steps_of

FILE = """\
# what the function needs
nltk==3.9.1 \\
    --hash=sha256:aa \\
    # via shop
    --hash=sha256:bb
-r more/further.txt
--constraint=more/pins.txt
--extra-index-url https://${INDEX_USER}:${INDEX_TOKEN}@packages.example.com/simple
tool @ git+https://git@github.com/shop/tool  # a comment
"""
COMMAND = [sys.executable, "-c", "from runwide.cli import main; main()"]


def test_a_file_is_read_with_the_files_that_it_names(tmp_path):
    (tmp_path / "more").mkdir()
    (tmp_path / "requirements.txt").write_text(FILE)
    (tmp_path / "more" / "further.txt").write_text("six\n-c pins.txt\n")
    (tmp_path / "more" / "pins.txt").write_text("numpy<3\n-r pins_too.txt")
    (tmp_path / "more" / "pins_too.txt").write_text("scipy<2")
    text = text_of(tmp_path / "requirements.txt")
    assert text.splitlines() == [
        "nltk==3.9.1 --hash=sha256:aa --hash=sha256:bb",
        "six",
        "-c numpy<3",
        "-c scipy<2",
        "--extra-index-url https://${INDEX_USER}:${INDEX_TOKEN}@packages.example.com/simple",
        "tool @ git+https://git@github.com/shop/tool",
    ]
    assert text_of(["six", "numpy>=1"]) == "six\nnumpy>=1"
    assert text_of(None) == text_of([]) == ""
    options = JobOptions(requirements=text)
    for words in (options.of_scatter(), options.of_shard(), options.of_gather()):
        assert ("--requirements-text", text) in pairwise(words)
    assert JobOptions.of_record(options.about(), vouched=True) == options
    assert JobOptions.of_record(options.about(), vouched=False) == JobOptions()
    shard = as_custom_job(steps_of("runwide:1", options).shard, machine_type="n2-standard-8")
    payload = json.loads(shard.component_spec.implementation.container.args[3])
    (pool,) = payload["job_spec"]["worker_pool_specs"]
    assert text in pool["container_spec"]["args"]
    # the key of an engine's cache contains them
    assert text in steps_of("runwide:1", options).gather.component_spec.implementation.container.args


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("no-such-file.txt", "cannot be read"),
        (3, "requirements= is an int"),
        ({"nltk": "3.9.1"}, "requirements= is a dict"),
        ([3], "requirement 1 is an int"),
        (["six", "a b c"], "requirement 2: 'a b c' is not a requirement"),
        (["-e ."], "of this machine"),
        (["./tool"], "of this machine"),
        (["tool @ file:///tool"], "of this machine"),
        (["dist/tool-1-py3-none-any.whl"], "of this machine"),
        (["--find-links wheels"], "of this machine"),
        (["--find-links=file:///wheels"], "of this machine"),
        (["-r https://example.com/r.txt"], "is not read"),
        (["--index-url https://me:hunter2@example.com"], "has a password"),
        ([f"tool=={number}" for number in range(MOST // 8)], "64|65,536"),
    ],
    ids=["missing", "number", "dict", "number-inside", "text", "editable", "folder", "file-url", "wheel", "links",
         "links-url", "url", "password", "long"],
)  # fmt: skip
def test_requirements_that_a_component_cannot_install_are_refused_in_one_line(
    given, message, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=message) as caught:
        text_of(given)
    assert caught.value.hint
    assert "\n" not in str(caught.value)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    "line",
    ["https://h/b-1.0-py3-none-any.whl", "https://h/b-1.0.tar.gz", "https://h/b.zip ; python_version > '3'",
     "https://h/b-1.0-py3-none-any.whl#sha256=abc", "b @ https://h/b-1.0-py3-none-any.whl"],
    ids=["wheel", "source", "marker", "hash", "named"],
)  # fmt: skip
def test_an_archive_at_a_url_is_installed(line):
    assert text_of([line]) == line
    assert Wanted.of(line).missing == (line,)


def test_a_file_that_names_itself_is_refused(tmp_path):
    (tmp_path / "a.txt").write_text("-r b.txt")
    (tmp_path / "b.txt").write_text("-r a.txt")
    with pytest.raises(InputError, match="names itself"):
        text_of(str(tmp_path / "a.txt"))


def test_packages_that_are_installed_in_an_allowed_version_are_not_installed_again():
    numpy = metadata.version("numpy")
    for here in (
        f"numpy=={numpy}",
        "scikit-learn>=1",
        "runwide",
        "absent; python_version < '3'",
        "-c numpy<99",
    ):
        assert Wanted.of(here).missing == ()
    for absent in (
        "numpy==0.9",
        "pandas[no-such-extra,excel]",
        "git+https://h/t.git",
        "numpy @ https://h/n.whl",
    ):
        assert Wanted.of(absent).missing == (absent,)
    assert Wanted.of("scikit-learn\n-c numpy<1").missing == ("scikit-learn",)
    mixed = Wanted.of("absent==1\nnumpy\n-c scipy<9")
    assert (mixed.lines, mixed.constraints) == (("absent==1",), ("scipy<9", f"numpy=={numpy}"))
    with pytest.raises(InputError, match=r"ask for runwide==0\.0\.1"):
        Wanted.of("runwide==0.0.1")
    assert f"click=={metadata.version('click')}" in needed_by_runwide()
    with installed(f"numpy=={numpy}") as folder:  # pip has no index here
        assert folder is None


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A separate scratch folder, and a folder of wheels instead of an index."""
    links, scratch = tmp_path / "wheels", tmp_path / "scratch"
    links.mkdir()
    scratch.mkdir()
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_FIND_LINKS", str(links))
    monkeypatch.setenv("RUNWIDE_SCRATCH", str(scratch))
    return links


@pytest.mark.parametrize("watched", [(), ("--on-error", "return")], ids=["raise", "return"])
def test_a_shard_installs_requirements_once_for_itself_and_its_workers(watched, place, tmp_path):
    wheel = wheels.written(place, "tiny_fixture", "1.0", "VALUE = 7")

    def shown(x):
        import tiny_fixture

        return tiny_fixture.VALUE, tiny_fixture.__file__, x

    job = runwide.scatter(shown, [1, 2], store=str(tmp_path / "store"), shards=1)
    text = f"tiny_fixture==1.0 --hash=sha256:{sha256(wheel.read_bytes()).hexdigest()}"
    environment = {name: value for name, value in os.environ.items() if name != "HOME"}
    done = subprocess.run(
        [*COMMAND, "shard", *watched, "--requirements-text", text, "--workers", "1", job, "0"],
        capture_output=True, text=True, env=environment, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("requirements.installing") == 1
    found = runwide.gather(job)
    assert [(value, item) for value, _, item in found] == [(7, 1), (7, 2)]
    folder = Path(found[0][1]).parent
    assert folder.name == "site-packages"
    assert folder.is_relative_to(tmp_path / "scratch")
    assert list((tmp_path / "scratch").iterdir()) == []


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("no_such_fixture==1", "No matching distribution found for no_such_fixture==1"),
        (f"tiny_fixture==1.0 --hash=sha256:{'0' * 64}", "DO NOT MATCH THE HASHES"),
        (
            "tiny_fixture==1.0\nclick==7.0",
            "click==7.0.*packages that runwide itself needs|No matching distribution found for click",
        ),
    ],
    ids=["missing", "hash", "runwide"],
)
def test_a_failed_install_is_one_error_with_the_reason_of_pip(text, reason, place, tmp_path):
    wheels.written(place, "tiny_fixture", "1.0", "VALUE = 7")
    wheels.written(place, "click", "7.0", "VALUE = 7")
    path = list(sys.path)
    with pytest.raises(EnvironmentMismatch, match=reason) as caught, installed(text):
        raise AssertionError("nothing is installed")
    assert "\n" not in str(caught.value)
    assert sys.path == path
    assert list((tmp_path / "scratch").iterdir()) == []


def test_an_invalid_text_on_the_command_line_is_refused_in_one_line():
    ran = subprocess.run(
        [Path(sys.executable).with_name("runwide"), "shard", "gs://b/j/job.json", "0", "--requirements-text", "=x"],
        check=False, capture_output=True, text=True,
    )  # fmt: skip
    assert ran.returncode == 2
    assert [line for line in ran.stderr.splitlines() if line] == [ran.stderr.strip()]
    assert "InputError: the requirements cannot be read" in ran.stderr


def test_installed_packages_come_after_the_standard_library_and_before_the_image(place, tmp_path):
    wheels.written(place, "tiny_fixture", "1.0", "VALUE = 7", {"json/__init__.py": "raise RuntimeError"})
    with installed("tiny_fixture") as folder:
        at = sys.path.index(folder)
        assert not any("site-packages" in entry for entry in sys.path[:at])
        assert any("site-packages" in entry for entry in sys.path[at + 1 :])
        assert metadata.version("tiny_fixture") == "1.0"
    with pytest.raises(metadata.PackageNotFoundError):
        metadata.version("tiny_fixture")
    assert list((tmp_path / "scratch").iterdir()) == []


def test_a_step_that_is_stopped_while_it_installs_leaves_no_files(place, tmp_path, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.delenv("PIP_NO_INDEX")
        monkeypatch.setenv("PIP_INDEX_URL", f"http://127.0.0.1:{silent.getsockname()[1]}/simple")
        words = ["gather", "--requirements-text", "no_such_fixture", str(tmp_path / "job.json#sha256=00")]
        with subprocess.Popen([*COMMAND, *words], stderr=subprocess.PIPE, text=True) as step:
            connection, _ = silent.accept()  # pip asks the index
            step.send_signal(signal.SIGTERM)
            said = step.communicate()[1]
            connection.close()
    assert step.returncode == 143, said
    assert "Preempted" in said
    assert list((tmp_path / "scratch").iterdir()) == []


def test_requirements_of_an_unsigned_record_are_not_used():
    about = {
        "run": "r1", "engine": {"engine": "local", "runner": "subprocess"}, "image": "runwide:1", "parallelism": None,
        "resources": {}, "options": JobOptions(RunOptions(retries=2), requirements="evil==1").about(),
    }  # fmt: skip
    found = {
        vouched: recorded._recorded(_Record(about, vouched), "/runs/000.json") for vouched in (True, False)
    }
    assert found[True].options.requirements == "evil==1"
    assert (found[False].options.requirements, found[False].options.run.retries) == ("", 2)
    assert (found[True].unbelieved, found[False].unbelieved) == ((), ("requirements",))


class _Record:
    def __init__(self, about, vouched):
        self.about, self.vouched = about, vouched


def test_submit_reads_the_file_before_it_submits_a_run(tmp_path):
    (tmp_path / "items.json").write_text("[1, 4]")
    (tmp_path / "requirements.txt").write_text("a b c")
    words = ["--store", str(tmp_path / "store"), "--components", "1", "--engine", "subprocess"]
    words += ["--requirements", str(tmp_path / "requirements.txt")]
    for what, message in (
        ("math:sqrt", "line 1: 'a b c' is not a requirement"),
        ("p.yaml", "is for a function"),
    ):
        done = CliRunner().invoke(submit_command, [what, str(tmp_path / "items.json"), *words])
        assert isinstance(done.exception, InputError)
        assert message in str(done.exception)
    assert not (tmp_path / "store").exists()
