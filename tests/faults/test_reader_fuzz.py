"""With any bytes in a store, each reader returns, or raises an error of runwide, in bounded memory.

Real objects of a small job, batch and exchange are damaged in many ways, and given the digests and the owner that an
attacker without the key can give them. Nothing here runs a worker: only readers are called.
"""

import hashlib
import json
import resource
import struct
import uuid
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import runwide
from runwide import Exchange
from runwide._report import report
from runwide.cli.inputs import items_of_file, unpacked
from runwide.errors import FrameCorrupt, InputError, RunwideError
from runwide.events.reading import Reader
from runwide.job import manifest
from runwide.job._gather import finish, load
from runwide.job.chunk_log import ChunkLog
from runwide.job.housekeeping import status
from runwide.job.progress import Progress
from runwide.job.reading import read_chunk
from runwide.job.reference import parse
from runwide.json_text import json_of
from runwide.redaction import redacted_json
from runwide.store import buffers, codec, pack, plain, records
from runwide.store.base import open_inside, open_store
from runwide.store.buffers import sha256
from runwide.tables.formats import json_value
from runwide_components.batch_records import Records
from runwide_components.runs import last_record

pytestmark = [pytest.mark.faults, pytest.mark.xdist_group("fuzz")]

MEMORY = 2 << 30  # bytes more than the process has at first
FEW = settings(
    max_examples=60, derandomize=True, deadline=None, database=None, suppress_health_check=list(HealthCheck)
)
MANY = settings(FEW, max_examples=2000)
EXTREMES = (0, 1, 2**15, 2**16 - 1, 2**31 - 1, 2**32 - 1, 2**40, 2**63 - 1, 2**64 - 1)


def fuzz(*strategies):
    """The same property with some examples in each run of the tests, and with many in `make test-slow`."""

    def wrap(check):
        @pytest.mark.parametrize(
            "how", [FEW, pytest.param(MANY, marks=pytest.mark.slow)], ids=["few", "many"]
        )
        def test(how, house):
            how(given(st.tuples(*strategies))(lambda drawn: check(house, *drawn)))()

        test.__name__ = check.__name__
        test.__doc__ = check.__doc__
        return test

    return wrap


@pytest.fixture(autouse=True)
def little_memory():
    """An allocation that is out of all proportion fails, as a MemoryError."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    has = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (has + MEMORY, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


def named(call, *args, **options):
    """Return the result of a call, or its error, which must be one of runwide's."""
    try:
        return call(*args, **options)
    except RunwideError as error:
        assert len(str(error)) < 5000  # noqa: PT017 - a longer error contains foreign text
        return error


# --- real objects


def third(x):
    return 1 / (x - 3)


class House:
    """A finished job, a batch's records, an exchange, all in one store in memory, and their bytes."""

    def __init__(self):
        self.uri = f"memory://fuzz-{uuid.uuid4().hex}"
        self.job = runwide.scatter(third, range(6), store=self.uri, shards=2)
        shards = [runwide.shard(self.job, index, workers=1) for index in range(2)]
        finish(self.job, shards)
        self.folder = parse(self.job).folder
        self.about = manifest.read_job(self.job)
        place = "runs/000.json"
        given = {
            "run": "x", "options": {"retries": 1}, "image": "i", "parallelism": 2, "time": 0.0,
            "resources": {"cpu": 1, "accelerator": ["a", 1]}, "engine": {"engine": "local", "runner": "subprocess"},
        }  # fmt: skip
        with open_inside(self.folder) as store:
            store.create(place, records.written("run", given, owner=self.about.digest, place=place))
        self.batch = f"{self.uri}/batches/b"
        noted = Records(open_store(self.batch))
        noted.write("0" * 32, 0, "claimed", {"name": "r", "arguments": {"n": 1}})
        engine = {"engine": "vertex", "project": "shop", "location": "europe-west1"}
        about = {"run": "x", "logs": "http://x", "engine": engine, "time": 1.0, "name": "r"}
        noted.write("0" * 32, 0, "submitted", about)
        outputs = {"state": "succeeded", "outputs": {"a": [self.job]}, "seconds": 1.0, "error": ""}
        noted.write("0" * 32, 0, "ended", outputs)
        self.exchange = Exchange(f"{self.uri}/exchange")
        self.exchange.publish("a/b", {"x": [1, 2.5, "t", b"b"], (1, 2): {3}, "d": frozenset([(1, "a")])})
        self.objects = self.read(self.folder)
        self.noted = self.read(self.batch)
        self.value = self.read(self.exchange.uri)["a/b"]
        self.index = sha256(self.value)

    def read(self, uri):
        with open_store(uri) as store:
            return {info.name: bytes(store.read(info.name)) for info in store.list()}

    def copy(self, changed, of=None):
        """A folder of the same name in another store, with one object changed; its URI."""
        name = (of or self.folder).rpartition("/")[2]
        uri = f"memory://fuzz-{uuid.uuid4().hex}/{name}"
        with open_store(uri) as store:
            for place, data in {**(self.noted if of else self.objects), **changed}.items():
                store.create(place, data)
        return uri


@pytest.fixture(
    scope="module", params=[None, "a key that is long enough for this"], ids=["unsigned", "signed"]
)
def house(request):
    with pytest.MonkeyPatch.context() as patch:
        if request.param:
            patch.setenv("RUNWIDE_SIGNING_KEY", request.param)
        yield House()


# --- strategies

DAMAGES = st.lists(
    st.tuples(
        st.sampled_from(["flip", "cut", "double", "drop", "splice", "extreme"]),
        st.integers(0, 2**31),
        st.integers(0, 2**31),
    ),
    min_size=1,
    max_size=4,
)
SCALARS = [*EXTREMES, -1, 10**400, 0.5, -0.0, 1e308, "", "a" * 5000, "\ud800", "0" * 64, None, True, False]
JSON = st.recursive(
    st.sampled_from(SCALARS) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=8,
)
WEIRD = JSON | st.integers(100, 250).map(lambda depth: json.loads("[" * depth + "]" * depth))


def damaged(data, damages, others=()):
    """Bytes with a few damages; those early in an object, where its header is, are as likely as all others."""
    data = bytearray(data)
    for kind, where, what in damages:
        size = len(data) or 1
        place = where % min(size, 128) if where & 1 else where % size
        if kind == "flip" and data:
            data[place] ^= 1 << what % 8
        elif kind == "cut":
            del data[place:]
        elif kind == "double":
            data[place:place] = data[place : place + what % 200]
        elif kind == "drop":
            del data[place : place + what % 200]
        elif kind == "splice" and others:
            other = others[what % len(others)]
            data[place:] = other[place % (len(other) or 1) :]
        elif kind == "extreme":
            width = (2, 4, 8)[what % 3]
            number = EXTREMES[what // 3 % len(EXTREMES)] % (1 << 8 * width)
            data[place - place % 2 : place - place % 2 + width] = number.to_bytes(width, "little")
    return bytes(data)


def meta_of(data):
    head = pack.read_head(data)
    return {"job": head.job, "note": head.note, "slot": head.slot}


def with_meta(data, meta):
    """A pack with another meta section, and the digest that belongs to it."""
    size, count = struct.unpack_from("<II", data, 12)
    start = pack.SMALLEST + size
    tail = meta + data[start : start + 64 * count]
    tail += bytes(-(pack.SMALLEST + len(tail)) % 64)
    fixed = bytearray(data[: pack.SMALLEST])
    fixed[12:16] = struct.pack("<I", len(meta))
    return sealed(bytes(fixed) + tail + data[pack.head_size(data) :])


def sealed(data):
    """A pack whose head has the digest that it should, if it has a head at all."""
    data = bytearray(data)
    try:
        size = pack.head_size(data)
    except FrameCorrupt:
        return bytes(data)
    digest = hashlib.sha256(data[: pack._FIXED.size] + data[pack.SMALLEST : size]).digest()
    data[pack._FIXED.size : pack._FIXED.size + 32] = digest
    return bytes(data)


def replaced(value, path, other):
    """A record with one of its fields replaced, however deep it lies."""
    if not isinstance(value, (dict, list)) or not value or not path:
        return other
    keys = sorted(value) if isinstance(value, dict) else list(range(len(value)))
    key = keys[path[0] % len(keys)]
    copy = dict(value) if isinstance(value, dict) else list(value)
    if len(path) == 1 and path[0] & 64:
        del copy[key]
    else:
        copy[key] = replaced(copy[key], path[1:], other)
    return copy


OTHERS = [None, True, -1, 2**64, 10**400, 0.5, "inf", "x", [], {}, [["a"]], {"a": 1}]


def places_in(value):
    """The path, as `replaced` takes it, of each part of a record."""
    if isinstance(value, (dict, list)):
        parts = [value[key] for key in sorted(value)] if isinstance(value, dict) else value
        for number, part in enumerate(parts):
            yield [number]
            yield from ([number, *path] for path in places_in(part))


PATHS = st.lists(st.integers(0, 127), min_size=1, max_size=5)


def spelt(about):
    return json.dumps(about, sort_keys=True, separators=(",", ":")).encode() + b"\n"


# --- what reads


def read_all(house, uri):
    """Every reader of a job, of a folder as it is."""
    folder = open_inside(uri)
    data = folder.read(manifest.JOB)
    reference = f"{uri}/{manifest.JOB}#sha256={sha256(data)}"
    named(manifest.found_job, uri)
    found = named(manifest.read_job, reference)
    named(load, uri, on_error="return")
    named(status, reference)
    named(last_record, reference)
    named(report, reference)
    if isinstance(found, RunwideError):
        return
    read_chunks(folder, found)
    named(manifest.found_result, found, manifest.RESULT)
    with Progress(reference) as progress:
        named(progress.look)
        named(progress.by_shard)


def read_records(uri, house, name):
    """The reader of one record in a folder."""
    folder = open_inside(uri)
    digest = sha256(folder.read(name))
    if name == manifest.JOB:
        named(load, uri, on_error="return")
        for found in (
            named(manifest.found_job, uri),
            named(manifest.read_job, f"{uri}/{name}#sha256={digest}"),
        ):
            if not isinstance(found, RunwideError):
                [found.items_of(index) for index in range(found.shards)]
    elif name.startswith("runs/"):
        recorded = named(last_record, f"{uri}/{manifest.JOB}#{house.job.partition('#')[2]}")
        if not isinstance(recorded, RunwideError):
            named(recorded.engine)
    elif name == manifest.RESULT:
        named(manifest.found_result, replace(house.about, uri=uri), name)
        named(manifest.read_result, parse(f"{uri}/{name}#sha256={digest}"))
    else:
        for promised in (None, digest):
            named(manifest.read_shard, folder, house.about, int(name.split("/")[1]), promised)


def read_chunks(folder, job):
    """Every reader of what the shards of a job have stored."""
    for index in range(job.shards):
        named(manifest.read_shard, folder, job, index)
        log = ChunkLog(folder, job, index)
        named(log.resume)
        log.manifest()


def recorded(uri):
    """Every reader of a batch."""
    for attempts in Records(open_store(uri)).attempts().values():
        for kinds in attempts.values():
            for kind, noted in kinds.items():
                if kind == "submitted":
                    named(noted.engine)
                    named(noted.logs)
                elif kind == "ended":
                    named(noted.outputs, [uri, "memory://x"])


# --- properties


@fuzz(st.integers(0, 99), DAMAGES)
def test_damaged_objects_of_a_job(house, which, damages):
    name = sorted(house.objects)[which % len(house.objects)]
    others = list(house.objects.values())
    data = damaged(house.objects[name], damages, others)
    read_all(house, house.copy({name: sealed(data) if name.endswith(".pack") else data}))


@fuzz(st.integers(0, 99), PATHS, WEIRD)
def test_records_with_another_field(house, which, path, other):
    names = [name for name in sorted(house.objects) if name.endswith(".json")]
    name = names[which % len(names)]
    data = spelt(replaced(json.loads(house.objects[name]), path, other))
    uri = house.copy({name: data})
    if name == manifest.JOB:  # all others belong to the job by its digest
        digest = sha256(data)
        changed = {
            one: spelt({**about, "owner": digest} if "owner" in about else about)
            for one in names
            if one != name and isinstance(about := json.loads(house.objects[one]), dict)
        }
        uri = house.copy({name: data, **changed})
    read_all(house, uri)


@fuzz(st.integers(0, 99), PATHS, WEIRD)
def test_notes_of_a_chunk_with_another_field(house, which, path, other):
    names = [name for name in sorted(house.objects) if "/chunks/" in name]
    name = names[which % len(names)]
    data = house.objects[name]
    meta = spelt(replaced(meta_of(data), path, other))
    read_chunks(open_inside(house.copy({name: with_meta(data, meta)})), house.about)


def test_notes_of_a_chunk_with_each_field_replaced(house):
    name = max(name for name in house.objects if "/chunks/" in name)  # which has a failure
    data = house.objects[name]
    reference = house.job.partition("#")[2]
    for path in places_in(meta_of(data)):
        for other in OTHERS:
            meta = spelt(replaced(meta_of(data), path, other)).replace(b'"inf"', b"1e999")
            uri = house.copy({name: with_meta(data, meta)})
            read_chunks(open_inside(uri), house.about)
            with Progress(f"{uri}/{manifest.JOB}#{reference}") as progress:
                named(progress.look)


def test_records_with_each_field_replaced(house):
    for name in sorted(house.objects):
        if name.endswith(".json"):
            about = json.loads(house.objects[name])
            for path in places_in(about):
                for other in OTHERS:
                    data = spelt(replaced(about, path, other)).replace(b'"inf"', b"1e999")
                    read_records(house.copy({name: data}), house, name)


@fuzz(st.integers(0, 99), DAMAGES)
def test_damaged_packs(house, which, damages):
    names = [name for name in sorted(house.objects) if name.endswith(".pack")]
    data = sealed(damaged(house.objects[names[which % len(names)]], damages, list(house.objects.values())))
    named(pack.head_size, data)
    for vouched in (False, True):
        head = named(pack.read_head, data, vouched=vouched)
        if isinstance(head, pack.Head):
            named(pack.verify_values, data, head)
    uri = house.copy({names[0]: data})
    named(read_chunk, open_inside(uri), house.about, names[0])


@fuzz(st.integers(0, 99), DAMAGES, PATHS, WEIRD)
def test_records_of_a_batch(house, which, damages, path, other):
    name = sorted(house.noted)[which % len(house.noted)]
    data = house.noted[name]
    changed = damaged(data, damages, list(house.noted.values()))
    uri = house.copy({name: changed}, of=house.batch)
    recorded(uri)
    about = {**json.loads(data), "owner": uri}
    uri = house.copy({name: spelt({**about, "about": replaced(about["about"], path, other)})}, of=house.batch)
    recorded(uri)
    named(records.taken, spelt(replaced(about, path, other)), "attempt", owner=None, place=name, uri=uri)


@fuzz(DAMAGES, st.booleans())
def test_values_of_an_exchange(house, damages, inside):
    """With the digest that belongs to them, which the attacker can make."""
    data = damaged(house.value[72 * inside :], damages, list(house.objects.values()))
    if inside:
        data = house.value[:8] + bytes.fromhex(sha256(data)) + bytes(32) + data
    theirs = Exchange(f"memory://fuzz-{uuid.uuid4().hex}/exchange")
    theirs._context = house.exchange._context  # as if it lay in the same place
    with open_store(theirs.uri) as store:
        store.create("a/b", data)
    named(theirs.get, "a/b")
    named(theirs.collect, "*")


@fuzz(DAMAGES, st.sampled_from([0, 1, 2, 3]))
def test_frames(house, damages, flags):
    data = bytearray(damaged(house.value[72:], damages))
    data[10:12] = struct.pack("<H", flags)
    for digest in (sha256(data), house.index):
        try:
            codec.decode(data, digest=digest, context=house.exchange._context("a/b"), plain=True)
        except (MemoryError, RecursionError):
            raise
        except Exception:  # whose text an exchange puts into a FrameCorrupt
            pass


KNOWN = [bytes([code]) for code in sorted(plain._Plain.dispatch)]
PLACES = (
    "builtins.range", "builtins.slice", "builtins.set", "builtins.eval", "os.system", "posix.system", "uuid.UUID",
    "uuid.SafeUUID", "collections.deque", "collections.OrderedDict", "collections.Counter", "decimal.Decimal",
    "datetime.datetime", "datetime.timezone", "datetime.timedelta", "numpy.dtype", "numpy.ndarray", "numpy.load",
    "numpy._core.multiarray._reconstruct", "numpy._core.multiarray.scalar", "numpy._core.numeric._frombuffer",
)  # fmt: skip
CRATER = "crater-of-the-fuzz"
NO_OBJECTS = b"(K\x03\x8c\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00t"
PARTS = [
    b")", b"(", b"K\x01\x85", b"K\x00K\x01\x86", b"\x8c\x02f8\x89\x88\x87", b"\x8c\x02O8\x89\x88\x87R", b"K\x01", b"N",
    b"tR", b"tb", b")R", b"h\x00", b"h\x01", b"h\x02", b"J\xff\xff\xff\x7f", b"\x8a\x08" + b"\xff" * 7 + b"\x7f", b"\x97",
    b"C\x08AAAAAAAA", b"]", b"}", b"\x8f", b"(K\x01K\x01\x85h\x00\x89C\x08AAAAAAAAtb", NO_OBJECTS + b"b", b"\x94",
    b"h\x01K\x00\x85C\x01b\x87R\x94", f"\x8c{chr(len(CRATER) + 6)}touch {CRATER}\x85R".encode("latin-1"),
]  # fmt: skip


def name(place):
    parts = [part.encode() for part in place.rsplit(".", 1)]
    return b"".join(b"\x8c" + bytes([len(part)]) + part for part in parts) + b"\x93\x94"


OPCODES = st.sampled_from([bytes([code]) for code in range(256)])
ANY = st.tuples(OPCODES, st.binary(max_size=9)).map(b"".join)
STREAMS = st.lists(
    st.sampled_from([*map(name, PLACES), *PARTS, *KNOWN]) | ANY, max_size=30
).map(lambda parts: b"\x80\x05" + b"".join(parts) + b".")  # fmt: skip


@fuzz(STREAMS | st.binary(max_size=100))
def test_pickles_of_plain_data(house, stream):
    try:
        plain.loads(stream, buffers=[bytearray(64), b"x" * 8])
    except (MemoryError, RecursionError):
        raise
    except Exception:  # named by who calls
        pass
    assert not Path(CRATER).exists()


TEXT = b'{"a": [1, "b", null, {"c": 1e5}]}'


@fuzz(st.binary(max_size=200) | WEIRD.map(spelt) | DAMAGES.map(lambda damages: damaged(TEXT, damages)))
def test_json_of_any_kind(house, data):
    for text in (data, data.decode(errors="replace"), data.decode(errors="surrogateescape")):
        for finite in (False, True):
            with suppress(ValueError):
                json_of(text, finite=finite)
    named(json_value, data.decode(errors="replace"), "--x")
    named(unpacked, data, "--x")
    named(unpacked, b"z:" + data, "--x")
    redacted_json(data.decode(errors="replace"))
    Reader().read(data)
    for kind in records.MOST:
        named(records.taken, data, kind, owner="o", place="p", uri="u")


@fuzz(PATHS, WEIRD, st.integers(0, 99))
def test_events(house, path, other, which):
    name = next(name for name in sorted(house.objects) if "/events." in name)
    lines = house.objects[name].splitlines()
    lines[which % len(lines)] = spelt(replaced(json.loads(lines[which % len(lines)]), path, other)).strip()
    reader = Reader()
    reader.read(b"\n".join(lines).replace(b"1e+308", b"1e999"))
    read_all(house, house.copy({name: b"\n".join(lines)}))


# --- extremes, one by one


def extremes(data, places):
    """The bytes with each number at each of the places."""
    for place, form in places:
        for number in EXTREMES:
            changed = bytearray(data)
            struct.pack_into(form, changed, place, number % (1 << 8 * struct.calcsize(form)))
            yield changed


def test_extremes_in_the_head_of_a_pack(house):
    place = next(place for place in house.objects if "/chunks/" in place)
    for data in extremes(house.objects[place], [(12, "<I"), (16, "<I"), (20, "<I"), (8, "<H"), (10, "<H")]):
        named(pack.read_head, sealed(data))
        read_chunks(open_inside(house.copy({place: sealed(data)})), house.about)


@pytest.mark.parametrize("flags", [0, 1])
def test_extremes_in_the_header_of_a_value(house, flags):
    places = [(12, "<I"), (16, "<I"), (24, "<Q"), (32, "<Q"), (40, "<Q")]
    for data in extremes(house.value[72:], places):
        data[10] = flags
        found = named(codec.decode, data, digest=sha256(data), context="another", plain=True)
        assert isinstance(found, RunwideError)


@pytest.mark.parametrize("size", [1 << 36, 1 << 50, 1 << 63, 1 << 64])
def test_a_compressed_value_takes_no_more_than_it_can_hold(size):
    zstandard = pytest.importorskip("zstandard")
    small = zstandard.ZstdCompressor().compress(bytes(1000))
    with pytest.raises(FrameCorrupt, match="promises"):
        buffers.expanded(memoryview(small), size)


def test_zeros_are_compressed_as_far_as_zstd_goes_and_expanded():
    zstandard = pytest.importorskip("zstandard")
    content = bytes(64 << 20)
    small = zstandard.ZstdCompressor(level=19).compress(content)
    assert buffers.expanded(memoryview(small), len(content)) == content


def test_values_of_a_pack_cannot_share_their_bytes():
    frame = codec.encode(b"x" * 100_000, context="c")
    packed = pack.build([pack.Member(n, frame) for n in range(3)], job="j", slot="s")
    data = bytearray(b"".join(packed.parts))
    table = packed.head.size - 3 * 64
    for number in range(3):
        struct.pack_into("<Q", data, table - table % 64 + 64 * number + 8, 0)
    found = named(pack.read_head, sealed(data))
    assert isinstance(found, FrameCorrupt)


def test_a_file_of_items_that_is_no_json(tmp_path):
    for number, data in enumerate([b"\xff", b"[" * 100_000, b"[1", b"9" * 10_000, b"", b"{}"]):
        path = tmp_path / f"{number}.json"
        path.write_bytes(data)
        assert isinstance(named(items_of_file, path), InputError)
