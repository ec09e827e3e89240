"""The environment, credentials and stores of steps on this machine: no more than in a cloud."""

from __future__ import annotations

import os
import site
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runwide import settings
from runwide.errors import InputError
from runwide_components.checks import shared_store
from runwide_components.engines.fitting import defaults_of, store_parameters, stores_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


KEY_FILE = "RUNWIDE_SIGNING_KEY_FILE"
_NAME = "application_default_credentials.json"


def credentials_file() -> str | None:
    """Return the file of the application-default credentials; None without one, as on a machine of Google Cloud.

    It is looked for where google.auth looks: in ``GOOGLE_APPLICATION_CREDENTIALS``, then in gcloud's folder.
    """
    named = settings.value("GOOGLE_APPLICATION_CREDENTIALS")
    if named:
        if not Path(named).is_file():
            raise InputError(
                "GOOGLE_APPLICATION_CREDENTIALS names a missing file",
                uri=named,
                hint="log in with: gcloud auth application-default login; or unset the variable",
            )
        return str(Path(named).resolve())
    folder = settings.value("CLOUDSDK_CONFIG")
    found = Path(folder or _gcloud_folder()) / _NAME
    return str(found.resolve()) if found.is_file() else None


def _gcloud_folder() -> Path:
    if sys.platform == "win32":
        return Path(settings.value("APPDATA") or Path.home() / "AppData" / "Roaming") / "gcloud"
    return Path.home() / ".config" / "gcloud"


def key() -> dict[str, str]:
    """Return the signing key as a variable, also in a worker, whose environment does not have it."""
    text = settings.signing_key()
    return {settings.SIGNING_KEY: text} if text else {}


def key_files() -> dict[str, str]:
    """Return the file with the signing key, if there is one, by the variable that names it."""
    file = settings.value(KEY_FILE)
    return {KEY_FILE: str(Path(file).resolve())} if file else {}


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


def absolute_stores(spec: Any, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of a run with relative stores, and any `pathlib.Path`, made absolute.

    A parameter is a store if its whole value is the store of a fan-out, also of one in a pipeline inside of this one. A
    relative default becomes an argument.
    """
    wanted = store_parameters(spec)
    defaults = defaults_of(spec.root)
    relative = {name: defaults[name] for name in wanted if is_relative(defaults.get(name))}
    return {
        name: in_full(value) if name in wanted or isinstance(value, os.PathLike) else value
        for name, value in {**relative, **arguments}.items()
    }


def in_full(value: Any) -> Any:
    """Return a store with a relative folder made absolute, and any other value unchanged.

    Example:
        >>> in_full("gs://bucket/runs"), in_full("runs") == str(Path("runs").absolute())
        ('gs://bucket/runs', True)
    """
    value = os.fspath(value) if isinstance(value, os.PathLike) else value
    return str(Path(value).absolute()) if is_relative(value) else value


def is_relative(value: Any) -> bool:
    """Return True if a store is a folder relative to the working directory.

    Args:
        value: The store. A placeholder of kfp is not known yet, and gives False.

    Example:
        >>> [is_relative(store) for store in ("runs", "/mnt/runs", "file:///mnt/runs", "{{channel}}", None)]
        [True, False, False, False, False]
    """
    known = isinstance(value, str) and value and "://" not in value and "{{" not in value
    # opening the store rejects these
    odd = isinstance(value, str) and value.startswith(("~", "file:"))
    return bool(known) and not odd and not Path(value).is_absolute()


def refuse_stores(spec: Any, arguments: Mapping[str, Any], more: Iterable[str | None] = ()) -> None:
    """Reject stores that steps on this machine cannot reach.

    `absolute_stores` has replaced relative stores in arguments. The others are items of a loop, or composed texts.

    Args:
        more: Further stores, which may be relative; None is ignored.
    """
    found = () if spec is None else tuple(stores_of(spec, absolute_stores(spec, arguments), ours=True))
    for store in (one for one in (*more, *found) if one):
        shared_store(store)
    for store in found:
        if is_relative(store):
            raise InputError(
                f"a fan-out of this pipeline has the relative store {store!r}: steps have other working directories",
                hint=f"give an absolute path, such as {str(Path(store).absolute())!r}, or gs://bucket/prefix",
            )
