"""Run tests of the installed joblib and scikit-learn with runwide's backend instead of loky's.

A separate program, whose path begins with ``joblib_places``: ``joblib_run.py MODULES EXCLUDED [PART PARTS]`` with JSON lists
of names. It prints the outcome of each test as one line of JSON. A test with many parameters runs with as few combinations
as it takes for each value to occur once. With ``PART`` of ``PARTS``, only that part of all tests runs.
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
    """The outcome of each test, by its name."""

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
    """Return the names by which a test can be excluded: with and without its parameters."""
    return {item.originalname, item.name}


def concerned(item: pytest.Function) -> bool:
    """Return whether a test uses parallel workers and, if it names backends, the one called loky."""
    if not re.search("n_jobs|Parallel|backend", inspect.getsource(item.function)):
        return False
    backends = [value for name, value in parameters(item).items() if "backend" in name]
    return not backends or any(isinstance(value, str) and value in OURS for value in backends)


def parameters(item: pytest.Function) -> dict[str, object]:
    return item.callspec.params if hasattr(item, "callspec") else {}


def slice_of(items: list[pytest.Function], part: int, parts: int) -> list[pytest.Function]:
    """Return one of several parts; each has neighbouring tests, which can often use the same workers."""
    return items[part * len(items) // parts : (part + 1) * len(items) // parts]


def few(items: list[pytest.Function]) -> list[pytest.Function]:
    """Leave out tests with more than two workers, and combinations of parameters whose values all occur in other ones."""
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
    """Run the modules named on the command line."""
    modules, excluded = json.loads(sys.argv[1]), json.loads(sys.argv[2])
    verdicts = Verdicts(excluded, [int(number) for number in sys.argv[3:]])
    # By name, so that estimators that prefer threads use it, too.
    with joblib.parallel_config("loky") if modules[0].startswith("sklearn") else nullcontext():
        pytest.main([*OPTIONS, "--pyargs", *modules], plugins=[verdicts])
    answer = {name: value for name, value in vars(verdicts).items() if not name.startswith("_")}
    runwide.shutdown()
    print(json.dumps({**answer, "threads": [thread.name for thread in threading.enumerate()]}))


if __name__ == "__main__":
    main()
