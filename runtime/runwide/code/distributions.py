"""Find the installed distributions that modules come from, without importing them."""

from __future__ import annotations

import os
import re
import sys
from functools import lru_cache
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from importlib.metadata import Distribution

SITES = ("site-packages", "dist-packages")
"""Names of folders of installed packages."""
# The first three are in all our images. Pickles refer to cloudpickle, whose version is recorded separately.
_NO_REQUIREMENT = frozenset({"runwide", "runwide_components", "cloudpickle", "kfp", "__main__"})
_KEY = re.compile(r"(?P<name>[^ ()]+)(?: \((?P<module>[^ ()]+)\))?")


class Located(NamedTuple):
    """An installed module; its name is that of the regular package that contains it, if there is one."""

    name: str
    site: str
    file: str


def distributions(names: Iterable[str]) -> dict[str, str]:
    """Return the versions of the distributions that modules come from.

    Args:
        names: Names of modules. Modules of the standard library and of runwide, modules outside of folders of installed
            packages, and modules that are not found, are ignored. ``from google.cloud import storage`` gives the names
            ``google.cloud`` and ``google.cloud.storage``.

    Returns:
        Versions by the distribution's name, followed by the module's in parentheses if it differs:
        ``{"numpy": "2.1.0", "scikit-learn (sklearn)": "1.7.2"}``. The version is empty for a module without metadata.

    Example:
        >>> list(distributions(["json", "yaml", "click.core", "google.cloud.storage", "no_such_module"]))
        ['click', 'google-cloud-storage (google.cloud.storage)', 'PyYAML (yaml)']
    """
    found: dict[str, str] = {}
    for name in sorted(set(names)):
        located = located_module(name)
        if located is None:
            continue
        about = _distribution_of(located)
        if about is None:
            found.setdefault(key_of(located.name, located.name), "")
        elif not any(split_key(key)[0] == about[0] for key in found):
            found[key_of(about[0], located.name)] = about[1]
    return dict(sorted(found.items(), key=lambda item: item[0].lower()))


def key_of(distribution: str, module: str) -> str:
    """Return the name under which a distribution is recorded.

    Example:
        >>> key_of("google-auth", "google.auth"), key_of("typing-extensions", "typing_extensions")
        ('google-auth (google.auth)', 'typing-extensions')
    """
    same = "." not in module and canonical(distribution) == canonical(module)
    return distribution if same else f"{distribution} ({module})"


def split_key(key: str) -> tuple[str, str]:
    """Return the distribution and the module of a name that `key_of` has made.

    Example:
        >>> split_key("scikit-learn (sklearn)"), split_key("typing-extensions")
        (('scikit-learn', 'sklearn'), ('typing-extensions', 'typing_extensions'))
    """
    found = _KEY.fullmatch(key)
    if found is None:
        return key, key
    return found["name"], found["module"] or found["name"].replace("-", "_")


def installed_version(key: str) -> str | None:
    """Return the version here of a distribution that was recorded elsewhere; None if it is missing.

    The module may come from a distribution with another name here, such as ``opencv-python-headless`` for
    ``opencv-python``; the version of that one is returned. It is empty if the module has no metadata.

    Example:
        >>> installed_version("no-such-thing"), installed_version("click").count(".")
        (None, 2)
    """
    from importlib import metadata  # slow to load, and most functions need no package

    name, module = split_key(key)
    try:
        return metadata.version(name)
    except (metadata.PackageNotFoundError, ValueError):  # an empty name
        pass
    located = located_module(module)
    if located is None:
        is_here = module.partition(".")[0] in sys.stdlib_module_names or _regular(module) is not None
        return "" if is_here else None
    about = _distribution_of(located)
    return "" if about is None else about[1]


def canonical(name: str) -> str:
    """Return a distribution's name in the normalized form of PEP 503, by which indexes compare names.

    Example:
        >>> canonical("Typing_Extensions")
        'typing-extensions'
    """
    return re.sub(r"[-_.]+", "-", name).lower()


def located_module(name: str) -> Located | None:
    """Return the place of an installed module, or of the module of a dotted name; None for all other modules.

    Example:
        >>> located_module("click.core.Command").name, located_module("json"), located_module("runwide")
        ('click', None, None)
    """
    top = name.partition(".")[0]
    if top in _NO_REQUIREMENT or top in sys.stdlib_module_names:
        return None
    found = _regular(name)
    if found is None:
        return None
    module, origin = found
    for site in SITES:
        folder, between, file = origin.rpartition(f"{os.sep}{site}{os.sep}")
        if between:
            return Located(module, f"{folder}{os.sep}{site}", file.replace(os.sep, "/"))
    return None


def _regular(name: str) -> tuple[str, str] | None:
    """Return the first package or module on the path to a name that has a file, and the file."""
    folders: Sequence[str] | None = None
    parts = name.split(".")
    for stop in range(1, len(parts) + 1):
        spec = _spec(".".join(parts[:stop]), folders)
        if spec is None:
            return None
        if spec.has_location and spec.origin is not None:
            return ".".join(parts[:stop]), spec.origin
        if spec.submodule_search_locations is None:  # built in or frozen
            return None
        folders = tuple(spec.submodule_search_locations)
    return None


def _spec(name: str, folders: Sequence[str] | None) -> ModuleSpec | None:
    module = sys.modules.get(name)
    spec = vars(module).get("__spec__") if isinstance(module, ModuleType) else None
    if isinstance(spec, ModuleSpec):
        return spec
    try:
        return PathFinder.find_spec(name.rpartition(".")[2], folders)
    except Exception:  # an error of an entry of the path; importing the module raises it
        return None


def _distribution_of(located: Located) -> tuple[str, str] | None:
    """Return name and version of the distribution that has installed a module."""
    return _known(located, _state(located.site))


def _state(folder: str) -> int:
    try:
        return os.stat(folder).st_mtime_ns  # noqa: PTH116 - a text
    except OSError:
        return 0


@lru_cache(maxsize=1024)
def _known(located: Located, _: int) -> tuple[str, str] | None:
    from importlib import metadata

    found = [*metadata.distributions(name=located.name.partition(".")[0], path=[located.site])]
    for candidates in (found, metadata.distributions(path=[located.site])):
        for one in candidates:
            if _has(one, located.file):
                return one.metadata["Name"], one.version
    return next(((one.metadata["Name"], one.version) for one in found), None)


def _has(distribution: Distribution, file: str) -> bool:
    """Return whether a distribution has installed a file; searching its list as text is much faster than parsing it."""
    record = distribution.read_text("RECORD")
    if record is not None:
        return record.startswith(f"{file},") or f"\n{file}," in record or f'"{file}"' in record
    modules = (distribution.read_text("top_level.txt") or "").split()  # written by setuptools without wheels
    return file.partition("/")[0].partition(".")[0] in modules
