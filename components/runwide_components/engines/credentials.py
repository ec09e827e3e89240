"""The user's own credentials for Google Cloud and signing key, so that steps on this machine can use them too."""

from __future__ import annotations

import sys
from pathlib import Path

from runwide import settings
from runwide.errors import InputError

KEY_FILE = "RUNWIDE_SIGNING_KEY_FILE"
_NAME = "application_default_credentials.json"


def credentials_file() -> str | None:
    """The file of the application-default credentials; None where there is none, as on a machine of Google's.

    Its place is the one where google.auth looks: what ``GOOGLE_APPLICATION_CREDENTIALS`` names, or gcloud's folder.

    Raises:
        InputError: The variable names a file that is not there.
    """
    named = settings.value("GOOGLE_APPLICATION_CREDENTIALS")
    if named:
        if not Path(named).is_file():
            raise InputError(
                "GOOGLE_APPLICATION_CREDENTIALS names a file that is not there",
                uri=named,
                hint="gcloud auth application-default login makes one, or unset it",
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
    """The signing key, also where this process is a worker, whose own environment does not have it."""
    text = settings.signing_key()
    return {settings.SIGNING_KEY: text} if text else {}


def key_files() -> dict[str, str]:
    """The file with the signing key, where there is one, by the variable that names it."""
    file = settings.value(KEY_FILE)
    return {KEY_FILE: str(Path(file).resolve())} if file else {}
