"""The environment of steps on this machine: only variables that a machine of a cloud would have too."""

from __future__ import annotations

import os
import site
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

PASSED_ON = frozenset(
    {
        "GOOGLE_CLOUD_PROJECT",
        "RUNWIDE_COMPRESSION",
        "RUNWIDE_LOG",
        "RUNWIDE_LOG_LEVEL",
        "RUNWIDE_STORE_DEADLINE",
        "RUNWIDE_USER_PROJECT",
        "RUNWIDE_WORKERS",
        "STORAGE_EMULATOR_HOST",
    }
)
"""Variables of the client that all steps get: to find the store, and to log like their caller."""

ORDERED = {"PYTHONUNBUFFERED": "1"}
"""Without it, the output of a step would come after the traceback with which the step ends."""

_ENDPOINTS = "CLOUDSDK_API_ENDPOINT_OVERRIDES_"
# commands, network and certificates: they belong to this machine, not to the author's program
_OF_THE_MACHINE = frozenset(
    {
        "ALL_PROXY",
        "CLOUDSDK_CORE_CUSTOM_CA_CERTS_FILE",
        "CURL_CA_BUNDLE",
        "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH",
        "HTTPLIB2_CA_CERTS",
        "HTTPS_PROXY",
        "HTTP_PROXY",
        "LANG",
        "LANGUAGE",
        "LD_LIBRARY_PATH",  # the interpreter may need it to start
        "NO_PROXY",
        "REQUESTS_CA_BUNDLE",
        "SSL_CERT_DIR",
        "SSL_CERT_FILE",
        "TZ",
    }
)
_KINDS = ("LC_", "PIP_")
_PIP_FILES = (".config/pip/pip.conf", ".pip/pip.conf", "Library/Application Support/pip/pip.conf")


def for_all(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the variables of the client that steps get, in containers and in subprocesses.

    Example:
        >>> for_all({"RUNWIDE_LOG": "json", "AWS_PROFILE": "mine", "PYTHONPATH": "."})
        {'RUNWIDE_LOG': 'json'}
    """
    return {name: text for name, text in environ.items() if name in PASSED_ON or name.startswith(_ENDPOINTS)}


def for_subprocess(environ: Mapping[str, str], home: Path) -> dict[str, str]:
    """Return the whole environment of a step's subprocess, without the variables that the step itself sets.

    Its search path begins with the folder of this Python, so that it finds the ``python3`` and the ``runwide`` there.

    Args:
        environ: The client's environment.
        home: The step's home folder, which is empty.

    Example:
        >>> found = for_subprocess({"PATH": "/usr/bin", "AWS_PROFILE": "mine", "LC_ALL": "C"}, Path("/tmp/x"))
        >>> sorted(found)
        ['HOME', 'LC_ALL', 'PATH', 'PYTHONUNBUFFERED', 'PYTHONUSERBASE']
    """
    kept = {
        name: text
        for name, text in environ.items()
        if name.upper() in _OF_THE_MACHINE or name.startswith(_KINDS)
    }
    programs = str(Path(sys.executable).parent)
    path = os.pathsep.join([programs, environ.get("PATH") or os.defpath])
    # it finds packages of `pip install --user`, which the other home does not
    base = {"PYTHONUSERBASE": site.getuserbase()}
    own = {"PATH": path, "HOME": str(home), **ORDERED}
    return {**kept, **_pip(environ), **base, **for_all(environ), **own}


def _pip(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the variable that names the user's configuration file of pip, with indexes and proxies, if it exists."""
    home = environ.get("HOME")
    if "PIP_CONFIG_FILE" in environ or not home:
        return {}
    found = (Path(home) / name for name in _PIP_FILES)
    return next(({"PIP_CONFIG_FILE": str(path)} for path in found if path.is_file()), {})
