"""Secrets that a step reads itself, so that no pipeline holds them."""

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
    """Reject what cannot be the name of a variable.

    Args:
        name: The name.

    Raises:
        InputError: It has other characters than letters, digits and underscores.

    Example:
        >>> check_variable("API_KEY")
    """
    if not _VARIABLE.fullmatch(name):
        raise InputError(f"{name!r} is not the name of a variable", hint='give one such as "API_KEY"')


def full_name(variable: str, secret: str) -> str:
    """Return the full name of a secret, whose latest version is used where none is given.

    Args:
        variable: Name of a variable of the environment.
        secret: Name of a secret in Secret Manager.

    Raises:
        InputError: It cannot be meant.

    Example:
        >>> full_name("API_KEY", "projects/shop/secrets/api-key")
        'projects/shop/secrets/api-key/versions/latest'
    """
    check_variable(variable)
    found = _SECRET.fullmatch(secret)
    if not found:
        raise InputError(
            f"the secret of {variable} is not named as Secret Manager does",
            hint="give projects/P/secrets/S/versions/V, not the value itself",
        )
    return f"{found[1]}{found[2] or '/versions/latest'}"


HIDDEN = "RUNWIDE_STEP_SECRETS"
"""A variable with the names of those that an engine has set to secrets, which are taken out of log lines, too."""


def hide_given() -> None:
    """Take the values of secrets that the engine has set out of log lines, as those that the step reads itself."""
    for name in (settings.value(HIDDEN) or "").split(","):
        if name and (value := settings.value(name)):
            hide(value)


def set_secrets(pairs: Iterable[tuple[str, str]]) -> None:
    """Read secrets, and set them as variables of this process's environment, which its workers inherit.

    Args:
        pairs: Of each the variable, and the name of its secret.

    Raises:
        InputError: Something of it cannot be meant.
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
