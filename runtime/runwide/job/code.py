"""The program's own code of a job, where it runs: fetched, verified, unpacked once, and on the search path."""

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

from runwide import archive, own, systems
from runwide.errors import InputError
from runwide.host import space
from runwide.job import manifest
from runwide.job.reference import quoted
from runwide.log import Log
from runwide.own_files import file_at
from runwide.parsing import json_of
from runwide.places import UNPACKED
from runwide.spill.verified import SLACK, fetch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from runwide.job.manifest import Job
    from runwide.spill.store import Store

log = Log("job")

_IN_MODULE = re.compile(r"on <module '([\w.]+)'")
_lock = threading.Lock()
_unpacked: dict[str, str] = {}
"""Where code lies, by its digest."""
_users: Counter[str] = Counter()  # of a folder on the search path, at the same time
_stays: set[str] = set()
"""Folders that stay on the search path."""


def unpacked(code: archive.Code) -> str:
    """Unpack code in this process, once; return the folder, which goes with the process.

    Args:
        code: The code, verified.

    Raises:
        FrameCorrupt: It is no archive of code.
        InputError: There is no place for it.
    """
    with _lock:
        folder = _unpacked.get(code.digest)
        if folder is None or not os.path.isdir(folder):  # noqa: PTH112 - a text
            folder = _unpacked[code.digest] = _written(code)
        return folder


def _written(code: archive.Code) -> str:
    root = space.scratch()
    try:
        folder = os.path.join(_made(root), f"{UNPACKED}{code.digest[:16]}")  # noqa: PTH118 - a text
        os.mkdir(folder, 0o700)  # noqa: PTH102 - likewise
        archive.unpack(code.archive, folder)
    except OSError as error:
        raise InputError(
            f"the function's own code cannot be unpacked ({error.strerror or error})",
            uri=root,
            hint="set RUNWIDE_SCRATCH to a directory with room for it, or mount one at /tmp",
        ) from error
    return folder


def _made(root: str) -> str:
    """Make a directory that goes with this process; one that was killed has its own swept by the next."""
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
        if os.getpid() == mine:  # and not in what was forked
            folders.remove(path)

    atexit.register(remove)
    return path


def fetched(store: Store, job: Job) -> archive.Code | None:
    """Return the code of a job, verified; None if it has none.

    Args:
        store: The job's folder.
        job: The job.
    """
    if job.code is None:
        return None
    data = fetch(store, manifest.CODE, digest=job.code, most=job.code_size + SLACK)
    return archive.Code(job.code_files, bytes(data))


def put(folder: str, *, first: bool = True) -> None:
    """Have this process, and workers that it starts, import modules of a folder before all others, or after them."""
    with _lock:
        _stays.add(folder)
        if folder not in sys.path:
            sys.path.insert(0 if first else len(sys.path), folder)
            invalidate_caches()


@contextmanager
def on_path(store: Store, job: Job, *, first: bool = True) -> Iterator[None]:
    """Have workers that are started meanwhile import the code of a job.

    Args:
        store: The job's folder.
        job: The job.
        first: Before all other code; or only what is not there otherwise.
    """
    code = fetched(store, job)
    if code is None:
        yield
        return
    folder = unpacked(code)
    with _lock:
        _users[folder] += 1
        if folder not in sys.path:
            sys.path.insert(0 if first else len(sys.path), folder)
            invalidate_caches()
    try:
        yield
    finally:
        with _lock:
            _users[folder] -= 1
            if not _users[folder] and folder in sys.path and folder not in _stays:
                sys.path.remove(folder)


def come(store: Store, job: Job, *, first: bool = True) -> None:
    """Have this process import the code of a job, unless it has the same code itself.

    Args:
        store: The job's folder.
        job: The job.
        first: Before all other code; or only what is not there otherwise.

    Raises:
        InputError: A module that is to come first is loaded already, and is another one.
    """
    known = json_of(job.code_files)
    for path, digest in known.items() if first else ():
        _check_loaded(path, digest, job)
    here = own.reached(map(_module_of, known)).digests
    if not known.items() <= here.items() and (code := fetched(store, job)) is not None:
        put(unpacked(code), first=first)


def _module_of(path: str) -> str:
    """Return the name of the module that a file is, or that one beside it would be."""
    return path.rpartition(".")[0].removesuffix("/__init__").replace("/", ".")


def _check_loaded(path: str, digest: str, job: Job) -> None:
    """Reject a module that is loaded here already, and is another one than the job's."""
    name = _module_of(path)
    file = vars(sys.modules[name]).get("__file__") if name in sys.modules else None
    if isinstance(file, str) and file_at(file).digest != digest:
        raise InputError(
            f"the module {name} that is loaded here is another one than the job's",
            uri=file,
            hint=f"use a new process, in another folder: runwide replay {quoted(job.reference)} ITEM",
        )


class Late:
    """The code of a job in a process that reads its results, used only where they need it and it is not here.

    Args:
        store: The job's folder.
        job: The job.
    """

    def __init__(self, store: Store, job: Job) -> None:
        self._store = store
        self._job = job
        self._tried = False
        self._looked = job.code is None

    def loaded(self, load: Callable[[], Any]) -> Any:
        """Return what loading a result gives, with the code behind all else on the search path if that is missing.

        Args:
            load: Loads the result; called again if a module was missing.

        Raises:
            Exception: Whatever loading raises.
        """
        if not self._looked:
            self._looked = True
            self._tell_of_others()
        try:
            return load()
        except ModuleNotFoundError as error:
            if not self._comes(str(error.name)):
                raise
        return load()

    def hint(self, error: Exception) -> str | None:
        """Return what to do where a module here has the name of one of the job's, and is another one; else None.

        Args:
            error: What loading a result has raised.
        """
        found = _IN_MODULE.search(str(error))
        if not isinstance(error, AttributeError) or found is None or not self._has(found[1]):
            return None
        return (
            f"the module {found[1]} here is another one than the job's: read the results where the job's own code is, or "
            "where nothing has that name"
        )

    def _comes(self, name: str) -> bool:
        """Put the code on the search path if it has a module; returns whether it has."""
        if self._tried or not self._has(name):
            return False
        self._tried = True
        code = fetched(self._store, self._job)
        if code is None:
            return False
        put(unpacked(code), first=False)
        log.info("code.used", job=self._job.id, module=name)
        return True

    def _tell_of_others(self) -> None:
        """Warn of modules that came with another job: results of this one are then of the classes of that one."""
        for path in json_of(self._job.code_files):
            name = _module_of(path)
            file = getattr(sys.modules.get(name), "__file__", None) or ""
            if UNPACKED in file and f"{UNPACKED}{str(self._job.code)[:16]}" not in file:
                log.warning(
                    "code.differed", job=self._job.id, module=name, cause="it was loaded from the code of another job",
                    hint="read the results in a process of their own",
                )  # fmt: skip
                return

    def _has(self, module: str) -> bool:
        path = module.replace(".", "/")
        return any(name.startswith((f"{path}.", f"{path}/")) for name in json_of(self._job.code_files))
