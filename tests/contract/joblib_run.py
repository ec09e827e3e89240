"""Runs tests of joblib and scikit-learn, as they are installed, with runwide's backend in the place of loky's.

A program of its own, whose path begins with ``joblib_places``: ``joblib_run.py MODULES EXCLUDED [PART PARTS]`` with JSON
lists of names; prints what became of each test as one line of JSON. Of a test with many parameters, only as many are run as
it takes for each value to occur once. With ``PART`` of ``PARTS``, that part of all is run.
"""

from __future__ import annotations

import inspect
import json
import os
import re
import sys
import threading
from collections import defaultdict
from contextlib import nullcontext

import joblib
import pytest
from joblib.parallel import BACKENDS

import runwide

OURS = ("loky", "back_compat_backend")  # the second is a subclass of loky's class in joblib's tests
OPTIONS = ["-q", "--tb=native", "-c", os.devnull, "-o", "faulthandler_timeout=120"]


class Verdicts:
    """What became of each test, by its name."""

    def __init__(self, excluded: list[str], part: list[int]) -> None:
        self._excluded, self._part, self._used = excluded, part, 0
        self.passed, self.failed, self.skipped, self.unknown, self.seconds = [], {}, {}, [], {}
        self.on_runwide = []

    def pytest_collection_modifyitems(self, items):
        known = {name for item in items for name in (item.originalname, item.name)}
        self.unknown = sorted(set(self._excluded) - known)
        chosen = [item for item in items if concerned(item) and not known_as(item) & set(self._excluded)]
        items[:] = slice_of(chosen, *self._part) if self._part else few(chosen)

    def pytest_runtest_setup(self):
        self._used = BACKENDS["loky"].configured

    def pytest_runtest_logreport(self, report):
        name = report.nodeid.rpartition("::")[2]
        self.seconds[name] = round(self.seconds.get(name, 0) + report.duration, 2)
        if report.failed:
            self.failed[name] = report.longreprtext
        elif report.skipped:
            self.skipped[name] = (
                report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
            )
        elif report.when == "call":
            self.passed.append(name)
            if BACKENDS["loky"].configured > self._used:
                self.on_runwide.append(name)


def known_as(item: pytest.Function) -> set[str]:
    """The names by which a test is excluded: with and without its parameters."""
    return {item.originalname, item.name}


def concerned(item: pytest.Function) -> bool:
    """Whether a test runs something in parallel, and, where it names backends, on the one that has loky's name."""
    if not re.search("n_jobs|Parallel|backend", inspect.getsource(item.function)):
        return False
    backends = [value for name, value in parameters(item).items() if "backend" in name]
    return not backends or any(isinstance(value, str) and value in OURS for value in backends)


def parameters(item: pytest.Function) -> dict[str, object]:
    return item.callspec.params if hasattr(item, "callspec") else {}


def slice_of(items: list[pytest.Function], part: int, parts: int) -> list[pytest.Function]:
    """One of so many parts, each of neighbours: they often find each other's workers."""
    return items[part * len(items) // parts : (part + 1) * len(items) // parts]


def few(items: list[pytest.Function]) -> list[pytest.Function]:
    """Leave out more workers than two, and what differs from what is chosen by the combination of its parameters only."""
    seen, chosen = defaultdict(set), []
    for item in items:
        if int(parameters(item).get("n_jobs") or 1) > 2:
            continue
        values = {(name, repr(value)) for name, value in parameters(item).items()}
        if not values or values - seen[item.function]:
            seen[item.function] |= values
            chosen.append(item)
    return chosen


def main() -> None:
    """Run the modules that are named."""
    modules, excluded = json.loads(sys.argv[1]), json.loads(sys.argv[2])
    verdicts = Verdicts(excluded, [int(number) for number in sys.argv[3:]])
    # By name, so that also those estimators run on it that prefer threads.
    with joblib.parallel_config("loky") if modules[0].startswith("sklearn") else nullcontext():
        pytest.main([*OPTIONS, "--pyargs", *modules], plugins=[verdicts])
    answer = {name: value for name, value in vars(verdicts).items() if not name.startswith("_")}
    runwide.shutdown()
    print(json.dumps({**answer, "threads": [thread.name for thread in threading.enumerate()]}))


if __name__ == "__main__":
    main()
