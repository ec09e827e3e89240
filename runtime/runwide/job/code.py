"""Make the program's own code of a job importable: fetch, verify and unpack it once, and add it to the search path."""

from __future__ import annotations

import atexit
import os
import re
import sys
import threading
from collections import Counter
from contextlib import contextmanager
from importlib import invalidate_caches
from typing import TYPE_CHECKING, Any

from runwide import systems
from runwide.code import archive
from runwide.code.files import file_at
from runwide.code.finding import reached
from runwide.errors import InputError
from runwide.host import space
from runwide.job import manifest
from runwide.job.reference import quoted
from runwide.json_text import json_of
from runwide.log import Log
from runwide.pickling.places import UNPACKED
from runwide.store.records import SLACK, fetch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from runwide.job.model import Job
    from runwide.store.base import Store

log = Log("job")

_IN_MODULE = re.compile(r"on <module '([\w.]+)'")
_lock = threading.Lock()
_unpacked: dict[str, str] = {}
"""Folders with unpacked code, by its digest."""
_users: Counter[str] = Counter()  # blocks that use a folder on the search path now
_stays: set[str] = set()
"""Folders that stay on the search path."""


def unpacked(code: archive.Code) -> str:
    """Unpack code once in this process, and return the folder, which is removed when the process ends."""
    with _lock:
        folder = _unpacked.get(code.digest)
        if folder is None or not os.path.isdir(folder):  # noqa: PTH112 - a text
            folder = _unpacked[code.digest] = _unpack(code)
        return folder


def _unpack(code: archive.Code) -> str:
    root = space.scratch()
    try:
        folder = os.path.join(_make_folder(root), f"{UNPACKED}{code.digest[:16]}")  # noqa: PTH118 - a text
        os.mkdir(folder, 0o700)  # noqa: PTH102 - likewise
        archive.unpack(code.archive, folder)
    except OSError as error:
        raise InputError(
            f"the function's own code cannot be unpacked ({error.strerror or error})",
            uri=root,
            hint="set RUNWIDE_SCRATCH to a directory with room for it, or mount one at /tmp",
        ) from error
    return folder


def _make_folder(root: str) -> str:
    """Make a folder that is removed when this process ends; if it is killed, the next process removes the folder."""
    if not systems.run_tasks():
        import shutil
        import tempfile

        made = tempfile.mkdtemp(prefix="runwide-", dir=root)
        atexit.register(shutil.rmtree, made, ignore_errors=True)
        return made
    from runwide.pool import folders

    path = folders.make(root)
    mine = os.getpid()

    def remove() -> None:
        if os.getpid() == mine:  # not in a forked process
            folders.remove(path)

    atexit.register(remove)
    return path


def fetched(store: Store, job: Job) -> archive.Code | None:
    """Fetch and verify the code of a job; return None if it has none."""
    if job.code is None:
        return None
    data = fetch(store, manifest.CODE, digest=job.code, most=job.code_size + SLACK)
    return archive.Code(job.code_files, bytes(data))


def put(folder: str, *, first: bool = True) -> None:
    """Add a folder permanently to the search path of this process and of workers that it starts.

    Args:
        first: Whether it comes before all other folders, or after them.
    """
    with _lock:
        _stays.add(folder)
        _insert(folder, first=first)


def _insert(folder: str, *, first: bool) -> None:
    if folder not in sys.path:
        sys.path.insert(0 if first else len(sys.path), folder)
        invalidate_caches()


@contextmanager
def on_path(store: Store, job: Job, *, first: bool = True) -> Iterator[None]:
    """Make the code of a job importable in workers that start during the block.

    Args:
        first: Whether it comes before all other code, or after it.
    """
    code = fetched(store, job)
    if code is None:
        yield
        return
    folder = unpacked(code)
    with _lock:
        _users[folder] += 1
        _insert(folder, first=first)
    try:
        yield
    finally:
        with _lock:
            _users[folder] -= 1
            if not _users[folder] and folder in sys.path and folder not in _stays:
                sys.path.remove(folder)


def use(store: Store, job: Job, *, first: bool = True) -> None:
    """Make the code of a job importable in this process, unless the process has the same code already.

    Args:
        first: Whether it comes before all other code, or after it.

    Raises:
        InputError: The code is to come first, and another module with the same name is already loaded.
    """
    known = json_of(job.code_files)
    for path, digest in known.items() if first else ():
        _check_loaded(path, digest, job)
    here = reached(map(_module_of, known)).digests
    if not known.items() <= here.items() and (code := fetched(store, job)) is not None:
        put(unpacked(code), first=first)


def _module_of(path: str) -> str:
    """Return the name of the module in a file; for a data file, the name that a module there would have."""
    return path.rpartition(".")[0].removesuffix("/__init__").replace("/", ".")


def _check_loaded(path: str, digest: str, job: Job) -> None:
    """Reject a loaded module that has the name of one of the job's modules and other source code."""
    name = _module_of(path)
    file = vars(sys.modules[name]).get("__file__") if name in sys.modules else None
    if isinstance(file, str) and file_at(file).digest != digest:
        raise InputError(
            f"the module {name} that this process has loaded is another one than the job's",
            uri=file,
            hint=f"use a new process in another folder: runwide replay {quoted(job.reference)} ITEM",
        )


class Late:
    """The code of a job in a process that reads its results; it is used only for modules that the process does not have."""

    def __init__(self, store: Store, job: Job) -> None:
        self._store = store
        self._job = job
        self._tried = False
        self._warned = job.code is None

    def loaded(self, load: Callable[[], Any]) -> Any:
        """Load a result; if a module is missing, add the code to the end of the search path and load it again."""
        if not self._warned:
            self._warned = True
            self._warn_of_others()
        try:
            return load()
        except ModuleNotFoundError as error:
            if not self._add(str(error.name)):
                raise
        return load()

    def hint(self, error: Exception) -> str | None:
        """Return a hint if a module in this process has the name of one of the job's and is another one; else None."""
        found = _IN_MODULE.search(str(error))
        if not isinstance(error, AttributeError) or found is None or not self._has(found[1]):
            return None
        return (
            f"the module {found[1]} in this process is another one than the job's: read the results in the job's own "
            "program, or in a folder without a module of that name"
        )

    def _add(self, name: str) -> bool:
        """Add the code to the search path if it has a module, and return whether it has."""
        if self._tried or not self._has(name):
            return False
        self._tried = True
        code = fetched(self._store, self._job)
        if code is None:
            return False
        put(unpacked(code), first=False)
        log.info("code.used", job=self._job.id, module=name)
        return True

    def _warn_of_others(self) -> None:
        """Warn of modules from the code of another job: then results of this job have the classes of that job."""
        for path in json_of(self._job.code_files):
            name = _module_of(path)
            file = getattr(sys.modules.get(name), "__file__", None) or ""
            if UNPACKED in file and f"{UNPACKED}{str(self._job.code)[:16]}" not in file:
                log.warning(
                    "code.differed", job=self._job.id, module=name, cause="it was loaded from the code of another job",
                    hint="read the results of each job in a separate process",
                )  # fmt: skip
                return

    def _has(self, module: str) -> bool:
        path = module.replace(".", "/")
        return any(name.startswith((f"{path}.", f"{path}/")) for name in json_of(self._job.code_files))
