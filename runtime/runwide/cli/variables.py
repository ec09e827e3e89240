"""Environment variables and secrets of a step."""

from __future__ import annotations

import json
import os
import re
import sys
import time
from functools import wraps
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlencode

from runwide import settings
from runwide.cli import options
from runwide.errors import InputError, StoreError
from runwide.redaction import hide, shortened

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path


NONE = "-"
"""The text for no variables: some engines do not pass empty texts."""


def configured(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--env``, ``--env-text`` and ``--secret`` to the function of a click command, and set their variables first."""

    @wraps(command)
    def run(
        *args: Any,
        env: tuple[tuple[str, str], ...],
        env_text: tuple[str, ...],
        secrets: tuple[tuple[str, str], ...],
        **given: Any,
    ) -> Any:
        set_variables((*env, *(pair for text in env_text for pair in variables_of(text))))
        set_secrets(secrets)
        hide_given()
        return command(*args, **given)

    for option in (options.secret, options.env_text, options.env):
        run = option(run)
    return run


def composing(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of `configured`, ``--composed-env`` and ``--env-out`` to a command that has ``--given``."""
    inner = configured(command)

    @wraps(inner)
    def run(
        *args: Any,
        composed_env: tuple[tuple[str, str], ...],
        env_out: Path | None,
        **given: Any,
    ) -> Any:
        from runwide.cli import output

        found = composed_variables(composed_env, dict(given["given"]))
        given["env"] = (*given["env"], *found)
        output.write_text(env_out, variables_text(found))
        return inner(*args, **given)

    for option in (options.env_out, options.composed_env):
        run = option(run)
    return run


def check_env(name: str) -> None:
    """Reject an invalid name of a variable, and a variable that must not be written into a pipeline.

    Example:
        >>> check_env("TZ")
    """
    check_variable(name)
    if name == settings.SIGNING_KEY:
        raise InputError(
            f"env= has {name}, which would be written into the pipeline, where others can read it",
            hint="keep the key in Secret Manager, and set RUNWIDE_SIGNING_KEY_SECRET to its name; "
            "runwide passes that variable to the steps",
        )


def set_variables(pairs: Iterable[tuple[str, str]]) -> None:
    """Set variables of this process; its workers inherit them.

    ``PYTHONPATH`` and ``TZ`` take effect in this process too, although Python reads them only when it starts.
    """
    found = dict(pairs)
    for name, value in found.items():
        check_env(name)
        settings.set_value(name, value)
    added = [folder for folder in found.get("PYTHONPATH", "").split(os.pathsep) if folder]
    sys.path[:0] = [folder for folder in added if folder not in sys.path]
    if "TZ" in found and hasattr(time, "tzset"):
        time.tzset()


def variables_text(pairs: Iterable[tuple[str, str]]) -> str:
    """Return variables as one text without quotes and braces, so that every engine passes it unchanged.

    Example:
        >>> variables_text([("A", "1 {{x}}")]), variables_text([])
        ('A=1+%7B%7Bx%7D%7D', '-')
    """
    return urlencode(list(pairs)) or NONE


def variables_of(text: str) -> list[tuple[str, str]]:
    """Return the variables in a text that `variables_text` made.

    Example:
        >>> variables_of("A=1+%7B%7Bx%7D%7D&B="), variables_of("-")
        ([('A', '1 {{x}}'), ('B', '')], [])
    """
    if text == NONE:
        return []
    try:
        return parse_qsl(text, keep_blank_values=True, strict_parsing=True, max_num_fields=10_000)
    except ValueError as error:
        raise InputError(
            f"invalid --env-text {shortened(text, 80)!r} ({error})",
            hint="give NAME=VALUE&NAME=VALUE, quoted as in a URL",
        ) from error


def composed_variables(pairs: Iterable[tuple[str, str]], given: Mapping[str, str]) -> list[tuple[str, str]]:
    """Return the variables whose values contain parameters of the pipeline.

    A variable that consists of one parameter is missing from the result if the parameter was left out.

    Args:
        pairs: Name of each variable, and the JSON of its text with parameters.

    Example:
        >>> composed_variables([("DAY", '["d-", {"name": "n", "type": "int"}]')], {"n": "3.0"})
        [('DAY', 'd-3')]
    """
    from runwide.cli.given import composed

    found = []
    for name, text in pairs:
        template = composed(text, f"--composed-env {name}")
        only = template.parts[0] if len(template.parts) == 1 else ""
        if isinstance(only, str):
            found.append((name, template.text(given)))
        elif not only.is_left_out(given):
            value = only.value(given)
            found.append((name, json.dumps(value) if isinstance(value, (dict, list)) else str(value)))
    return found


_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_SECRET = re.compile(r"(projects/[A-Za-z0-9:._-]+/secrets/[A-Za-z0-9_-]+)(/versions/[A-Za-z0-9_-]+)?")


_ROLE = "roles/secretmanager.secretAccessor"


def check_variable(name: str) -> None:
    """Reject an invalid name of an environment variable.

    Example:
        >>> check_variable("API_KEY")
    """
    if not _VARIABLE.fullmatch(name):
        raise InputError(f"{name!r} is not the name of a variable", hint='give one such as "API_KEY"')


def full_name(variable: str, secret: str) -> str:
    """Return the full name of a secret; without a version, it gets the latest.

    Example:
        >>> full_name("API_KEY", "projects/shop/secrets/api-key")
        'projects/shop/secrets/api-key/versions/latest'
    """
    check_variable(variable)
    found = _SECRET.fullmatch(secret)
    if not found:
        raise InputError(
            f"the secret of {variable} is not the name of a secret in Secret Manager",
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

    Raises:
        StoreError: Secret Manager refuses, or does not answer.
    """
    for variable, secret in pairs:
        name = full_name(variable, secret)
        from runwide.store.google import secret_value

        try:
            value = secret_value(name).decode()
        except StoreError as error:
            error.hint = f"give the step's service account the role {_ROLE} on the secret; see docs/guide.md"
            raise
        hide(value)
        settings.set_value(variable, value)
