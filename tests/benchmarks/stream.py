"""A map of 10^6 small items over 100 components, its results taken as they are stored: requests, memory, the first result.

The components are processes of ``runwide shard`` on this machine, two at a time, and the bucket is an emulator, which logs
each request of all of them: of the scatter step, of the components, and of the client. The client runs the loop that its
users write, in a process of its own, whose resident memory is read at each tenth of the results.

    python tests/benchmarks/stream.py            # prints the figures
    python tests/benchmarks/stream.py --ordered  # in the order of the items
    python tests/benchmarks/stream.py --items 2000 --shards 4
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

AT_ONCE = 2
MIB = 1 << 20


class Processes:
    """An engine that runs shards as processes here, two at a time."""

    def submit(self, pipeline, arguments=None, **options):
        return Running(arguments)

    def examine(self, spec, arguments, *, stores=(), images=()):
        pass

    def about(self):
        return {"engine": "processes"}


class Running:
    """The run of some shards."""

    outlives_client, id, logs = False, "run", ""

    def __init__(self, arguments):
        self.arguments = arguments
        self.began = time.time()
        self._pool = ThreadPoolExecutor(AT_ONCE)
        self._futures = [self._pool.submit(self._shard, index) for index in arguments["shards"]]
        self._ended = threading.Event()
        threading.Thread(target=self._finish, daemon=True).start()

    def _shard(self, index):
        command = [str(Path(sys.executable).parent / "runwide"), "shard", self.arguments["job"], index]
        command += ["--run-key", self.arguments["run_key"], "--workers", "1"]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    def _finish(self):
        self._pool.shutdown(wait=True)
        self._ended.set()

    def state(self):
        from runwide_components import RunState

        return RunState.SUCCEEDED if self._ended.is_set() else RunState.RUNNING

    def wait(self, timeout=None):
        if not self._ended.wait(timeout):
            raise TimeoutError
        return {"Output": [future.result() for future in self._futures]}

    def argument(self, name):
        return self.arguments.get(name)

    def cancel(self):
        for future in self._futures:
            future.cancel()

    def leave(self):
        self._ended.wait()


def half(number):
    return number / 2


def resident():
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def client(store, items, shards, *, ordered):
    """Take the results in a loop; print what was seen as one line of JSON."""
    from runwide_components import Components

    place = Components(shards, store=store, engine=Processes(), image="none", progress=False)
    began = time.time()
    results = place.stream(half, range(items), ordered=ordered)
    about = {"submitted": time.time() - began, "first": 0.0, "memory": [], "results": 0, "sum": 0.0}
    tenth = max(1, items // 10)
    for value in results:
        if not about["results"]:
            about["first"] = time.time()
        about["results"] += 1
        about["sum"] += value
        if about["results"] % tenth == 0:
            about["memory"].append(resident())
    about["seconds"] = time.time() - began
    about["job"] = results.job
    print(json.dumps(about))


def first_stored(job):
    """Return the time at which the first chunk of a job was made, from the notes of all shards."""
    from runwide.job.reference import parse
    from runwide.store import pack
    from runwide.store.base import open_inside

    with open_inside(parse(job).folder) as store:
        names = [one.name for one in store.list("shards/") if one.name.endswith(".pack")]
        return min(pack.read_head(store.read(name)).note["time"] for name in names)


def kind_of(request):
    if request.method != "GET":
        return "writes"
    return "listings" if "/o?" in request.path else "reads"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--shards", type=int, default=100)
    parser.add_argument("--ordered", action="store_true")
    parser.add_argument("--client", metavar="STORE", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.client:
        client(given.client, given.items, given.shards, ordered=given.ordered)
        return
    from runwide.testing.emulator import fake_gcs_server

    with fake_gcs_server() as server:
        os.environ.update(
            STORAGE_EMULATOR_HOST=server.url, DISABLE_GCS_PYTHON_CLIENT_OTEL_BUCKET_METADATA="true",
            RUNWIDE_LOG_LEVEL="error",
        )  # fmt: skip
        words = ["--items", str(given.items), "--shards", str(given.shards)]
        words += ["--ordered"] if given.ordered else []
        command = [sys.executable, __file__, "--client", f"gs://{server.bucket}/runs", *words]
        ran = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        about = json.loads(ran.stdout.splitlines()[-1])
        counts = Counter(map(kind_of, server.requests()))
        waited = about["first"] - first_stored(about["job"])
    assert about["results"] == given.items
    assert about["sum"] == sum(range(given.items)) / 2
    memory = [round(one / MIB) for one in about["memory"]]
    print(
        f"items      {given.items:,} over {given.shards} components, {'in order' if given.ordered else 'as they come'}"
    )
    print(
        f"requests   {sum(counts.values()):,} in all: {', '.join(f'{n:,} {kind}' for kind, n in sorted(counts.items()))}"
    )
    print(f"first      {waited:.1f} s after it was stored")
    print(f"memory     {', '.join(map(str, memory))} MiB of the client at each tenth of the results")
    print(
        f"seconds    {about['seconds']:.0f}, of which {about['submitted']:.0f} until the components were started"
    )


if __name__ == "__main__":
    main()
