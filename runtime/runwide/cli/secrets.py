"""Secrets that a step reads itself, so that they are not in the pipeline."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from runwide import settings
from runwide.errors import InputError, StoreError
from runwide.redaction import hide

if TYPE_CHECKING:
    from collections.abc import Iterable

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_SECRET = re.compile(r"(projects/[A-Za-z0-9:._-]+/secrets/[A-Za-z0-9_-]+)(/versions/[A-Za-z0-9_-]+)?")


_ROLE = "roles/secretmanager.secretAccessor"


def check_variable(name: str) -> None:
    """Reject an invalid name of an environment variable.

    Raises:
        InputError: The name has other characters than letters, digits and underscores.

    Example:
        >>> check_variable("API_KEY")
    """
    if not _VARIABLE.fullmatch(name):
        raise InputError(f"{name!r} is not the name of a variable", hint='give one such as "API_KEY"')


def full_name(variable: str, secret: str) -> str:
    """Return the full name of a secret; without a version, it gets the latest.

    Args:
        variable: The name of the environment variable for the secret.
        secret: The name of the secret in Secret Manager.

    Raises:
        InputError: A name is invalid.

    Example:
        >>> full_name("API_KEY", "projects/shop/secrets/api-key")
        'projects/shop/secrets/api-key/versions/latest'
    """
    check_variable(variable)
    found = _SECRET.fullmatch(secret)
    if not found:
        raise InputError(
            f"the secret of {variable} is no name of a secret in Secret Manager",
            hint="give projects/P/secrets/S/versions/V, not the value itself",
        )
    return f"{found[1]}{found[2] or '/versions/latest'}"


HIDDEN = "RUNWIDE_STEP_SECRETS"
"""A variable that lists the variables that the engine has set to secrets."""


def hide_given() -> None:
    """Hide the secrets in log lines that the engine has set as variables."""
    for name in (settings.value(HIDDEN) or "").split(","):
        if name and (value := settings.value(name)):
            hide(value)


def set_secrets(pairs: Iterable[tuple[str, str]]) -> None:
    """Read secrets, set them as environment variables of this process and its workers, and hide them in log lines.

    Args:
        pairs: Each variable with the name of its secret.

    Raises:
        InputError: A name is invalid.
        StoreError: Secret Manager refuses, or does not answer.
    """
    for variable, secret in pairs:
        name = full_name(variable, secret)
        from runwide.spill.google import secret_value

        try:
            value = secret_value(name).decode()
        except StoreError as error:
            error.hint = f"give the step's service account the role {_ROLE} on the secret; see docs/guide.md"
            raise
        hide(value)
        settings.set_value(variable, value)
