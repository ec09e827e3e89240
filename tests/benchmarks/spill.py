"""Write arrays to a bucket and read them back with runwide and its peers, in one run on one emulator.

Each way in its own process: arrays of float64 are written, then read back into arrays and compared. Peak memory is what
a direction needed above the process at rest with the arrays to be written. Requests are those that the emulator logged.

    python tests/benchmarks/spill.py             # prints the table; needs gcsfs beside runwide's own dependencies
    python tests/benchmarks/spill.py --write     # writes it into docs/spill.md

The peers are used as their documentation says: google-cloud-storage with `upload_from_string` and `download_as_bytes`, one
after another and in 16 and 32 threads; its transfer_manager with `upload_many` and `download_many`, 8 threads; gcsfs with
`pipe` and `cat`, and once more with a SHA-256 of each array that is compared with the first one. runwide has two rows:
`objects` writes one object for each array, as the peers do; `packs` is what a job does.
"""

from __future__ import annotations

import argparse
import ctypes
import hashlib
import io
import json
import os
import platform
import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path
from statistics import median

import numpy as np

KIB, MIB = 1 << 10, 1 << 20
WORKLOADS = {"2,000 x 4 KiB": (2000, 4 * KIB), "200 x 1 MiB": (200, MIB), "4 x 256 MiB": (4, 256 * MIB)}
WAYS = [
    "runwide packs",
    "runwide objects",
    "storage, serial",
    "storage, 16 threads",
    "storage, 32 threads",
    "transfer_manager",
    "gcsfs",
    "gcsfs, SHA-256",
]
BUCKET = "bucket"
PAGE = Path(__file__).parents[2] / "docs" / "spill.md"
MARKS = "<!-- written by tests/benchmarks/spill.py -->", "<!-- end -->"


class Packs:
    """As a job does: frames in packs of up to 64 MiB, each verified before it is unpickled."""

    def __init__(self, folder):
        from runwide.store.base import open_store

        self.store = open_store(f"gs://{BUCKET}/{folder}")
        self.names = []

    def up(self, arrays):
        from runwide.job.flow import Behind
        from runwide.store import pack
        from runwide.store.codec import encode

        members, size = [], 0
        with Behind(threads=4) as behind:
            for index, array in enumerate(arrays):
                members.append(pack.Member(index, encode(array, context=str(index))))
                size += members[-1].value.size
                if size >= 64 * MIB or index + 1 == len(arrays):
                    name = f"{len(self.names)}.pack"
                    built = pack.build(members, job="benchmark", slot=name)
                    self.names.append((name, built.head.digest))
                    behind.submit(self.store.create, name, built.parts)
                    members, size = [], 0

    def down(self):
        from runwide.job.flow import ahead
        from runwide.store import pack
        from runwide.store.codec import decode_verified

        def read(one):
            name, digest = one
            data = self.store.read(name)
            head = pack.read_head(data, job="benchmark", slot=name, digest=digest)
            pack.verify_values(data, head)
            return memoryview(data), head

        return [
            decode_verified(view[entry.offset : entry.stop], context=str(entry.item))
            for view, head in ahead(read, self.names, threads=4)
            for entry in head.entries
        ]


class Objects:
    """One object per array, frames verified before they are unpickled; 16 threads, 4 for large ones."""

    def __init__(self, folder):
        from runwide.store.base import open_store

        self.store = open_store(f"gs://{BUCKET}/{folder}")

    def up(self, arrays):
        from runwide.store.codec import encode

        def one(pair):
            index, array = pair
            frame = encode(array, context=str(index))
            self.store.create(str(index), frame.parts)
            return frame.digest

        self.threads = 16 if arrays[0].nbytes < 16 * MIB else 4
        with ThreadPoolExecutor(self.threads) as pool:
            self.digests = list(pool.map(one, enumerate(arrays)))

    def down(self):
        from runwide.store.codec import decode

        def one(pair):
            index, digest = pair
            return decode(self.store.read(str(index)), digest=digest, context=str(index))

        with ThreadPoolExecutor(self.threads) as pool:
            return list(pool.map(one, enumerate(self.digests)))


class Storage:
    """google-cloud-storage, with a connection pool as wide as its threads."""

    def __init__(self, folder, threads):
        from google.cloud import storage
        from requests.adapters import HTTPAdapter

        client = storage.Client(project="p")
        client._http.mount("http://", HTTPAdapter(pool_maxsize=threads))
        self.bucket, self.folder, self.threads = client.bucket(BUCKET), folder, threads

    def blob(self, index):
        return self.bucket.blob(f"{self.folder}/{index}")

    def each(self, function, values):
        if self.threads == 1:
            return [function(value) for value in values]
        with ThreadPoolExecutor(self.threads) as pool:
            return list(pool.map(function, values))

    def up(self, arrays):
        self.count = len(arrays)
        self.each(
            lambda pair: self.blob(pair[0]).upload_from_string(pair[1].tobytes(), if_generation_match=0),
            list(enumerate(arrays)),
        )

    def down(self):
        return self.each(lambda index: np.frombuffer(self.blob(index).download_as_bytes()), range(self.count))


class TransferManager(Storage):
    """Its own helper for many objects."""

    def up(self, arrays):
        from google.cloud.storage import transfer_manager

        self.count = len(arrays)
        pairs = [(io.BytesIO(array.tobytes()), self.blob(index)) for index, array in enumerate(arrays)]
        done = transfer_manager.upload_many(
            pairs, worker_type=transfer_manager.THREAD, max_workers=8, raise_exception=True
        )
        assert len(done) == len(arrays)

    def down(self):
        from google.cloud.storage import transfer_manager

        pairs = [(self.blob(index), io.BytesIO()) for index in range(self.count)]
        transfer_manager.download_many(
            pairs, worker_type=transfer_manager.THREAD, max_workers=8, raise_exception=True
        )
        return [np.frombuffer(target.getbuffer()) for _, target in pairs]


class Gcsfs:
    """The file system of the pandas and Dask world."""

    def __init__(self, folder):
        import gcsfs

        self.fs = gcsfs.GCSFileSystem(
            project="p",
            token="anon",
            endpoint_url=os.environ["STORAGE_EMULATOR_HOST"],
            use_listings_cache=False,
        )
        self.folder = f"{BUCKET}/{folder}"

    def up(self, arrays):
        self.paths = [f"{self.folder}/{index}" for index in range(len(arrays))]
        self.fs.pipe({path: array.tobytes() for path, array in zip(self.paths, arrays, strict=True)})

    def down(self):
        found = self.fs.cat(self.paths)
        return (
            [np.frombuffer(found[path]) for path in self.paths]
            if isinstance(found, dict)
            else [np.frombuffer(found)]
        )


class CheckedGcsfs(Gcsfs):
    """gcsfs for who must know that the bytes are right: a SHA-256 of each array, as runwide has."""

    def up(self, arrays):
        self.digests = [hashlib.sha256(array).digest() for array in arrays]
        super().up(arrays)

    def down(self):
        found = super().down()
        assert [hashlib.sha256(array).digest() for array in found] == self.digests
        return found


def made(way, folder):
    if way == "runwide packs":
        return Packs(folder)
    if way == "runwide objects":
        return Objects(folder)
    if way == "transfer_manager":
        return TransferManager(folder, 8)
    if way == "gcsfs":
        return Gcsfs(folder)
    if way == "gcsfs, SHA-256":
        return CheckedGcsfs(folder)
    return Storage(folder, {"serial": 1, "16 threads": 16, "32 threads": 32}[way.partition(", ")[2]])


def status(name):
    return int(re.search(rf"{name}:\s+(\d+)", Path("/proc/self/status").read_text())[1]) * KIB


def measured(call):
    Path("/proc/self/clear_refs").write_text("5")  # VmHWM starts anew
    before, started, cpu = status("VmRSS"), time.perf_counter(), time.process_time()
    result = call()
    took = {"seconds": time.perf_counter() - started, "cpu": time.process_time() - cpu}
    return result, took | {"peak": (status("VmHWM") - before) / MIB}


def child(way, folder, count, size):
    """One way, one workload, in this process."""
    rng = np.random.default_rng(1)
    arrays = [rng.random(size // 8) for _ in range(count)]
    made(way, folder + "-warm").up(arrays[:1] if size < MIB else [arrays[0][:1000]])
    this = made(way, folder)
    print("ready", flush=True)
    sys.stdin.readline()
    _, up = measured(lambda: this.up(arrays))
    sums = [float(array.sum()) for array in arrays]
    arrays.clear()
    ctypes.CDLL(None).malloc_trim(
        0
    )  # as in a component that only reads: memory used before would cost nothing again
    print("up", flush=True)
    sys.stdin.readline()
    found, down = measured(this.down)
    right = [float(array.sum()) for array in found] == sums
    print(json.dumps({"up": up, "down": down, "right": right}), flush=True)


def run(way, workload, emulator):
    """Measure one way; a way that fails says how."""
    count, size = WORKLOADS[workload]
    command = [sys.executable, __file__, "--child", way, folder_of(way, workload), str(count), str(size)]
    environment = os.environ | {"STORAGE_EMULATOR_HOST": emulator.url, "RUNWIDE_LOG_LEVEL": "error"}
    environment["GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT"] = (
        "false"  # it would ask by gRPC, which the emulator does not speak
    )
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    ) as process:

        def step(expected):
            line = process.stdout.readline()
            if not line.startswith(expected):
                raise RuntimeError((process.stderr.read().strip().splitlines() or ["no output"])[-1])
            seen = len(emulator.requests())
            if expected != "{":
                process.stdin.write("go\n")
                process.stdin.flush()
            return line, seen

        _, before = step("ready")
        _, middle = step("up")
        line, after = step("{")
    result = json.loads(line)
    result["up"]["requests"], result["down"]["requests"] = middle - before, after - middle
    return result


def row(way, workload, results):
    """The medians of all rounds."""
    count, size = WORKLOADS[workload]
    total = count * size / MIB
    cells = []
    for direction in ("up", "down"):
        one = {name: median(result[direction][name] for result in results) for name in results[0][direction]}
        cells += [
            f"{count / one['seconds']:,.0f}",
            f"{total / one['seconds']:,.0f}",
            f"{one['cpu']:.2f}",
            f"{one['peak']:,.0f}",
            f"{one['requests']:,.0f}",
        ]
    return f"| {way} | " + " | ".join(cells) + " |"


def table(rounds):
    from runwide.testing.emulator import fake_gcs_server

    load = os.getloadavg()[1]
    lines = [
        (
            f"{platform.machine()}, {os.cpu_count()} CPUs, Python {platform.python_version()}, fake-gcs-server on the same "
            f"machine, google-cloud-storage {version('google-cloud-storage')}, gcsfs {version('gcsfs')}; medians of "
            f"{rounds} round(s), every other one in reverse order; load {load:.1f} before it began."
        ),
    ]
    for workload in WORKLOADS:
        lines += [
            "",
            f"**{workload}**",
            "",
            (
                "| way | up: objects/s | MiB/s | CPU s | peak MiB | requests "
                "| down: objects/s | MiB/s | CPU s | peak MiB | requests |"
            ),
            "|---|" + "--:|" * 10,
        ]
        with fake_gcs_server(BUCKET) as emulator:  # a new one each time: it keeps everything in memory
            results = alternating(workload, rounds, emulator)
        lines += [row(way, workload, results[way]) for way in WAYS]
    return "\n".join(lines)


def alternating(workload, rounds, emulator):
    """All ways, round after round, so that what else the machine does meets all of them."""
    results = {way: [] for way in WAYS}
    for number in range(rounds):
        for way in WAYS if number % 2 == 0 else WAYS[::-1]:
            result = run(way, workload, emulator)
            assert result["right"], f"{way} has returned other numbers"
            results[way].append(result)
            clear(way, workload, emulator)
            print(workload, way, json.dumps(result), file=sys.stderr)
    return results


def folder_of(way, workload):
    return re.sub(r"\W+", "-", f"{way}-{workload}")


def clear(way, workload, emulator):
    """Delete what was written: it fills the memory, and is in the way of the next `if_generation_match=0`."""
    os.environ["STORAGE_EMULATOR_HOST"] = emulator.url
    from runwide.store.base import open_store

    for suffix in ("", "-warm"):
        store = open_store(f"gs://{BUCKET}/{folder_of(way, workload)}{suffix}")
        for info in list(store.list()):
            store.delete(info.name)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help="write the table into docs/spill.md")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--child", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        way, folder, count, size = options.child
        child(way, folder, int(count), int(size))
        return
    found = table(options.rounds)
    if options.write:
        text = PAGE.read_text()
        start, end = text.index(MARKS[0]) + len(MARKS[0]), text.index(MARKS[1])
        PAGE.write_text(f"{text[:start]}\n{found}\n{text[end:]}")
    print(found)


if __name__ == "__main__":
    main()
