"""The command ``runwide keygen``, which makes a signing key."""

from __future__ import annotations

import os
import re
import shlex
import sys
from pathlib import Path

import click

from runwide.errors import InputError
from runwide.store import signing

_SECRET = re.compile(r"[A-Za-z0-9_-]{1,255}")
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0)


@click.command("keygen")
@click.argument("file", type=click.Path(path_type=Path), required=False)
@click.option("--secret", metavar="NAME", help="Print commands that store a new key in Secret Manager.")
@click.option("--project", metavar="ID", default="PROJECT", help="The project of the secret.")
def keygen_command(file: Path | None, *, secret: str | None, project: str) -> None:
    """Make a signing key, which proves that objects in a store come from its owner (SECURITY.md).

    The key is written to FILE, readable only by its owner. Without FILE it is printed, for another program to read. All
    components and clients need the same key, and it must not be stored in the bucket.

    \b
    Example:
        runwide keygen ~/.runwide-key
        runwide keygen --secret runwide-key --project shop
    """  # noqa: D301 - \b is click's mark for a paragraph that keeps its lines
    if secret is not None:
        if file is not None:
            raise InputError("FILE and --secret are both given", hint="leave out one of them")
        for line in _commands(secret, project):
            click.echo(line)
        return
    key = signing.new_key()
    if file is None:
        click.echo(key)
        return
    _write(file, key)
    click.echo(_set("RUNWIDE_SIGNING_KEY_FILE", str(file.absolute())))


def _commands(secret: str, project: str) -> list[str]:
    """Return the commands that make a secret without showing it, and that set the variable with its name."""
    if not _SECRET.fullmatch(secret):
        raise InputError(
            f"{secret!r} is not the name of a secret", hint="use letters, digits, hyphens and underscores"
        )
    where = f"--project={shlex.quote(project)}"
    return [
        f"runwide keygen | gcloud secrets create {secret} {where} --replication-policy=automatic --data-file=-",
        _set("RUNWIDE_SIGNING_KEY_SECRET", f"projects/{project}/secrets/{secret}/versions/latest"),
    ]


def _set(variable: str, value: str) -> str:
    """Return the command that sets a variable in this system's shell."""
    if sys.platform == "win32":
        return f"$env:{variable} = '{value.replace(chr(39), chr(39) * 2)}'"
    return f"export {variable}={shlex.quote(value)}"


def _write(path: Path, key: str) -> None:
    try:
        descriptor = os.open(path, _NEW, 0o600)
    except FileExistsError as error:
        raise InputError(
            "the file exists, and may hold a key that is in use",
            uri=str(path),
            hint="name another file",
        ) from error
    except OSError as error:
        raise InputError(f"the key cannot be written ({error.strerror})", uri=str(path)) from error
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        if hasattr(os, "fchmod"):  # on Windows, the folder decides who may read the file
            os.fchmod(descriptor, 0o600)  # whatever the umask
        file.write(f"{key}\n")
