"""Find the standard library's own tests of its pools: with this interpreter, or else in Debian's package."""

from __future__ import annotations

import fcntl
import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

CACHE = Path(__file__).parents[2] / ".cache" / "standard-library"
POOL, EXECUTOR = "test._test_multiprocessing", "test.test_concurrent_futures"


class Unavailable(Exception):
    """The tests are not available.

    Args:
        message: The reason.
        fetchable: Whether a user with more rights could fetch them.
    """

    def __init__(self, message: str, *, fetchable: bool) -> None:
        super().__init__(message)
        self.fetchable = fetchable


def folder(module: str) -> Path | None:
    """Return the folder to put first on ``sys.path`` so that a module of the tests is found; None if none is needed.

    Raises:
        Unavailable: There is no such module; the message has the reason.
    """
    # Some distributions leave out all or some tests, and parts of two packages do not work together.
    if _own(module) and (module == POOL or _own(POOL)):
        return None
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    found = CACHE / version
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not found.exists():
            _unpack(version, found)
    return found


def _own(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def _unpack(version: str, found: Path) -> None:
    """Unpack the tests and their support modules from Debian's packages, without installing these."""
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        message = "this Python has no tests of its own, and only root with apt-get can fetch Debian's"
        raise Unavailable(message, fetchable=True)
    names = [f"libpython{version}-testsuite", f"libpython{version}-stdlib"]
    apt = ["apt-get", "-qq", "-y"]
    subprocess.run([*apt, "update"], check=True, capture_output=True)
    known = subprocess.run(["apt-cache", "show", *names], capture_output=True, check=False)
    if known.returncode:
        raise Unavailable(
            f"neither this Python nor Debian has the tests of Python {version}", fetchable=False
        )
    work = CACHE / f"unpacking-{version}"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    # The sandbox user of apt cannot write here, and root needs none to fetch two files.
    fetch = [*apt, "-o", "APT::Sandbox::User=root", "download", *names]
    subprocess.run(fetch, check=True, cwd=work, capture_output=True)
    for package in work.glob("*.deb"):
        subprocess.run(["dpkg-deb", "-x", str(package), str(work)], check=True)
    ready = work / "ready"
    ready.mkdir()
    (work / f"usr/lib/python{version}/test").rename(ready / "test")
    ready.rename(found)
    shutil.rmtree(work)
