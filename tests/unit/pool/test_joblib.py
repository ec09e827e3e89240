"""joblib on the pool: its options do what they do with joblib's own backends, and errors name its own tasks or none."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import textwrap
import time
import warnings
from pickle import PicklingError

import joblib
import numpy as np
import pytest
from joblib import Parallel, delayed, parallel_config
from joblib.parallel import ParallelBackendBase

import runwide.joblib
from runwide.errors import ItemNotPicklable, RemoteTraceback, ResultNotPicklable, WorkerDied

takes_options = pytest.mark.skipif(
    joblib.__version__ < "1.5", reason="Parallel passes options to backends since joblib 1.5"
)


@pytest.fixture(autouse=True)
def backend():
    with parallel_config(backend="runwide", n_jobs=2):
        yield


def die_at_nine(x):
    if x == 9:
        os._exit(5)
    return x


def divide(x):
    return 1 // (9 - x)


def test_a_task_that_kills_its_worker_is_named_where_it_has_a_batch_of_its_own():
    with pytest.raises(WorkerDied, match=r"^item 9: the worker exited with status 5") as raised:
        Parallel(batch_size=1)(delayed(die_at_nine)(x) for x in range(12))
    assert raised.value.item == 9


def test_a_task_that_kills_its_worker_is_not_named_by_the_number_of_its_batch():
    with pytest.raises(WorkerDied, match=r"^the worker exited with status 5") as raised:
        Parallel(batch_size=4)(delayed(die_at_nine)(x) for x in range(12))
    assert raised.value.item is None


def test_a_second_call_counts_its_own_tasks():
    with Parallel(batch_size=1) as parallel:
        assert parallel(delayed(abs)(x) for x in range(5)) == list(range(5))
        with pytest.raises(WorkerDied) as raised:
            parallel(delayed(die_at_nine)(x) for x in range(12))
        assert raised.value.item == 9
        assert parallel(delayed(abs)(x) for x in range(5)) == list(range(5))


@pytest.mark.parametrize(("batch", "item"), [(1, 9), (4, None)])
def test_the_traceback_of_a_task_that_raises_has_its_number_or_none(batch, item):
    with pytest.raises(ZeroDivisionError) as raised:
        Parallel(batch_size=batch)(delayed(divide)(x) for x in range(12))
    assert isinstance(raised.value.__cause__, RemoteTraceback)
    assert raised.value.__cause__.item == item


@pytest.mark.parametrize("kind", ["generator", "generator_unordered"])
def test_a_generator_names_it_too(kind):
    with pytest.raises(WorkerDied, match=r"^item 9: "):
        list(Parallel(batch_size=1, return_as=kind)(delayed(die_at_nine)(x) for x in range(12)))


@pytest.mark.parametrize(("batch", "item"), [(1, 2), (4, None)])
def test_what_cannot_be_pickled_is_a_pickling_error_as_with_loky_which_names_the_task(batch, item):
    class Unwilling:
        def __reduce__(self):
            raise LookupError("not me")

    for kind, function, arguments in (
        (ItemNotPicklable, id, [1, 2, Unwilling(), 4]),
        (ResultNotPicklable, lambda x: Unwilling() if x == 3 else x, [1, 2, 3, 4]),
    ):
        with pytest.raises(kind, match="LookupError: not me") as raised:
            Parallel(batch_size=batch)(delayed(function)(x) for x in arguments)
        assert isinstance(raised.value, PicklingError)
        assert raised.value.item == item


def test_what_a_task_prints_does_not_begin_with_the_number_of_its_batch(capfd):
    Parallel(batch_size=2)(delayed(print)("hello") for _ in range(4))
    assert capfd.readouterr().out == "hello\n" * 4


def test_one_worker_is_this_process_and_leaves_no_executor_behind():
    assert Parallel(n_jobs=1)(delayed(os.getpid)() for _ in range(2)) == [os.getpid()] * 2


def program(text: str) -> str:
    command = [sys.executable, "-c", textwrap.dedent(text)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("registers", ["import runwide.joblib", "import runwide; runwide.register_joblib()"])
def test_a_program_registers_the_backend_by_an_import_or_a_call(registers):
    text = f"""
        {registers}
        from joblib import Parallel, delayed
        print(Parallel(n_jobs=2, backend="runwide")(delayed(abs)(x) for x in [-1, -2]))
    """
    assert program(text) == "[1, 2]\n"


@pytest.mark.parametrize("registers", ["import runwide.joblib", "import runwide; runwide.register_joblib()"])
def test_without_joblib_it_says_what_to_install_and_the_rest_works(registers):
    text = f"""
        import sys
        class Missing:
            def find_spec(self, name, *_):
                if name == "joblib":
                    raise ModuleNotFoundError("No module named 'joblib'", name=name)
        sys.meta_path.insert(0, Missing())
        from runwide import *
        try:
            {registers}
        except ImportError as error:
            print(error)
    """
    assert program(text) == 'joblib is not installed: pip install "runwide[joblib]"\n'


def begin(value):
    os.environ["BEGUN"] = str(value)


def begun(x):
    return x * int(os.environ["BEGUN"])


class TestInitializers:
    def test_one_of_the_context_is_that_of_each_call(self):
        with parallel_config(backend="runwide", n_jobs=2, initializer=begin, initargs=[3]):
            assert Parallel()(delayed(begun)(x) for x in range(3)) == [0, 3, 6]
            assert list(Parallel(return_as="generator")(delayed(begun)(x) for x in range(3))) == [0, 3, 6]

    def test_one_of_a_backend_is_that_of_all_its_calls(self):
        backend = runwide.joblib.RunwideBackend(initializer=begin, initargs=(3,))
        assert Parallel(n_jobs=2, backend=backend)(delayed(begun)(x) for x in range(3)) == [0, 3, 6]

    @takes_options
    def test_one_of_a_call_is_that_of_no_other(self):
        with parallel_config(backend="runwide", n_jobs=2, initializer=begin, initargs=(3,)):
            assert Parallel(initializer=begin, initargs=(4,))(delayed(begun)(x) for x in range(3)) == [
                0,
                4,
                8,
            ]
            assert Parallel()(delayed(begun)(x) for x in range(3)) == [0, 3, 6]

    @takes_options
    def test_one_of_a_block_runs_again_in_the_workers_that_follow_an_error(self):
        with Parallel(initializer=begin, initargs=(3,)) as parallel:
            assert parallel(delayed(begun)(x) for x in range(3)) == [0, 3, 6]
            with pytest.raises(ZeroDivisionError):
                parallel(delayed(divide)(x) for x in range(12))
            assert parallel(delayed(begun)(x) for x in range(3)) == [0, 3, 6]

    def test_the_rest_of_a_failed_call_does_not_run_in_the_next_call(self):
        """joblib keeps the batches that it has made of it, and with its own backends runs them then."""
        for _ in range(8):
            with Parallel(batch_size=1, pre_dispatch=4) as parallel:
                with pytest.raises(ZeroDivisionError):
                    parallel(delayed(divide)(x + 7) for x in range(12))
                assert parallel(delayed(abs)(-x) for x in range(3)) == [0, 1, 2]

    def test_it_is_said_that_it_does_not_run_where_there_is_one_core(self):
        with (
            parallel_config(backend="runwide", n_jobs=-1000, initializer=begin, initargs=(3,)),
            pytest.warns(UserWarning, match="without the initializer"),
        ):
            assert Parallel()(delayed(os.getpid)() for _ in range(2)) == [os.getpid()] * 2

    def test_it_runs_in_place_inside_a_worker(self):
        def nested(x):
            with parallel_config(backend="runwide", n_jobs=2, initializer=begin, initargs=(x,)):
                return [os.getpid(), *Parallel()(delayed(begun)(y) for y in range(3))]

        for pid, *values in Parallel()(delayed(nested)(3) for _ in range(2)):
            assert pid != os.getpid()
            assert values == [0, 3, 6]


def variables():
    return {name: os.environ.get(name) for name in ParallelBackendBase.MAX_NUM_THREADS_VARS}


@pytest.mark.parametrize("threads", [None, 5])
def test_inner_max_num_threads_is_as_with_lokys_backend_and_so_are_the_users_own_variables(
    threads, monkeypatch
):
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.setenv("NUMBA_NUM_THREADS", "6")
    with parallel_config(backend="runwide", n_jobs=2, inner_max_num_threads=threads):
        (found, _) = Parallel()(delayed(variables)() for _ in range(2))
    if threads is None:
        assert (found["OMP_NUM_THREADS"], found["NUMBA_NUM_THREADS"]) == ("7", "6")
    else:
        expected = ParallelBackendBase._prepare_worker_env(runwide.joblib.RunwideBackend(None, threads), 2)
        assert found == {name: expected[name] for name in found}


@pytest.mark.parametrize("theirs", ["4", "4,2"])
@pytest.mark.parametrize("name", ["OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"])
def test_after_a_call_with_inner_max_num_threads_the_users_own_variables_hold_again(
    name, theirs, monkeypatch
):
    monkeypatch.setenv(name, theirs)
    for threads, expected in ((None, theirs), (1, "1"), (None, theirs)):
        with parallel_config(backend="runwide", n_jobs=2, inner_max_num_threads=threads):
            found = Parallel()(delayed(variables)() for _ in range(2))
        assert [each[name] for each in found] == [expected] * 2


def test_after_a_call_with_inner_max_num_threads_libraries_follow_openmps_variable_again(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    for threads, expected in ((1, {1}), (None, {2})):
        with parallel_config(backend="runwide", n_jobs=2, inner_max_num_threads=threads):
            found = Parallel()(delayed(threads_of_openblas)() for _ in range(2))
        assert set(found) == expected


def threads_of_openblas():
    import numpy as np  # noqa: F401 - which brings the library
    import threadpoolctl

    return max(each["num_threads"] for each in threadpoolctl.threadpool_info())


def test_fewer_than_one_thread_is_refused():
    with (
        parallel_config(backend="runwide", n_jobs=2, inner_max_num_threads=0),
        pytest.raises(ValueError, match="=0"),
    ):
        Parallel()(delayed(abs)(x) for x in range(2))


def test_an_option_that_is_none_is_refused_by_its_name():
    with pytest.raises(TypeError, match="initialiser"):
        parallel_config(backend="runwide", initialiser=begin)


@takes_options
def test_so_is_one_of_a_call():
    with pytest.raises(TypeError, match="'initialiser'"):
        Parallel(initialiser=begin)(delayed(abs)(x) for x in range(2))


@pytest.mark.parametrize(
    ("limit", "mode"), [(100, None), (None, "r"), (100, "r"), ("1K", "r+"), (100, "w+"), ("1K", "c")]
)
def test_options_of_memory_maps_are_taken_and_arrays_may_be_written_to(limit, mode, tmp_path):
    def fill(array):
        array[:] = 1
        return array.sum()

    parallel = Parallel(temp_folder=str(tmp_path), max_nbytes=limit, mmap_mode=mode)
    assert parallel(delayed(fill)(np.zeros(size)) for size in (10, 100_000)) == [10, 100_000]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_timeout_is_warned_of_where_joblibs_own_backends_warn_of_it(jobs):
    def warned(backend):
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            Parallel(n_jobs=jobs, backend=backend, timeout=300)(delayed(abs)(x) for x in range(2))
        return [str(one.message) for one in seen]

    assert warned("runwide") == warned("threading")
    assert len(warned("runwide")) == (jobs == 1)


def test_a_timeout_is_raised_and_later_calls_run():
    with Parallel(timeout=0.1) as parallel, pytest.raises(multiprocessing.TimeoutError):
        parallel(delayed(time.sleep)(3600) for _ in range(2))
    assert Parallel(timeout=300)(delayed(abs)(x) for x in range(2)) == [0, 1]


def test_a_call_may_begin_while_another_of_the_same_context_still_runs():
    arriving = Parallel(return_as="generator")(delayed(abs)(x) for x in range(20))
    assert next(arriving) == 0
    assert Parallel()(delayed(abs)(x) for x in range(5)) == list(range(5))
    assert list(arriving) == list(range(1, 20))


def test_calls_run_after_a_generator_was_dropped():
    arriving = Parallel(return_as="generator")(delayed(abs)(x) for x in range(20))
    assert next(arriving) == 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # joblib says what was not used
        del arriving
    assert Parallel()(delayed(abs)(x) for x in range(5)) == list(range(5))


@pytest.mark.parametrize(
    ("ahead", "batch"), [("all", 1), (1, 3), ("3*n_jobs", 100), ("all", "auto"), (1, "auto"), (100, 1)]
)
def test_tasks_are_all_run_however_they_are_dispatched(ahead, batch):
    parallel = Parallel(pre_dispatch=ahead, batch_size=batch)
    assert parallel(delayed(abs)(-x) for x in range(10)) == list(range(10))


def test_who_needs_shared_memory_gets_threads_and_who_prefers_them_has_named_a_backend():
    assert Parallel(require="sharedmem")(delayed(os.getpid)() for _ in range(2)) == [os.getpid()] * 2
    with pytest.raises(ValueError, match="does not support shared memory"):
        Parallel(backend="runwide", require="sharedmem")
    assert os.getpid() not in Parallel(prefer="threads")(delayed(os.getpid)() for _ in range(2))


def test_a_nested_call_may_name_the_backend_and_runs_in_its_worker():
    def nested(_):
        return Parallel(n_jobs=-1, backend="runwide")(delayed(os.getpid)() for _ in range(3))

    for first, *others in Parallel()(delayed(nested)(x) for x in range(2)):
        assert first != os.getpid()
        assert others == [first, first]


def test_a_daemonic_process_which_may_start_none_runs_tasks_itself_and_says_so():
    text = """
        import multiprocessing, os, warnings
        import runwide.joblib
        from joblib import Parallel, delayed
        def child(n_jobs):
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                found = Parallel(n_jobs=n_jobs, backend="runwide")(delayed(os.getpid)() for _ in range(500))
            return set(found) == {os.getpid()}, [str(each.message) for each in caught]
        with multiprocessing.get_context("fork").Pool(1) as pool:
            for found in pool.map(child, [2, 1]):
                print(*found)
    """
    warning = "runwide-backed parallel loops cannot be called in a daemonic process, setting n_jobs=1"
    assert program(text) == f"True ['{warning}']\nTrue []\n"
