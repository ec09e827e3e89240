"""Secrets that a step reads itself, so that no pipeline holds them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from runwide import settings
from runwide.errors import InputError
from runwide.redaction import hide

if TYPE_CHECKING:
    from collections.abc import Iterable

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_SECRET = re.compile(r"projects/[A-Za-z0-9:._-]+/secrets/[A-Za-z0-9_-]+/versions/[A-Za-z0-9_-]+")


def check_secret(variable: str, secret: str) -> None:
    """Refuse what names no variable, or no secret.

    Args:
        variable: Name of a variable of the environment.
        secret: Name of a secret in Secret Manager.

    Raises:
        InputError: It cannot be meant.

    Example:
        >>> check_secret("API_KEY", "projects/shop/secrets/api-key/versions/1")
    """
    if not _VARIABLE.fullmatch(variable):
        raise InputError(f"{variable!r} is not the name of a variable", hint='give one such as "API_KEY"')
    if not _SECRET.fullmatch(secret):
        raise InputError(
            f"the secret of {variable} is not named as Secret Manager does",
            hint="give projects/P/secrets/S/versions/V, not the value itself",
        )


def set_secrets(pairs: Iterable[tuple[str, str]]) -> None:
    """Read secrets, and set them as variables of this process's environment, which its workers inherit.

    Args:
        pairs: Of each the variable, and the name of its secret.

    Raises:
        InputError: Something of it cannot be meant.
        StoreError: Secret Manager refuses, or does not answer.
    """
    for variable, secret in pairs:
        check_secret(variable, secret)
        from runwide.spill.google import secret_value

        value = secret_value(secret).decode()
        hide(value)
        settings.set_value(variable, value)
