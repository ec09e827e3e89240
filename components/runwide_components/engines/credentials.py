"""The user's credentials for Google Cloud and the signing key, for steps on this machine."""

from __future__ import annotations

import sys
from pathlib import Path

from runwide import settings
from runwide.errors import InputError

KEY_FILE = "RUNWIDE_SIGNING_KEY_FILE"
_NAME = "application_default_credentials.json"


def credentials_file() -> str | None:
    """Return the file of the application-default credentials; None without one, as on a machine of Google Cloud.

    It is looked for where google.auth looks: in ``GOOGLE_APPLICATION_CREDENTIALS``, then in gcloud's folder.

    Raises:
        InputError: The variable names a missing file.
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
