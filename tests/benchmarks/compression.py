"""Measure for which values and connections zstd saves time, from its speed and ratio.

A byte of a value is written once and read once. Without zstd that takes 2 / B seconds, where B is the bytes a second that
the connection gives each core. With zstd it takes 1 / C + 1 / D for compressing and decompressing, and 2 r / B for the
compressed bytes. So zstd saves time if B < 2 (1 - r) / (1 / C + 1 / D); on a given connection, for values with a ratio
below some r.

C, D and r are measured with the code that values pass through, in CPU seconds, which do not include waiting.

    python tests/benchmarks/compression.py             # prints the tables
    python tests/benchmarks/compression.py --write     # writes them into docs/spill.md
"""

from __future__ import annotations

import argparse
import json
import os
import pickle
import platform
import statistics
import tempfile
import time
import zlib
from pathlib import Path

import numpy as np
import zstandard

os.environ["RUNWIDE_COMPRESSION"] = "zstd"

from runwide.store import buffers
from runwide.store.base import open_store
from runwide.store.codec import encode
from runwide.testing.emulator import fake_gcs_server

MIB = 1 << 20
SIZE = 16 * MIB
ROUNDS = 5
NETWORKS = {f"a network of {gbit:g} Gbit/s for each core": gbit * 125e6 for gbit in (0.25, 0.5, 1, 1.5, 2, 4)}
PAGE = Path(__file__).parents[2] / "docs" / "spill.md"
MARKS = "<!-- written by tests/benchmarks/compression.py -->", "<!-- end of compression.py -->"


def kinds():
    """Return typical values of programs, by name."""
    rng = np.random.default_rng(1)
    count = SIZE // 8
    records = [
        {
            "id": n,
            "name": f"customer {n % 977}",
            "city": ["Lille", "Lyon", "Paris"][n % 3],
            "total": n * 7 % 1000 / 10,
        }
        for n in range(SIZE // 90)
    ]
    yield "float64, random", rng.random(count)
    yield "float64, two decimals", np.round(rng.normal(20, 5, count), 2)
    yield "float32 kept as float64", rng.random(count).astype(np.float32).astype(np.float64)
    yield "int64 below 1,000", rng.integers(0, 1000, count)
    yield "float64, one in 20 not zero", np.where(rng.random(count) < 0.05, rng.random(count), 0.0)
    yield "a list of dicts", records
    yield "JSON text", json.dumps(records)
    yield (
        "zlib's output, as in PNG and Parquet",
        zlib.compress(pickle.dumps(rng.integers(0, 1000, 2 * count)), 1)[:SIZE],
    )


def floats(bits):
    """Return random numbers of so many significant bits, like measurements; fewer bits compress better."""
    found = np.random.default_rng(2).random(SIZE // 8)
    return (found.view(np.uint64) & ~np.uint64((1 << (52 - bits)) - 1)).view(np.float64)


def seconds(call):
    """Return the CPU seconds of a call, the median of several."""
    found = []
    for _ in range(ROUNDS):
        began = time.process_time()
        call()
        found.append(time.process_time() - began)
    return statistics.median(found)


def measured(value):
    """Return the ratio, the bytes a second of compressing and decompressing, and whether the code would compress it."""
    data = plain(value)
    size = len(data)
    chosen = buffers.compressed([data], size) is not None
    small = zstandard.ZstdCompressor(level=buffers._LEVEL).compress(data)
    up = seconds(lambda: zstandard.ZstdCompressor(level=buffers._LEVEL).compress(data))
    down = seconds(lambda: buffers.expanded(memoryview(small), size))
    return len(small) / size, size / up, size / down, chosen


def plain(value):
    """Return the value as one frame that is not compressed."""
    os.environ["RUNWIDE_COMPRESSION"] = "none"
    frame = encode(value, context="c")
    os.environ["RUNWIDE_COMPRESSION"] = "zstd"
    return b"".join(frame.parts)


def pays_below(ratio, up, down):
    """Return the bytes a second for each core below which compressing saves time."""
    return 2 * (1 - ratio) / (1 / up + 1 / down)


def table_of_kinds():
    lines = [
        "| value | shrinks to | compressed at MB/s | decompressed at MB/s | pays below, for each core | runwide does it |",
        "|---|--:|--:|--:|--:|---|",
    ]
    for name, value in kinds():
        ratio, up, down, chosen = measured(value)
        limit = pays_below(ratio, up, down)
        limit = f"{limit / 1e6:,.0f} MB/s" if ratio < 1 else "never"
        lines.append(
            f"| {name} | {ratio:.0%} | {up / 1e6:,.0f} | {down / 1e6:,.0f} | {limit} | {'yes' if chosen else 'no'} |"
        )
    return lines


def table_of_ways(ways):
    """Return for each connection the ratio at which compressing takes as long; it is searched, since speed depends on it."""
    found = [measured(floats(bits)) for bits in (2, 8, 16, 24, 32, 40, 44, 48)]
    ratios = [ratio for ratio, *_ in found]
    limits = [pays_below(*one[:3]) for one in found]
    lines = [
        "| the way to the store and back | MB/s for each core | pays for values that shrink to less than |",
        "|---|--:|--:|",
    ]
    for name, speed in ways.items():
        even = float(np.interp(-speed, [-limit for limit in limits], ratios))
        text = (
            f"{even:.0%}"
            if ratios[0] < even < ratios[-1]
            else "hardly any"
            if even <= ratios[0]
            else "nearly all"
        )
        lines.append(f"| {name} | {speed / 1e6:,.0f} | {text} |")
    limit, even = buffers._PAYS, float(np.interp(buffers._PAYS, ratios, limits)) / 1e6
    return [
        *lines,
        "",
        f"At runwide's limit of {limit:.0%}, nothing is gained or lost at {even:,.0f} MB/s for each core.",
    ]


def store_speeds():
    """Return the bytes a second to a store and back in one thread."""
    with fake_gcs_server() as emulator, tempfile.TemporaryDirectory() as folder:
        os.environ["STORAGE_EMULATOR_HOST"] = emulator.url
        yield "a folder on this machine's disk (its cache)", store_speed(open_store(folder))
        yield "fake-gcs-server on this machine", store_speed(open_store("gs://bucket/speed"))


def store_speed(store):
    data = os.urandom(SIZE)
    store.create("first", b"x")
    found = []
    for number in range(ROUNDS):
        began = time.perf_counter()
        store.create(str(number), data)
        store.read(str(number))
        found.append(2 * SIZE / (time.perf_counter() - began))
    return statistics.median(found)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help="write the tables into docs/spill.md")
    options = parser.parse_args()
    about = (
        f"{platform.machine()}, Python {platform.python_version()}, zstandard {zstandard.__version__}, level "
        f"{buffers._LEVEL}; values of 16 MiB, CPU seconds for zstd and elapsed ones for stores, medians of {ROUNDS}."
    )
    found = "\n".join([about, "", *table_of_kinds(), "", *table_of_ways(NETWORKS | dict(store_speeds()))])
    if options.write:
        text = PAGE.read_text()
        start, end = text.index(MARKS[0]) + len(MARKS[0]), text.index(MARKS[1])
        PAGE.write_text(f"{text[:start]}\n{found}\n{text[end:]}")
    print(found)


if __name__ == "__main__":
    main()
