"""Run one class of the standard library's tests of its pools with runwide's pools instead.

A separate program, since it replaces the pools for the whole process: ``standard_run.py CLASS EXCLUDED`` with a JSON list of
names. It prints the outcome of each test as one line of JSON.
"""

from __future__ import annotations

import concurrent.futures.process
import contextlib
import importlib
import json
import multiprocessing.pool
import os
import re
import signal
import sys
import threading
import time
import unittest
from pathlib import Path

import runwide
from runwide.errors import RemoteTraceback

HERE = str(Path(__file__).resolve().parent)
WORKERS = 4  # one of the tests asks for at least so many
POOL, EXECUTOR = "test._test_multiprocessing", "test.test_concurrent_futures"
PARTS = ("process_pool", "shutdown", "wait", "as_completed", "deadlock", "init")  # since Python 3.12


class ProcessPoolExecutor(runwide.Executor):
    """An executor with the constructor of the standard one, and with the private names that the tests read."""

    def __init__(self, max_workers=None, mp_context=None, initializer=None, initargs=(), **options):
        # runwide starts processes in one way, so the context has no effect; tests check that they end with the executor.
        super().__init__(max_workers, initializer=initializer, initargs=initargs, fresh=True, **options)

    @property
    def _max_workers(self):
        return self.workers

    @property
    def _processes(self):
        return {worker.pid: worker for worker in _started(self)}

    @property
    def _executor_manager_thread(self):
        return self._lease.scheduler.thread

    @property
    def _call_queue(self):
        return _Queue()


class _Queue:
    """A replacement for a queue that does not exist here, with nothing to join."""

    def join_thread(self):
        pass


class Pool(runwide.Pool):
    """A pool with the private name that the tests read: one worker for each place, started or not."""

    @property
    def _pool(self):
        started = _started(self)
        return started + [_Worker(None)] * (self.workers - len(started))


class _Worker:
    """A worker process with the methods of `multiprocessing.Process` that tests call."""

    def __init__(self, pid):
        self.pid = pid

    def is_alive(self):
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, 0)
            return True
        return False

    def join(self):
        while self.is_alive():
            time.sleep(0.01)

    def terminate(self):
        os.kill(self.pid, signal.SIGTERM)


def _started(pool):
    return [_Worker(slot.process.pid) for slot in list(pool._lease.scheduler._workers)]


def take_the_places() -> None:
    """Replace the standard pools by runwide's."""
    concurrent.futures.ProcessPoolExecutor = ProcessPoolExecutor
    concurrent.futures.process.ProcessPoolExecutor = ProcessPoolExecutor
    multiprocessing.Pool = multiprocessing.pool.Pool = Pool
    # The standard name is private, and two classes have it; the tests check only the message.
    RemoteTraceback.tb = property(lambda error: error.traceback)
    concurrent.futures.process._RemoteTraceback = multiprocessing.pool.RemoteTraceback = RemoteTraceback


class Executors:
    """The mixin of the tests of executors."""

    worker_count = WORKERS
    # A class with another name than the standard one: a test skips that class, since it would hang.
    executor_type = type("ProcessPoolExecutor", (ProcessPoolExecutor,), {})

    def get_context(self):
        return multiprocessing.get_context("spawn")


def case(name: str) -> type[unittest.TestCase]:
    """Return the standard library's class of that name, ready to run."""
    module = importlib.import_module(POOL) if name.startswith("_") else _module_of_executors(name)
    base = getattr(module, name)
    if module.__name__ == POOL:
        bases, body = (base, module.ProcessesMixin, unittest.TestCase), {"Pool": staticmethod(Pool)}
    else:
        if hasattr(module, "assert_python_ok"):
            module.assert_python_ok = _in_their_places(module.assert_python_ok)
        common = importlib.import_module(f"{EXECUTOR}.util") if _is_package() else module
        bases, body = (Executors, base, common.ExecutorMixin, common.BaseTestCase), {}
    made = type(name, bases, {**body, "__module__": module.__name__, "__qualname__": name})
    setattr(module, name, made)  # methods are pickled by name: workers find those of the base class
    return made


def _module_of_executors(name):
    if not _is_package():
        return importlib.import_module(EXECUTOR)
    modules = [importlib.import_module(f"{EXECUTOR}.test_{part}") for part in PARTS]
    return next(module for module in modules if hasattr(module, name))


def _is_package():
    return hasattr(importlib.import_module(EXECUTOR), "__path__")


def _in_their_places(assert_python_ok):
    """Run `assert_python_ok` with a program that also has runwide's pools."""
    first = f"import sys; sys.path[:0] = {[HERE, *sys.path]!r}\nimport standard_run; standard_run.take_the_places()\n"

    def run(flag, text):
        status, out, err = assert_python_ok(flag, first + text)
        err = err.replace(b"runwide.errors.PoolClosed:", b"RuntimeError:")  # of which it is a subclass
        return status, re.sub(rb"(?m)^\[\d+\] ", b"", out), err  # each line begins with its item

    return run


class Verdicts(unittest.TestResult):
    """The outcome of each test, by its name: empty if it passed, otherwise the failure or the reason for skipping it."""

    def __init__(self):
        super().__init__()
        self.passed, self.failed, self.left_out, self.seconds = [], {}, {}, {}

    def startTest(self, test):  # noqa: N802 - unittest's
        super().startTest(test)
        self._began = time.monotonic()

    def stopTest(self, test):  # noqa: N802 - unittest's
        super().stopTest(test)
        self.seconds[test._testMethodName] = round(time.monotonic() - self._began, 2)

    def addSuccess(self, test):  # noqa: N802 - unittest's
        self.passed.append(test._testMethodName)

    def addSkip(self, test, reason):  # noqa: N802 - unittest's
        self.left_out[test._testMethodName] = reason

    def addError(self, test, err):  # noqa: N802 - unittest's
        # An error in the set-up of a class has no method name.
        self.failed[getattr(test, "_testMethodName", str(test))] = self._exc_info_to_string(err, test)

    addFailure = addError  # noqa: N815 - unittest's


def main() -> None:
    """Run the class named on the command line."""
    name, excluded = sys.argv[1], json.loads(sys.argv[2])
    take_the_places()
    chosen = case(name)
    from test import support

    support.verbose = False  # unittest writes times between the lines
    names = unittest.defaultTestLoader.getTestCaseNames(chosen)
    verdicts = Verdicts()
    unittest.TestSuite(chosen(test) for test in names if test not in excluded).run(verdicts)
    answer = {
        "passed": verdicts.passed,
        "failed": verdicts.failed,
        "skipped": verdicts.left_out,
        "unknown": sorted(set(excluded) - set(names)),
        "seconds": verdicts.seconds,
        "threads": [thread.name for thread in threading.enumerate()],
    }
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
