"""The command ``runwide doctor``: check whether a job can run here."""

from __future__ import annotations

import json
import platform
import sys
import uuid
from dataclasses import asdict, dataclass
from importlib import import_module, metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from runwide import settings
from runwide.errors import InputError, RunwideError
from runwide.host import cgroup, checks, cores, gpu, hypervisor, memory, space
from runwide.host.checks import Check, State
from runwide.host.cores import count
from runwide.host.tree import Tree
from runwide.json_text import json_of
from runwide.streams import printable

if TYPE_CHECKING:
    from runwide.host import Cores
    from runwide.host.memory import Memory

FORMAT = 1  # of the JSON form
_OLDEST = (3, 10)
_IMAGE = Path("/opt/runwide/image.json")  # written when the image is built
_LOCKED = Path("/opt/runwide/constraints.txt")  # likewise
_NAMED = 5  # packages named in one line
# Packages that a job needs, each with the module to load as a test.
_NEEDED = {
    "runwide": "runwide.pool.worker",
    "click": "click",
    "cloudpickle": "cloudpickle",
    "google-cloud-storage": "google.cloud.storage",
    "rich": "rich.console",
    "structlog": "structlog",
    "threadpoolctl": "threadpoolctl",
}
_OPTIONAL = ("kfp", "numpy", "pandas", "pyarrow", "scikit-learn", "torch")
_STYLES = {State.OK: "green", State.WARNING: "yellow", State.FAILURE: "bold red"}


@dataclass(frozen=True, slots=True)
class _Machine:
    cores: Cores
    memory: Memory


@click.command("doctor")
@click.option(
    "--store", "uri", metavar="URI", help="Also write, read and delete a test object in this store."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def doctor_command(*, uri: str | None, as_json: bool) -> None:
    """Check whether a job can run here, and print the reasons if it cannot.

    The exit code is 1 if something would make a job fail.

    \b
    Example:
        runwide doctor --store gs://bucket/runs
    """  # noqa: D301 - \b is click's mark for a paragraph that keeps its lines
    found, machine = _examine(uri)
    failures = [check for check in found if check.state is State.FAILURE]
    if as_json:
        click.echo(json.dumps(_plain(found, machine), indent=2))
    else:
        _show(found)
    if failures:
        reasons = "; ".join(f"{check.name}: {check.says}" for check in failures)
        click.echo(f"runwide: a job would fail here: {reasons}", err=True)
        sys.exit(1)


def _examine(uri: str | None) -> tuple[list[Check], _Machine]:
    tree = Tree("/")
    asked = _settings()
    machine = _Machine(cores() if asked.state is State.OK else count(tree), memory.read())
    uri = uri or (settings.value("RUNWIDE_STORE") or None)
    found = [
        _python(),
        *_packages(),
        _image(),
        asked,
        *([signing_key()] if asked.state is State.OK else []),
        checks.judge_cores(machine.cores),
        checks.judge_pressure(cgroup.throttling(tree), hypervisor.steal(tree)),
        checks.judge_memory(machine.memory, machine.cores.count),
        checks.judge_oom_kills(machine.memory),
        checks.judge_processes(cgroup.pids(tree), machine.cores.count),
        checks.judge_shared_memory(space.measure(space.SHARED)),
        *([checks.judge_scratch(space.measure(space.scratch()))] if asked.state is State.OK else []),
        checks.judge_gpus(gpu.devices(tree)),
        *([store(uri)] if uri else []),
    ]
    return found, machine


def _settings() -> Check:
    try:
        settings.read()
    except InputError as error:
        return Check("settings", State.FAILURE, error.message, error.hint or "")
    return Check("settings", State.OK, "all RUNWIDE_ variables are valid")


def _python() -> Check:
    says = f"{platform.python_implementation()} {platform.python_version()} at {sys.executable}"
    if sys.version_info < _OLDEST:
        return Check("python", State.FAILURE, says, "use Python 3.10 or newer")
    return Check("python", State.OK, says)


def _packages() -> list[Check]:
    versions = {name: _version(name) for name in (*_NEEDED, *_OPTIONAL)}
    there = ", ".join(f"{name} {version}" for name, version in versions.items() if version)
    missing = [name for name in _NEEDED if not versions[name]]
    hint = "install runwide with its dependencies"
    if missing:
        return [Check("packages", State.FAILURE, f"without {', '.join(missing)}; with {there}", hint)]
    broken = [reason for module in _NEEDED.values() if (reason := _reason_not_to_load(module))]
    if broken:
        return [Check("packages", State.FAILURE, f"{'; '.join(broken)}; with {there}", hint), *_moved()]
    return [Check("packages", State.OK, there), *_moved()]


def _reason_not_to_load(module: str) -> str:
    try:
        import_module(module)
    except Exception as error:  # loading a package runs its code
        return f"{module} cannot be loaded ({type(error).__name__}: {error})"
    return ""


def _moved() -> list[Check]:
    """Check whether the image has other versions of packages than those that it was tested with."""
    try:
        lines = _LOCKED.read_text(encoding="utf-8").split()
    except FileNotFoundError:
        return []
    pins = dict(line.split("==") for line in lines)
    moved = [
        f"{name} {_version(name) or 'gone'} (was {locked})"
        for name, locked in pins.items()
        if _version(name) != locked
    ]
    if not moved:
        says = f"all {len(pins)} packages of the image have the versions that it was tested with"
        return [Check("locked", State.OK, says)]
    named = ", ".join(moved[:_NAMED]) + (", …" if len(moved) > _NAMED else "")
    says = f"{len(moved)} of {len(pins)} packages of the image have another version: {named}"
    return [Check("locked", State.WARNING, says, f"extend it with pip install -c {_LOCKED}")]


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""


def _image() -> Check:
    named = settings.value("RUNWIDE_IMAGE")
    try:
        identity = dict(json_of(_IMAGE.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return Check("image", State.OK, named or "not the runwide image")
    except (OSError, ValueError, TypeError) as error:
        return Check("image", State.WARNING, f"{_IMAGE} cannot be read: {error}")
    return Check("image", State.OK, ", ".join(f"{key} {value}" for key, value in sorted(identity.items())))


def signing_key() -> Check:
    """Check whether a signing key is set, and describe what runwide trusts without one."""
    from runwide.store import signing

    try:
        found = signing.key()
    except RunwideError as error:
        return Check("signing key", State.FAILURE, error.message, error.hint or "")
    if found is not None:
        return Check(
            "signing key",
            State.OK,
            "is set: objects that no reference names are trusted only if they are signed",
        )
    says = (
        "none is set: results in a store that no reference names are trusted as much as everyone who can write to "
        "the store; values of an Exchange may be plain data only"
    )
    return Check("signing key", State.OK, says, signing.HINT)


def store(uri: str) -> Check:
    """Write an object to a store, read it back, and delete it.

    Example:
        >>> store("memory://doctor").state.value
        'ok'
    """
    from runwide.store import open_store

    name, probe = f"runwide-doctor-{uuid.uuid4().hex}", uuid.uuid4().bytes
    doing = "opened"
    try:
        with open_store(uri) as opened:
            doing = "written to"
            opened.create(name, probe)
            doing = "read from"
            same = bytes(opened.read(name)) == probe
            doing = "deleted from"
            opened.delete(name)
    except RunwideError as error:
        says = f"cannot be {doing}: {type(error).__name__}: {error.message}"
        needed = doing != "deleted from"  # a bucket with a retention policy works as well
        return Check("store", State.FAILURE if needed else State.WARNING, f"{uri} {says}", error.hint or "")
    if not same:
        says = f"{uri} returned other bytes than were written"
        return Check("store", State.FAILURE, says, "use another store")
    return Check("store", State.OK, f"{uri}: written, read back and deleted")


def _plain(found: list[Check], machine: _Machine) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "ok": all(check.state is not State.FAILURE for check in found),
        "checks": [asdict(check) for check in found],
        "cores": machine.cores.as_dict(),
        "memory": {**asdict(machine.memory), "size": machine.memory.size},
    }


def _show(found: list[Check]) -> None:
    from rich.text import Text

    from runwide.cli.output import plain_table, print_table

    table = plain_table("check", "state", "says", header=False)
    for check in found:
        hint = f" -> {check.hint}" if check.hint else ""
        table.add_row(
            Text(check.name),
            Text(check.state.value, _STYLES[check.state]),
            Text(printable(check.says + hint)),
        )
    print_table(table)
