"""Whether this process can load what another one pickled."""

from __future__ import annotations

import platform
from importlib.metadata import version
from typing import TYPE_CHECKING

from runwide import __version__
from runwide.errors import EnvironmentMismatch
from runwide.log import Log

if TYPE_CHECKING:
    from collections.abc import Mapping

log = Log("job")


def current() -> dict[str, str]:
    """What this process is, as far as pickles care."""
    return {
        "cloudpickle": version("cloudpickle"),
        "python": platform.python_version(),
        "runwide": __version__,
    }


def check(theirs: Mapping[str, str], *, uri: str) -> None:
    """Compare the maker's environment with ours, before anything is unpickled.

    Functions travel as bytecode, which belongs to one minor version of Python; everything else only warns.

    Raises:
        EnvironmentMismatch: Another minor version of Python made the job.
    """
    ours = current()
    if minor(theirs["python"]) != minor(ours["python"]):
        raise EnvironmentMismatch(
            f"the job was made by Python {theirs['python']}, this is Python {ours['python']}",
            uri=uri,
            hint=f"run it in an image with Python {minor(theirs['python'])}, or make the job with {minor(ours['python'])}",
        )
    warn(theirs, uri=uri)


def warn(theirs: Mapping[str, str], *, uri: str) -> None:
    """Warn of differences that matter only to some pickles: results are data, seldom code."""
    ours = current()
    same = {"python": minor(theirs["python"]) == minor(ours["python"])}
    for name in sorted(ours):
        if not same.get(name, theirs.get(name) == ours[name]):
            log.warning(
                "environment.differed", package=name, theirs=theirs.get(name), ours=ours[name], uri=uri
            )


def minor(python: str) -> str:
    """The minor version of a version of Python.

    Example:
        >>> minor("3.11.4")
        '3.11'
    """
    return ".".join(python.split(".")[:2])
