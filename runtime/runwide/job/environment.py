"""Compare this process with the one that made a job, before anything in the job is loaded."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from runwide import __version__
from runwide.code.distributions import canonical, distributions, installed_version, split_key
from runwide.errors import EnvironmentMismatch
from runwide.json_text import json_of
from runwide.log import Log
from runwide.pickling.functions import modules_named

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from runwide.pickling.functions import Pickle

log = Log("job")

# The number of version parts that must agree, so that pickles of a package's objects can be loaded: numpy moved the module
# of its arrays in 2.0, scikit-learn supports no pickles across releases, the others change the layout of their objects.
_MUST_AGREE = {
    "numpy": 1,
    "pandas": 1,
    "polars": 1,
    "pyarrow": 1,
    "scikit-learn": 2,
    "scipy": 1,
    "torch": 1,
    "xgboost": 1,
}
_warned: set[tuple[str, str | None, str]] = set()


def current() -> dict[str, str]:
    """Return the versions in this process on which pickles depend."""
    import cloudpickle

    return {**_loaded(), "cloudpickle": cloudpickle.__version__}


def _loaded() -> dict[str, str]:
    """Return the same without importing cloudpickle, if it is not loaded yet."""
    found = {"python": "{}.{}.{}".format(*sys.version_info), "runwide": __version__}
    cloudpickle = sys.modules.get("cloudpickle")
    return found if cloudpickle is None else {**found, "cloudpickle": cloudpickle.__version__}


def host_facts(workers: int | None) -> dict[str, Any]:
    """Return the facts of this machine and process that a run records.

    Args:
        workers: Number of workers that the user gave; None for one for each core.
    """
    from runwide import host
    from runwide.host import memory

    found = host.cores(workers=workers)
    return {
        "workers": found.count,
        "physical": found.physical,
        "logical": found.logical,
        "quota": found.quota,
        "usable": found.usable,
        "cores": [list(core.cpus) for core in found.cores],
        "hypervisor": found.hypervisor.name,
        "memory": memory.read().size,
        **current(),
    }


def packages(function: bytes) -> dict[str, str]:
    """Return the versions of the installed distributions that a function needs.

    Args:
        function: The pickle of a function; it is parsed and not loaded.

    Example:
        >>> from runwide.pickling.functions import function_pickle
        >>> def load(text):
        ...     import yaml
        ...     return yaml.safe_load(text)
        >>> list(packages(function_pickle(load).data))
        ['PyYAML (yaml)']
    """
    from runwide.pickling.functions import parts_of

    parts = parts_of(function)
    return distributions(modules_named(function) if parts is None else needed(parts))


def needed(function: Pickle) -> list[str]:
    """Return the names of the modules that a function needs."""
    beside = json_of(function.beside)
    return [name for name in beside.get("needed", ()) if isinstance(name, str)]


def check_python(theirs: Mapping[str, str], *, uri: str) -> None:
    """Compare the environment that made a job with this process, before anything is unpickled.

    The pickle of a function has its bytecode, which works only in one minor version of Python. Other differences are only
    a warning.

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


def check_packages(theirs: Mapping[str, str], *, uri: str | None = None) -> None:
    """Compare the packages that a function needs with the installed ones, before it is loaded; nothing is imported.

    Versions that differ and do not break pickles are one warning.

    Args:
        theirs: The result of `packages` where the job was made.

    Raises:
        EnvironmentMismatch: Packages are missing, or have versions that break pickles of their objects.

    Example:
        >>> check_packages({"no-such-thing": "1.0"})
        Traceback (most recent call last):
        runwide.errors.EnvironmentMismatch: the function needs packages that are not here: no-such-thing 1.0 is missing; ...
    """
    here = {key: installed_version(key) for key in theirs} if theirs else {}
    missing = [key for key, version in here.items() if version is None]
    differing = [key for key, version in here.items() if version and theirs[key] and version != theirs[key]]
    refused = [key for key in differing if _breaks(key, theirs[key], str(here[key]))]
    if missing or refused:
        raise _mismatch(theirs, here, missing, refused, uri)
    _warn_of_packages({key: (theirs[key], str(here[key])) for key in differing}, uri)


def _breaks(key: str, theirs: str, ours: str) -> bool:
    parts = _MUST_AGREE.get(canonical(split_key(key)[0]), 0)
    return theirs.split(".")[:parts] != ours.split(".")[:parts]


def _mismatch(
    theirs: Mapping[str, str],
    here: Mapping[str, str | None],
    missing: list[str],
    refused: list[str],
    uri: str | None,
) -> EnvironmentMismatch:
    shown = [f"{key} {theirs[key]}".strip() + " is missing" for key in missing]
    shown += [f"{key} {theirs[key]} is too different from {here[key]} here" for key in refused]
    pins = [f"{split_key(key)[0]}=={theirs[key]}" for key in (*missing, *refused) if theirs[key]]
    return EnvironmentMismatch(
        f"the function needs packages that are not here: {', '.join(shown)}",
        uri=uri,
        hint=_advice(pins, [key for key in missing if not theirs[key]]),
    )


def _advice(pins: Sequence[str], unnamed: Sequence[str]) -> str:
    """Return a hint for packages that are missing here; modules without a distribution cannot be installed by name."""
    found = [
        f"give requirements={list(pins)}, or an image that has them (runwide image --requirements requirements.txt)"
    ]
    if unnamed:
        found.append(
            f"{', '.join(unnamed)} does not belong to a distribution that pip knows: build an image that has it, or move it "
            "out of site-packages, so that it goes with the job as your own code"
        )
    return "; ".join(found if pins else found[1:])


def _warn_of_packages(differing: Mapping[str, tuple[str, str]], uri: str | None) -> None:
    fresh = {key: one for key, one in differing.items() if (key, *one) not in _warned}
    if fresh:
        _warned.update((key, *one) for key, one in fresh.items())
        shown = ", ".join(f"{key} {theirs} (here {ours})" for key, (theirs, ours) in fresh.items())
        log.warning("packages.differed", packages=shown, uri=uri)


def warn(theirs: Mapping[str, str], *, uri: str) -> None:
    """Warn of differences that matter only to some pickles, since results are seldom code."""
    ours = _loaded()
    same = {"python": minor(theirs["python"]) == minor(ours["python"])}
    for name in sorted(ours):
        if not same.get(name, theirs.get(name) == ours[name]):
            _warn_once(name, theirs.get(name), ours[name], uri)


def minor(python: str) -> str:
    """Return the minor version in a version of Python.

    Example:
        >>> minor("3.11.4")
        '3.11'
    """
    return ".".join(python.split(".")[:2])


def _warn_once(package: str, theirs: str | None, ours: str, uri: str) -> None:
    if (package, theirs, ours) not in _warned:
        _warned.add((package, theirs, ours))
        log.warning("environment.differed", package=package, theirs=theirs, ours=ours, uri=uri)
