"""An attacker who may write to a store, against every kind of object in it: nothing of theirs is run or believed.

An object without a signature counts as absent, with a line that names it, or ends a command in one clear line. `KINDS` has
every kind of object that a store can hold; a test fails when a new one appears.
"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from kfp import dsl

import runwide
from runwide import Exchange, json_text
from runwide._report import report
from runwide.errors import EngineError, IntegrityError, RunwideError
from runwide.job import clean, manifest, names
from runwide.job._gather import finish, load
from runwide.job.housekeeping import status
from runwide.job.reference import parse
from runwide.store import records
from runwide.store.buffers import sha256
from runwide.store.codec import encode
from runwide_components import Components, Local, Pipelines, fan_out
from runwide_components.batch_records import Records
from runwide_components.runs import last_record

pytestmark = [pytest.mark.faults, pytest.mark.xdist_group("attacks")]

KEY = "a key of the pipeline's own that is long enough"
JOB = r"[0-9a-f]-\d{8}t\d{6}-[0-9a-f]{16}"
SHARD = rf"{JOB}/shards/\d{{4}}"
RUN = r"batches/[a-z-]+/runs/[0-9a-f]{32}/\d{3}"
# kind -> its names, and the records of JSON that are written there
KINDS = {
    "job": (rf"{JOB}/job\.json", "job"),
    "function": (rf"{JOB}/function\.pkl", None),
    "items": (rf"{JOB}/items/\d{{4}}\.pack", None),
    "file": (rf"{JOB}/files/[0-9a-f]{{64}}/[^/]+", None),
    "chunk": (rf"{SHARD}/chunks/\d{{6}}\.pack", None),
    "node": (rf"{JOB}/reduce/\d{{2}}/\d{{6}}(-\d{{4}})?\.pack", None),
    "shard": (rf"{SHARD}/shard(-\d{{4}})?\.json", "shard"),
    "events": (rf"{SHARD}/events(-\d{{4}})?(\.used-[\d.cgs-]+)?\.jsonl", None),
    "result": (rf"{JOB}/result(-[0-9a-f]{{12}})?\.json", "result"),
    "run": (rf"{JOB}/runs/\d{{3}}\.json", "run"),
    "name": (r"names/[0-9a-f]{64}(-\d{4})?\.json", "name"),
    "claimed": (rf"{RUN}-claimed\.json", "attempt"),
    "submitted": (rf"{RUN}-submitted\.json", "attempt"),
    "ended": (rf"{RUN}-ended\.json", "attempt"),
    "value": (r"batches/[a-z-]+/exchange/[^/]+/[^/]+", None),
    "compiled function": (r"function/[0-9a-f]{64}", None),
    "compiled items": (r"items/[0-9a-f]{64}", None),
    "compiled constants": (r"constants/[0-9a-f]{64}", None),
}


def square(x):
    return x * x


RIGHT = [x * x for x in range(6)]


def put(path, data):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    path.write_bytes(b"".join(data) if isinstance(data, tuple) else data)


def kind_of(name):
    found = [kind for kind, (pattern, _) in KINDS.items() if re.fullmatch(pattern, name)]
    assert len(found) == 1, f"{name} is of kinds {found}: say in KINDS and SECURITY.md who vouches for it"
    return found[0]


@dsl.component(base_image="runwide:none", install_kfp_package=False)
def publish(exchange: str) -> str:
    from runwide import Exchange

    Exchange(exchange).publish("one/value", {"a": 1})
    return "done"


@dsl.pipeline(name="many-kinds")
def many_kinds(exchange: str, store: str, n: int) -> str:
    publish(exchange=exchange)
    return fan_out("math:sqrt", [1, 4], components=1, store=store, report=False).output


def batch(store, **options):
    return Pipelines(many_kinds, engine=Local("subprocess"), store=str(store), progress=False, **options)


@pytest.fixture(scope="module")
def house(tmp_path_factory):
    """A store in which everything was done once, and its job."""
    store = tmp_path_factory.mktemp("house") / "store"
    text = store.parent / "numbers.txt"
    text.write_text("1 2")
    runwide.map(str, [runwide.File(str(text)), 2], store=str(store), name="first", workers=1)
    runwide.map(
        square, range(6), on=Components(2, store=str(store), engine=Local("subprocess")), name="second"
    )
    runwide.map(square, range(6), store=str(store), reduce=max, workers=1)
    batch(store).map([{"n": 1}])
    large = os.urandom(80_000).hex()

    @dsl.pipeline(name="large")
    def pipeline() -> str:
        items = [os.urandom(40_000).hex() for _ in range(2)]
        constants = {"more": os.urandom(80_000).hex()}
        return fan_out(
            lambda x, more: len(x + large + more), items, components=1, store=str(store), constants=constants
        ).output

    return store


def test_every_kind_of_object_is_known(house):
    names = {path.relative_to(house).as_posix() for path in house.rglob("*") if path.is_file()}
    assert {kind_of(name) for name in names} == set(KINDS)


def test_every_kind_of_record_is_known():
    assert {kind for _, kind in KINDS.values() if kind} == set(records.MOST)


def test_security_md_and_the_table_say_who_vouches_for_each_kind():
    root = Path(__file__).parents[2]
    table = (root / "docs" / "spill.md").read_text()
    for kind in KINDS:
        assert f"| {kind} |" in table, f"docs/spill.md has no line for {kind}"
        assert f"`{kind}`" in (root / "SECURITY.md").read_text(), f"SECURITY.md does not name {kind}"


# --- forms of planted objects


def deep(_target):
    return b"[" * 200_000


def garbage(_target):
    return b"\x00\xffgarbage"


def newer(target):
    data = bytearray(target.read_bytes()) if target.is_file() else bytearray(b"{}")
    if data[:1] == b"{":
        about = json.loads(data)
        about["format"] = 99
        return json_text.dumps(about)
    data[8:10] = b"\x63\x00"  # the version of packs and frames
    return bytes(data)


def number(_target):
    return b'{"format": 1e999, "kind": "job", "mac": ' + b"9" * 5000 + b"}"


def wide(_target):
    return b"[" + b"[]," * 1_000_000 + b"1]"


FORMS = {
    "wide": wide,
    "deep": deep,
    "garbage": garbage,
    "newer": newer,
    "number": number,
    "empty": lambda _: b"",
}
PLACES = ("folder", "link", "loop", "pipe", "sparse")


def plant(form, target, outside):
    target.parent.mkdir(parents=True, exist_ok=True)
    data = FORMS[form](target) if form in FORMS else b""
    target.unlink(missing_ok=True)
    if form in FORMS:
        target.write_bytes(data)
    elif form == "folder":
        target.mkdir()
    elif form == "link":
        target.symlink_to(outside)
    elif form == "loop":
        target.symlink_to(target)
    elif form == "pipe":
        os.mkfifo(target)
    else:
        target.touch()
        os.truncate(target, 1 << 40)


@pytest.fixture(params=[None, KEY], ids=["unsigned", "signed"])
def key(request, monkeypatch):
    """Once without a signing key, and once with one."""
    if request.param:
        monkeypatch.setenv("RUNWIDE_SIGNING_KEY", request.param)
    return request.param


@pytest.fixture
def outside(tmp_path):
    """A file that is not the store's, and stays as it is."""
    path = tmp_path / "outside"
    path.write_bytes(b"mine")
    yield path
    assert path.read_bytes() == b"mine"


@pytest.fixture
def job(tmp_path):
    return runwide.scatter(square, range(6), store=str(tmp_path / "store"), shards=2)


def folder_of(job):
    return Path(parse(job).folder)


def run(job, **options):
    return [runwide.shard(job, index, workers=1, **options) for index in range(2)]


def named(call, *args, **options):
    """Return the value of a call, or its error, which is one of ours and says in one line what failed and where."""
    try:
        return call(*args, **options)
    except RunwideError as error:
        found = error
    assert "\n" not in str(found)
    return found


PLACES_OF_RESULTS = (
    "shards/0000/chunks/000000.pack",
    "shards/0000/shard.json",
    "shards/0000/events.jsonl",
    "shards/0001/shard-0003.json",
    "result.json",
)


@pytest.mark.parametrize("form", [*FORMS, *PLACES])
def test_a_job_is_never_blocked_by_what_lies_in_its_places(form, job, outside):
    for name in PLACES_OF_RESULTS:
        plant(form, folder_of(job) / name, outside)
    assert status(job).finished == 0
    shards = run(job)
    assert runwide.gather(job, shards) == RIGHT
    assert status(job).finished == 2
    assert named(runwide.gather, job) == RIGHT
    assert len(report(job).story.runs) >= 1
    assert load(finish(job, shards)) == RIGHT


@pytest.mark.parametrize("form", [*FORMS, *PLACES])
@pytest.mark.parametrize("name", ["job.json", "function.pkl", "items/0000.pack"])
def test_what_a_job_cannot_be_without_is_missed_in_one_line(form, name, job, outside):
    plant(form, folder_of(job) / name, outside)
    error = named(runwide.shard, job, 0, workers=1)
    if name == "items/0000.pack" and not isinstance(error, RunwideError):
        found = runwide.gather(job, [error, named(runwide.shard, job, 1, workers=1)], on_error="return")
        assert {type(one).__name__ for one in found} == {"Failure"}
        return
    assert isinstance(error, RunwideError)
    assert name.rpartition("/")[2] in str(error)


def test_a_name_is_never_blocked(key, tmp_path, outside):
    store = tmp_path / "store"
    assert runwide.map(square, range(6), store=str(store), name="n", workers=1) == RIGHT
    (first,) = (store / "names").iterdir()
    for number, form in enumerate([*FORMS, *PLACES]):  # each map gives the name a further object
        place = first.with_stem(f"{first.stem}-{number:04d}") if number else first
        plant(form, place, outside)
        assert runwide.map(square, range(6), store=str(store), name="n", workers=1) == RIGHT
    jobs = len(list(store.iterdir()))
    assert runwide.map(square, range(6), store=str(store), name="n", workers=1) == RIGHT
    assert len(list(store.iterdir())) == jobs


@pytest.mark.parametrize("link", ["shards", "shards/0000", "shards/0000/chunks", "runs", "."])
def test_nothing_is_written_or_deleted_behind_a_link(link, job, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    (elsewhere / "deep").mkdir(parents=True)
    (elsewhere / "deep" / "mine").write_text("mine")
    target = folder_of(job) / link
    if link == ".":
        target.rename(tmp_path / "moved")
    target.parent.mkdir(parents=True, exist_ok=True)
    target.symlink_to(elsewhere)
    found = named(runwide.shard, job, 0, workers=1)
    assert isinstance(found, RunwideError) or link == "runs"
    named(clean, folder_of(job).as_posix())
    assert [path.relative_to(elsewhere).as_posix() for path in sorted(elsewhere.rglob("*"))] == [
        "deep",
        "deep/mine",
    ]


def test_a_manifest_of_a_number_far_beyond_the_others_does_not_count(job):
    shards = run(job)
    data = (folder_of(job) / manifest.shard_name(0)).read_bytes()
    put(
        folder_of(job) / "shards/0000/shard-999999999.json", data.replace(b'"failures":[]', b'"failures": []')
    )
    assert run(job) == shards
    assert runwide.gather(job) == RIGHT
    assert status(job).finished == 2


@pytest.mark.parametrize(
    "fields",
    [{"run_key": "x" * 64}, {"layout": ["a", "b"]}, {"layout": {}}, {"source": 5}, {"reduced": 1}, {"environment": [1]},
     {"environment": {"python": 5}}, {"layout": {"count": 1e9, "shards": 2, "seed": "", "parts": 1}},
     {"layout": {"count": 1 << 40, "shards": 1 << 39, "seed": "s", "parts": 1}}, {"packs": [{}]}, {"function": None}],
)  # fmt: skip
def test_a_name_that_leads_to_a_job_that_makes_no_sense_is_passed_over(fields, tmp_path):
    store = tmp_path / "store"
    made = runwide.scatter(square, range(6), store=str(store), shards=2)
    folder = folder_of(made)
    data = json_text.dumps({**json.loads((folder / "job.json").read_bytes()), **fields})
    put(folder / "job.json", data)
    place = names.place_of("n")
    about = {"job": f"{folder.name}/job.json#sha256={sha256(data)}"}
    put(store / place, records.written("name", about, owner="n", place=place))
    assert runwide.map(square, range(6), store=str(store), name="n", workers=1) == RIGHT


# --- records of runs


def planted_run(job, **about):
    folder = folder_of(job)
    given = {
        "run": "x", "options": {}, "image": "evil", "parallelism": None, "time": 0.0,
        "resources": {}, "engine": {"engine": "local", "runner": "subprocess"},
    }  # fmt: skip
    place = "runs/000.json"
    put(folder / place, records.written("run", {**given, **about}, owner=parse(job).digest, place=place))


EVIL = {
    "docker": {"engine": "local", "runner": "docker", "mounts": ["/"], "docker": {"entrypoint": "/bin/evil"}},
    "address": {
        "engine": "vertex",
        "project": "shop",
        "location": "europe-west1",
        "api_endpoint": "http://evil",
    },
    "region": {"engine": "vertex", "project": "shop", "location": "evil.example/"},
    "host": {"engine": "kubeflow", "host": "http://evil.example"},
    "none": {"engine": "cluster"},
    "folder": {"engine": "processes", "folder": "/"},
    "nothing": {},
}


@pytest.mark.parametrize("evil", EVIL)
def test_of_an_unsigned_record_nothing_is_believed_but_the_engines_name(evil, job):
    planted_run(job, engine=EVIL[evil])
    found = last_record(job)
    if evil in ("docker", "address"):
        engine = found.engine()
        assert getattr(engine, "mounts", ()) == ()
        assert getattr(engine, "options", {}) == {}
        assert getattr(engine, "api_endpoint", None) is None
        assert found.place(engine).image != "evil"
    else:
        with pytest.raises(EngineError, match="not signed"):
            found.engine()


@pytest.mark.parametrize("evil", EVIL)
def test_with_a_key_an_unsigned_record_is_passed_over(evil, job, monkeypatch):
    planted_run(job, engine=EVIL[evil])
    monkeypatch.setenv("RUNWIDE_SIGNING_KEY", KEY)
    with pytest.raises(EngineError, match="no record of where this job runs that can be trusted"):
        last_record(job)


def test_with_a_key_a_signed_record_is_believed_whole(job, monkeypatch):
    monkeypatch.setenv("RUNWIDE_SIGNING_KEY", KEY)
    about = Local("docker", mounts=["/data"], docker={"mem_limit": "1g"}).about()
    planted_run(job, engine=about, image="mine")
    found = last_record(job)
    assert found.engine().about() == about
    assert found.place(found.engine()).image == "mine"


def test_a_record_of_another_job_or_place_is_passed_over(job, tmp_path, monkeypatch):
    monkeypatch.setenv("RUNWIDE_SIGNING_KEY", KEY)
    other = runwide.scatter(square, range(6), store=str(tmp_path / "store"), shards=2)
    planted_run(other)
    data = (folder_of(other) / "runs/000.json").read_bytes()
    put(folder_of(job) / "runs/000.json", data)
    put(folder_of(other) / "runs/001.json", data)
    with pytest.raises(EngineError):
        last_record(job)
    assert last_record(other).uri.endswith("000.json")


def test_garbage_among_the_records_of_runs_is_passed_over(job, outside):
    planted_run(job)
    for number, form in enumerate([*FORMS, *PLACES], 1):
        plant(form, folder_of(job) / f"runs/{number:03d}.json", outside)
        plant(form, folder_of(job) / f"runs/nonsense-{form}", outside)
    assert last_record(job).run == "x"
    assert runwide.attach(job, engine=Local("subprocess")) == RIGHT


@pytest.mark.parametrize(
    "about",
    [{"run": 7}, {"run": "../../x y"}, {"options": {"run": {"workers": "many"}}}, {"options": {"run": 7}},
     {"options": {"run": {"initializer": "x"}}}, {"options": []}, {"resources": 7},
     {"resources": {"as_step": 1}}, {"parallelism": "x"}, {"engine": "vertex"}, {"options": {"no": 1}}],
)  # fmt: skip
def test_a_record_that_makes_no_sense_is_passed_over(about, job):
    planted_run(job, **about)
    with pytest.raises(EngineError, match="no record"):
        last_record(job)


# --- batches


def records_of(store, key="0" * 32):
    from runwide.store import open_store

    folder = open_store(f"{store}/batches/many-kinds")
    return Records(folder), folder


def test_a_planted_end_of_a_run_leads_nowhere_else(tmp_path, bomb):
    store, evil = tmp_path / "store", tmp_path / "evil"
    elsewhere = runwide.scatter(square, range(2), store=str(evil), shards=1)
    noted, _ = records_of(store)
    noted.write("0" * 32, 0, "claimed", {"name": "r", "arguments": {}})
    outputs = {"Output": elsewhere, "nested": [{"a": elsewhere}], "plain": 3}
    noted.write("0" * 32, 0, "ended", {"state": "succeeded", "outputs": outputs, "seconds": 1.0})
    (found,) = batch(store).status()
    assert found.outputs == {"plain": 3}


@pytest.mark.parametrize("form", [*FORMS, *PLACES])
def test_garbage_among_the_records_of_a_batch_is_passed_over(form, key, tmp_path, outside):
    noted, folder = records_of(tmp_path / "store")
    noted.write("1" * 32, 0, "claimed", {"name": "good", "arguments": {"n": 1}})
    for kind in ("claimed", "submitted", "ended"):
        plant(form, Path(folder.uri, f"runs/{'0' * 32}/000-{kind}.json"), outside)
    plant(form, Path(folder.uri, "runs/nonsense"), outside)
    assert [one.name for one in batch(tmp_path / "store").status()] == ["good"]


@pytest.mark.parametrize("evil", EVIL)
def test_status_asks_no_address_of_an_unsigned_record(evil, tmp_path):
    noted, _ = records_of(tmp_path / "store")
    noted.write("0" * 32, 0, "claimed", {"name": "r", "arguments": {}})
    about = {"run": "x", "logs": "http://evil", "engine": EVIL[evil], "time": 1.0, "name": "r"}
    noted.write("0" * 32, 0, "submitted", about)
    (noted_again,) = Records(records_of(tmp_path / "store")[1]).attempts().values()
    submitted = noted_again[0]["submitted"]
    assert submitted.logs() == ""
    if evil in ("docker", "address"):
        assert getattr(submitted.engine(), "api_endpoint", None) is None
        assert getattr(submitted.engine(), "mounts", ()) == ()
    else:
        with pytest.raises(EngineError, match="not signed"):
            submitted.engine()


def test_with_a_key_unsigned_records_of_a_batch_are_passed_over(tmp_path, monkeypatch):
    noted, folder = records_of(tmp_path / "store")
    noted.write("0" * 32, 0, "claimed", {"name": "theirs", "arguments": {}})
    monkeypatch.setenv("RUNWIDE_SIGNING_KEY", KEY)
    noted.write("1" * 32, 0, "claimed", {"name": "mine", "arguments": {}})
    data = Path(folder.uri, f"runs/{'1' * 32}/000-claimed.json").read_bytes()
    put(Path(folder.uri, f"runs/{'2' * 32}/000-claimed.json"), data)  # signed, and for another place
    assert [one.name for one in batch(tmp_path / "store").status()] == ["mine"]


def test_bare_uris_of_results_elsewhere_are_left_out_too(tmp_path):
    store, evil = tmp_path / "store", tmp_path / "evil"
    elsewhere = parse(runwide.scatter(square, range(2), store=str(evil), shards=1)).folder
    noted, _ = records_of(store)
    noted.write("0" * 32, 0, "claimed", {"name": "r", "arguments": {}})
    outputs = {
        "a": elsewhere,
        "b": f"{elsewhere}/result.json",
        "c": "gs://evil/x/result.json",
        "d": "gs://mine/table.csv",
    }
    noted.write("0" * 32, 0, "ended", {"state": "succeeded", "outputs": outputs, "seconds": 1.0})
    (found,) = batch(store).status()
    assert found.outputs == {"d": "gs://mine/table.csv"}


def test_an_attempt_far_beyond_the_others_does_not_count(tmp_path):
    noted, _ = records_of(tmp_path / "store")
    noted.write("0" * 32, 0, "claimed", {"name": "r", "arguments": {}})
    noted.write("0" * 32, 999_999_999, "ended", {"state": "succeeded", "outputs": {}, "seconds": 1.0})
    (found,) = batch(tmp_path / "store").status()
    assert (found.attempts, found.state.value) == (1, "pending")


# --- values of an exchange


@pytest.fixture
def exchange(tmp_path):
    return Exchange(str(tmp_path / "store/batches/b/exchange"))


def planted_value(exchange, name, value, *, of=None):
    from runwide.job import exchange as module

    frame = encode(value, context=(of or exchange)._context(name))
    head = module._MAGIC + bytes.fromhex(frame.digest) + bytes(32)
    put(Path(exchange.uri, name), (head, *frame.parts))


def test_without_a_key_a_planted_value_runs_nothing(exchange, bomb):
    planted_value(exchange, "a/b", bomb)
    with pytest.raises(IntegrityError, match="is not plain data"):
        exchange.get("a/b")
    planted_value(exchange, "a/c", {"fine": 1})
    assert exchange.collect("*") == {"a/c": {"fine": 1}}


def test_with_a_key_a_value_of_another_batch_is_refused(exchange, tmp_path, monkeypatch):
    monkeypatch.setenv("RUNWIDE_SIGNING_KEY", KEY)
    for other in ("batches/c/exchange", "other/batches/b/exchange"):
        theirs = Exchange(str(tmp_path / "store" / other))
        theirs.publish("a/b", 1)
        put(Path(exchange.uri, "a/b"), Path(theirs.uri, "a/b").read_bytes())
        with pytest.raises(IntegrityError, match="belongs to"):
            exchange.get("a/b")


@pytest.mark.parametrize("form", [*FORMS, *PLACES])
def test_garbage_among_the_values_is_passed_over(form, key, exchange, outside):
    exchange.publish("good/value", 7)
    plant(form, Path(exchange.uri, "bad/value"), outside)
    assert exchange.collect("*/value", count=1) == {"good/value": 7}
    assert isinstance(named(exchange.get, "bad/value"), RunwideError)


# --- bare URIs


def test_a_bare_uri_is_believed_after_one_line(job, capfd, monkeypatch):
    monkeypatch.setattr("runwide.store.signing._logged", set())
    finish(job, run(job))
    folder = folder_of(job).as_posix()
    assert load(folder) == load(f"{folder}/result.json") == load(f"{folder}/job.json") == RIGHT
    said = [line for line in capfd.readouterr().err.splitlines() if "store.believed" in line]
    assert len(said) == 1
    assert "runwide keygen" in said[0]


def test_with_a_key_a_bare_uri_must_be_signed(job, monkeypatch):
    finish(job, run(job))
    monkeypatch.setenv("RUNWIDE_SIGNING_KEY", KEY)
    with pytest.raises(IntegrityError, match="not signed"):
        load(folder_of(job).as_posix())
    mine = runwide.scatter(square, range(6), store=str(folder_of(job).parent), shards=2)
    finish(mine, run(mine))
    assert load(folder_of(mine).as_posix()) == RIGHT


def test_nothing_of_a_bare_uri_is_run_again_without_a_key(job):
    planted_run(job)
    with pytest.raises(EngineError, match="the function of the job is not signed"):
        runwide.attach(folder_of(job).as_posix())


# --- the key of a run


def test_a_run_key_is_in_no_spec_and_in_no_name(tmp_path):
    from kfp import compiler

    @dsl.pipeline(name="p")
    def pipeline(store: str) -> str:
        return fan_out("math:sqrt", [1, 4], components=2, store=store).output

    for number in range(2):
        compiler.Compiler().compile(pipeline, str(tmp_path / f"{number}.yaml"))
    assert (tmp_path / "0.yaml").read_bytes() == (tmp_path / "1.yaml").read_bytes()


# --- the client as a command


PLANTED = (
    {"runs/000.json": "deep", "shards/0000/events.jsonl": "garbage", "shards/0000/shard.json": "number",
     "shards/0001/shard-0001.json": "empty"},
    {"runs/000.json": "sparse", "shards/0000/events.jsonl": "folder", "shards/0000/shard.json": "link",
     "shards/0001/shard-0001.json": "deep"},
)  # fmt: skip


@pytest.mark.parametrize("command", ["status", "report", "wait", "results"])
@pytest.mark.parametrize("planted", PLANTED, ids=["bytes", "files"])
def test_commands_end_in_one_line(command, planted, job, outside, tmp_path):
    run(job)
    for name, form in planted.items():
        plant(form, folder_of(job) / name, outside)
    words = [command, job, *(["--out", str(tmp_path / "page.html")] if command == "report" else [])]
    ran = subprocess.run(
        [sys.executable, "-m", "runwide.cli", *words],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert "Traceback" not in ran.stderr
    assert ran.returncode in (0, 1, 2)
    if ran.returncode:
        assert ran.stderr.strip().splitlines()[-1].startswith("runwide: ")
