"""All that a client does, on a system without what Linux alone has: ENGINE SYSTEM URL STORE."""

import sys
import warnings
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import hidden

ENGINE, SYSTEM, URL, STORE = sys.argv[1:]
hidden.preload()
hidden.hide(SYSTEM)
warnings.filterwarnings("error", category=EncodingWarning, module=r"runwide")

import contextlib  # noqa: E402
import io  # noqa: E402
import json  # noqa: E402

from kfp import compiler, dsl  # noqa: E402

import runwide  # noqa: E402
from runwide.cli import main  # noqa: E402
from runwide.errors import SystemNotSupported  # noqa: E402
from runwide.store import open_store  # noqa: E402
from runwide_components import Components, Kubeflow, Local, Pipelines, Vertex, fan_out  # noqa: E402

TEXT = "na\N{LATIN SMALL LETTER I WITH DIAERESIS}ve \N{CJK UNIFIED IDEOGRAPH-6771}"


def command(*words, code=0):
    """Run a command as its entry point does, on a console with code page 1252; returns what it printed."""
    out = io.TextIOWrapper(io.BytesIO(), encoding="cp1252", newline="")
    with contextlib.redirect_stdout(out):
        try:
            main([str(word) for word in words])
        except SystemExit as error:
            ended = error.code or 0
        else:
            raise AssertionError(words)
        assert ended == code, (words, ended, out.buffer.getvalue())
        sys.stdout.flush()
    return out.buffer.getvalue().decode("cp1252")


def engine():
    if ENGINE == "vertex":
        return Vertex(
            "shop", "europe-west1", api_endpoint=URL, pipeline_root=f"{STORE}/root", poll=(0.1, 0.5)
        )
    return Kubeflow(URL, poll=(0.1, 0.5))


def label(x):
    if x == 3:
        raise ValueError(TEXT)
    return f"{TEXT} {x}"


def size(file):
    with file.local() as path:
        return path.stat().st_size


VALUES = [f"{TEXT} {x}" for x in (1, 2)]
SHOWN = TEXT.encode("cp1252", "backslashreplace").decode("cp1252")


def maps():
    """Submitted, waited for, read in each way, taken up again, reported and cleaned."""
    place = Components(2, store=f"{STORE}/jobs", engine=engine(), progress=False)
    job, run = place.submit(label, [1, 2, 3], workers=1)
    shown = json.loads(command("status", "--json", job))
    assert (shown["items"], len(shown["shards"])) == (3, 2)
    result = command("wait", job).split()[-1]
    run.wait(60)
    assert "2 of 2 shards finished, 1 items failed" in command("status", job)
    assert command("gather", "--on-error", "return", job).split() == [result]
    for found in (
        runwide.attach(job, on_error="return", progress=False),
        runwide.load(result, on_error="return"),
        runwide.gather(job, on_error="return"),
    ):
        assert found[:2] == VALUES
        assert TEXT in str(found[2])
        assert found.report().metrics["failed_items"] == 1
    printed = command("results", result, code=1).splitlines()
    assert [json.loads(line) for line in printed] == VALUES
    assert SHOWN in command("report", job, "--out", "page.html", "--metrics-out", "numbers.json")
    assert TEXT in Path("page.html").read_text(encoding="utf-8")
    assert json.loads(Path("numbers.json").read_text(encoding="utf-8"))["failed_items"] == 1
    assert command("cancel", job) == "it has ended already\n"
    assert "deleted" in command("clean", "--yes", job)
    assert "no job is that old" in command("clean", "--yes", "--older-than", "1d", f"{STORE}/jobs")


def streams():
    """Results and futures while components run; one that waits for an earlier one lies in a file."""
    place = Components(2, store=f"{STORE}/jobs", engine=engine(), progress=False)
    assert list(runwide.imap(label, [1, 2, 3], on=place, on_error="return", workers=1))[:2] == VALUES
    with runwide.Executor(1, on=place) as executor:
        futures = [executor.submit(label, x) for x in (1, 2, 3)]
        assert [future.result() for future in futures[:2]] == VALUES
        assert TEXT in str(futures[2].exception())


def pipelines():
    """A fan-out compiled, submitted for a set of parameters by a batch, looked at and read."""

    @dsl.pipeline(name="labels")
    def labels(numbers: list, store: str) -> str:
        return fan_out(label, numbers, components=1, store=store, workers=1).output

    compiler.Compiler().compile(labels, "labels.yaml")
    Path("sets.jsonl").write_text('{"numbers": [1, 2]}\n', encoding="utf-8")
    batch = Pipelines("labels.yaml", engine=engine(), store=f"{STORE}/batches", progress=False)
    (run,) = batch.map("sets.jsonl")
    assert run.state.value == "succeeded", run
    assert runwide.load(run.outputs["Output"]) == VALUES
    assert "labels" in command("status", batch.uri)
    assert command("wait", batch.uri)
    assert len(command("results", "--csv", batch.uri).splitlines()) == 2
    assert command("cancel", batch.uri) == "0 runs cancelled\n"
    words = ("--store", f"{STORE}/batches", "--dry-run", *named_engine())
    assert "of 1 runs would be submitted" in command("submit", "labels.yaml", "sets.jsonl", *words)


def named_engine():
    if ENGINE == "vertex":
        return ("--engine", "vertex", "--project", "shop", "--location", "europe-west1")
    return ("--engine", "kubeflow", "--host", URL)


def submits():
    """A function of a module by its name, from the command line."""
    Path("scores.py").write_text("def score(x):\n    return 100 // x\n", encoding="utf-8")
    Path("items.csv").write_text("x\n1\n2\n", encoding="utf-8")
    Path("items.jsonl").write_text("1\n2\n", encoding="utf-8")
    sys.path.insert(0, ".")
    words = ("scores:score", "items.jsonl", "--components", "1", "--store", f"{STORE}/jobs", *named_engine())
    assert "1 submission" in command("submit", *words, "--dry-run")
    if ENGINE == "kubeflow":
        _, result = command("submit", *words, "--workers", "1", "--wait").split()
        assert command("results", result) == "100\n50\n"
    else:  # whose address no option of a command gives
        place = Components(1, store=f"{STORE}/jobs", engine=engine(), progress=False)
        for _ in range(2):  # the second call finds what the first one has stored
            found = runwide.map(size, [runwide.File("items.csv")], on=place, name="sizes", workers=1)
            assert found == [len(Path("items.csv").read_bytes())]


def folders():
    """A store in a folder, which steps elsewhere do not see, holds a client's jobs as well."""
    job = runwide.scatter(label, [1, 2], store="jobs", shards=2)
    command("gather", "--close", "--on-error", "return", job)
    assert len(runwide.load(job.partition("#")[0].rpartition("/")[0], on_error="return")) == 2
    assert "2 of 2 shards finished" in command("status", job)
    assert "deleted" in command("clean", "--yes", job)
    with open_store("objects") as store:
        store.create("a/b", [b"one", b"two"])
        store.create("a/b", b"onetwo")
        assert bytes(store.read("a/b", start=1, length=4)) == b"netw"
        assert [one.name for one in store.list()] == ["a/b"]
        store.sweep("a")
        store.delete("a/b")
        assert not list(store.list())
    assert not any(Path("objects").iterdir())


def mounted():
    """A folder that steps have is named as it is there, and a relative one in full, as it is here."""

    @dsl.pipeline(name="mounted")
    def labels():
        fan_out(label, [1], components=1, store="/mnt/runs")
        fan_out(label, [1], components=1, store="here")

    compiler.Compiler().compile(labels, "mounted.yaml")
    text = Path("mounted.yaml").read_text(encoding="utf-8")
    assert ("file:///mnt/runs" not in text) == (SYSTEM == "win32")
    assert "/mnt/runs" in text
    assert Path("here").absolute().as_uri() in text


def refusals():
    """Tasks do not run on Windows, here or by an engine of this machine."""
    for run in (
        lambda: runwide.map(label, [1]),
        lambda: runwide.map(label, [1], store="jobs"),
        lambda: runwide.map(label, [1], on=Components(1, store="jobs", engine=Local("subprocess"))),
        lambda: runwide.Pool(1),
    ):
        try:
            run()
        except SystemNotSupported as error:
            assert "WSL" in str(error)  # noqa: PT017 - this is a program
        else:
            raise AssertionError(run)


maps()
streams()
if SYSTEM == "win32":
    if ENGINE == "vertex":
        pipelines()
    submits()
    refusals()
folders()
mounted()
assert command("keygen", "key.txt").startswith("$env:" if SYSTEM == "win32" else "export ")
loaded = [name for name in sys.modules if name.startswith("runwide.pool.")]
assert SYSTEM != "win32" or not loaded, loaded
print("done")
