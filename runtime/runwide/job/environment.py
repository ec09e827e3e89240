"""Whether this process can load what another one pickled."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from runwide import __version__
from runwide.errors import EnvironmentMismatch
from runwide.log import Log

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

log = Log("job")

# How many parts of a version must agree for pickles of a package's objects to be loadable: numpy moved its arrays'
# module in 2.0, scikit-learn supports no pickle across releases, the others change the layout of theirs.
_MUST_AGREE = {
    "numpy": 1,
    "pandas": 1,
    "polars": 1,
    "pyarrow": 1,
    "scipy": 1,
    "sklearn": 2,
    "torch": 1,
    "xgboost": 1,
}
_STRINGS = frozenset({"SHORT_BINUNICODE", "BINUNICODE", "UNICODE", "GLOBAL"})
_warned: set[tuple[str, str | None, str]] = set()


def current() -> dict[str, str]:
    """What this process is, as far as pickles care."""
    import cloudpickle

    return {**_loaded(), "cloudpickle": cloudpickle.__version__}


def _loaded() -> dict[str, str]:
    """The same, of what is loaded: nothing is imported only to be compared."""
    found = {"python": "{}.{}.{}".format(*sys.version_info), "runwide": __version__}
    cloudpickle = sys.modules.get("cloudpickle")
    return found if cloudpickle is None else {**found, "cloudpickle": cloudpickle.__version__}


def packages(*pickles: bytes) -> dict[str, str]:
    """Versions of the third-party packages that pickles name, as far as they are imported here.

    Args:
        pickles: Pickles, which are looked at and not loaded.

    Example:
        >>> import pickle
        >>> packages(pickle.dumps("a"))
        {}
    """
    names = {name.partition(".")[0] for one in pickles for name in _words(one)}
    found = {name: getattr(sys.modules[name], "__version__", None) for name in names & sys.modules.keys()}
    return {name: text for name, text in sorted(found.items()) if isinstance(text, str) and name != "runwide"}


def check(theirs: Mapping[str, str], *, uri: str) -> None:
    """Compare the maker's environment with ours, before anything is unpickled.

    Functions travel as bytecode, which belongs to one minor version of Python; everything else only warns.

    Raises:
        EnvironmentMismatch: Another minor version of Python made the job.
    """
    ours = _loaded()
    if minor(theirs["python"]) != minor(ours["python"]):
        raise EnvironmentMismatch(
            f"the job was made by Python {theirs['python']}, this is Python {ours['python']}",
            uri=uri,
            hint=f"run it in an image with Python {minor(theirs['python'])}, or make the job with {minor(ours['python'])}",
        )
    warn(theirs, uri=uri)


def check_packages(theirs: Mapping[str, str], *, uri: str) -> None:
    """Compare versions of packages once the function is loaded, before any item runs.

    Raises:
        EnvironmentMismatch: A package differs in a way that breaks pickles of its objects.
    """
    for name, made_by in theirs.items():
        here = str(getattr(sys.modules.get(name), "__version__", made_by))
        parts = _MUST_AGREE.get(name, 0)
        if made_by.split(".")[:parts] != here.split(".")[:parts]:
            raise EnvironmentMismatch(
                f"the job was made with {name} {made_by}, here is {name} {here}",
                uri=uri,
                hint=f"install {name}=={made_by} in the image of this component, or make the job with {here}",
            )
        if made_by != here:
            _warn_once(name, made_by, here, uri)


def warn(theirs: Mapping[str, str], *, uri: str) -> None:
    """Warn of differences that matter only to some pickles: results are data, seldom code."""
    ours = _loaded()
    same = {"python": minor(theirs["python"]) == minor(ours["python"])}
    for name in sorted(ours):
        if not same.get(name, theirs.get(name) == ours[name]):
            _warn_once(name, theirs.get(name), ours[name], uri)


def minor(python: str) -> str:
    """The minor version of a version of Python.

    Example:
        >>> minor("3.11.4")
        '3.11'
    """
    return ".".join(python.split(".")[:2])


def _words(pickled: bytes) -> Iterable[str]:
    # for a process that makes a job, not for those that run its shards
    import pickletools

    from runwide.function_pickle import parts_of

    parts = parts_of(pickled)
    for opcode, argument, _ in pickletools.genops(pickled if parts is None else parts.core):
        if opcode.name in _STRINGS and isinstance(argument, str):
            yield argument.partition(" ")[0]  # GLOBAL has module and name in one


def _warn_once(package: str, theirs: str | None, ours: str, uri: str) -> None:
    if (package, theirs, ours) not in _warned:
        _warned.add((package, theirs, ours))
        log.warning("environment.differed", package=package, theirs=theirs, ours=ours, uri=uri)
