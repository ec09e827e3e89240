"""A fault of a running pool's scratch fails tasks by name, on every surface; the others go on."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

pytestmark = pytest.mark.faults

PROGRAM = """
import asyncio, contextlib, glob, json, os, re, shutil, sys
import joblib
import numpy as np
import runwide
from runwide.pool import outcomes, resources
from runwide.records import Failure

resources.PATIENCE = 0.2  # seconds that each payload waits for room in vain
ROOT, STORE = os.environ["RUNWIDE_SCRATCH"], os.environ["STORE"]
POOL = os.getpid()
bias = np.full(1 << 15, 1.0)  # the function has a file, too

def folder():
    (found,) = glob.glob(f"{ROOT}/runwide-{POOL}-*")
    return found

def replaced(put):
    found = folder()
    for number in range(100):
        os.rename(found, f"{ROOT}/moved-{number}")
        try:
            return put(found)
        except OSError:  # the pool has made it again for a worker that starts just now
            pass

def links_to(place):
    replaced(lambda found: os.symlink(place, found))

def belongs_to_another():
    os.chown(folder(), 12345, 12345)

def is_another_ones():
    replaced(lambda found: (os.mkdir(found), os.chown(found, 12345, 12345)))

def is_a_file():
    replaced(lambda found: open(found, "x").close())

def mounted(options):
    assert os.system(f"mount -t tmpfs -o {options} tmpfs {ROOT}") == 0

def files_have(size):
    for path in glob.glob(f"{folder()}/*"):
        if not path.endswith((".status", "turn")):
            with contextlib.suppress(FileNotFoundError):  # it has been read meanwhile
                os.truncate(path, size)

def strike():
    __FAULT__

def mend():
    while os.system(f"umount {ROOT} 2>/dev/null") == 0:
        pass
    for path in glob.glob(f"{ROOT}/*"):
        if os.path.isdir(path) and not os.path.islink(path):
            os.chmod(path, 0o700)
            shutil.rmtree(path)
        else:
            os.unlink(path)

def items():
    for x in range(12):
        if x == 6:
            strike()
        yield np.full(1 << 15, float(x))

def task(item):
    return item + bias

def error_or(future):
    return future.exception() or future.result()

def by_executor():
    with runwide.Executor(2) as executor:
        results = [error_or(future) for future in [executor.submit(task, item) for item in items()]]
        assert executor.submit(abs, -1).result() == 1
        return results

def by_pool():
    with runwide.Pool(2) as pool:
        results = []
        for waiting in [pool.apply_async(task, (item,)) for item in items()]:
            try:
                results.append(waiting.get())
            except OSError as error:
                results.append(error)
        assert pool.apply(abs, (-1,)) == 1
        return results

def by_joblib():
    runwide.register_joblib()
    with joblib.parallel_config(backend="runwide", n_jobs=2):
        try:
            return joblib.Parallel(batch_size=1)(joblib.delayed(task)(item) for item in items())
        except OSError as error:
            return [error]

def unordered():
    found = runwide.imap_unordered(task, items(), workers=2, chunksize=1, on_error="return")
    return sorted(found, key=lambda one: one.index if isinstance(one, Failure) else one[0] - 1)

def streamed():
    found = sorted(outcomes(task, items(), workers=2, chunksize=1), key=lambda one: one.index)
    return [one.failure or one.value for one in found]

how = {"workers": 2, "chunksize": 1, "on_error": "return"}
surfaces = {
    "map": lambda: runwide.map(task, items(), **how),
    "imap": lambda: list(runwide.imap(task, items(), **how)),
    "imap_unordered": unordered,
    "outcomes": streamed,
    "amap": lambda: asyncio.run(runwide.amap(task, items(), **how)),
    "map with a store": lambda: runwide.map(task, items(), store=STORE, **how),
    "Executor": by_executor,
    "Pool": by_pool,
    "joblib": by_joblib,
}

def described(x, one):
    error = one.exception if isinstance(one, Failure) else one
    if isinstance(error, BaseException):
        return f"{type(error).__name__}: {error}"
    return "right" if one[0] == one[-1] == x + 1 else "wrong"

if __name__ == "__main__":
    found = {}
    for name in sys.argv[1].split(",") if len(sys.argv) > 1 else surfaces:
        found[name] = [described(x, one) for x, one in enumerate(surfaces[name]())]
        runwide.shutdown()  # each surface has a directory of its own
        mend()
    print(json.dumps(found))
"""

MOUNTS = ("unshare", "--map-root-user", "--mount")
FULL = "ScratchFull: item"
NOT_OURS = "cannot be written: the directory does not belong to this program any more"
FAULTS = {  # what strikes; what the program runs in; the words of the tasks' errors
    "is removed": ("shutil.rmtree(folder(), ignore_errors=True)", (), None),
    "is a link to nowhere": ("links_to('/nowhere')", (), NOT_OURS),
    "is a link to another": ("links_to(STORE)", (), NOT_OURS),
    "is given to another user": ("belongs_to_another()", "root", NOT_OURS),
    "is another user's": ("is_another_ones()", "root", NOT_OURS),
    "is a file": ("is_a_file()", (), "Not a directory"),
    "is unreadable": ("os.chmod(folder(), 0)", ("unshare", "--user"), "Permission denied"),
    "is on a disk that is read-only": ("mounted('ro')", MOUNTS, "Read-only file system"),
    "is on a disk that is full": ("mounted('size=64k')", MOUNTS, FULL),
    "is on a disk that takes no more files": ("mounted('nr_inodes=1')", MOUNTS, FULL),
    "has files that are empty": ("files_have(0)", (), "cannot be read: cannot mmap an empty file"),
    "has files that are cut": ("files_have(100)", (), "cannot be read: its file has 100 bytes of"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_the_directory_of_a_pool(fault, tmp_path):
    code, inside, words = FAULTS[fault]
    if inside == "root":
        if os.geteuid() != 0:
            pytest.skip("only root makes directories of other users")
        inside = ()
    if inside and subprocess.run([*inside, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this machine allows no namespaces")
    for name in ("scratch", "store"):
        (tmp_path / name).mkdir()
    chosen = ["map,Executor"] if words == FULL else []  # where each payload waits for room
    program = tmp_path / "program.py"
    program.write_text(PROGRAM.replace("__FAULT__", code))
    env = {**os.environ, "RUNWIDE_SCRATCH": str(tmp_path / "scratch"), "STORE": str(tmp_path / "store")}
    done = subprocess.run(
        [*inside, sys.executable, str(program), *chosen],
        env=env,
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr
    assert "pool.broken" not in done.stderr
    for surface, results in json.loads(done.stdout).items():
        failed = [one for one in results if one != "right"]
        named = [one for one in failed if words is not None and one.startswith("Scratch") and words in one]
        assert failed == named, surface
        assert len(results) == 12 or surface == "joblib"
