"""Variables and secrets of a step, set in its process before anything of the user's is loaded."""

from __future__ import annotations

import json
import os
import sys
import time
from functools import wraps
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlencode

from runwide import settings
from runwide.cli import options
from runwide.cli.secrets import check_variable, hide_given, set_secrets
from runwide.errors import InputError
from runwide.redaction import shortened

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

NONE = "-"
"""The text for no variables: some engines pass no empty text on."""


def configured(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command ``--env``, ``--env-text`` and ``--secret``, whose variables are set before it begins.

    Args:
        command: The function of a click command.
    """

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
    """Give a command ``--composed-env`` and ``--env-out``; it needs the options of `configured`, and ``--given``.

    Args:
        command: The function of a click command.
    """
    inner = configured(command)

    @wraps(inner)
    def run(
        *args: Any,
        composed_env: tuple[tuple[str, str], ...],
        env_out: Path | None,
        **given: Any,
    ) -> Any:
        from runwide.cli import files

        found = composed_variables(composed_env, dict(given["given"]))
        given["env"] = (*given["env"], *found)
        files.write(env_out, text_of(found))
        return inner(*args, **given)

    for option in (options.env_out, options.composed_env):
        run = option(run)
    return run


def check_env(name: str) -> None:
    """Reject the name of a variable that must not be written into a pipeline.

    Args:
        name: The variable.

    Raises:
        InputError: It is no name of a variable, or the variable is the signing key.

    Example:
        >>> check_env("TZ")
    """
    check_variable(name)
    if name == settings.SIGNING_KEY:
        raise InputError(
            f"{name} in env= would be written into the pipeline, where others can read it",
            hint="keep the key in Secret Manager, and set RUNWIDE_SIGNING_KEY_SECRET to its name: it travels by itself",
        )


def set_variables(pairs: Iterable[tuple[str, str]]) -> None:
    """Set variables of this process, which its workers inherit.

    ``PYTHONPATH`` and ``TZ`` take effect in this process as well, which has read them when it started.

    Args:
        pairs: Names and values.

    Raises:
        InputError: A name is invalid.
    """
    found = dict(pairs)
    for name, value in found.items():
        check_env(name)
        settings.set_value(name, value)
    added = [folder for folder in found.get("PYTHONPATH", "").split(os.pathsep) if folder]
    sys.path[:0] = [folder for folder in added if folder not in sys.path]
    if "TZ" in found and hasattr(time, "tzset"):
        time.tzset()


def text_of(pairs: Iterable[tuple[str, str]]) -> str:
    """Return variables as one text without quotes or braces, which every engine passes on as it is.

    Args:
        pairs: Names and values.

    Example:
        >>> text_of([("A", "1 {{x}}")]), text_of([])
        ('A=1+%7B%7Bx%7D%7D', '-')
    """
    return urlencode(list(pairs)) or NONE


def variables_of(text: str) -> list[tuple[str, str]]:
    """Return the variables of a text, see `text_of`.

    Args:
        text: The text.

    Raises:
        InputError: It is none.

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
            f"--env-text {shortened(text, 80)!r} has no variables ({error})",
            hint="give NAME=VALUE&NAME=VALUE",
        ) from error


def composed_variables(pairs: Iterable[tuple[str, str]], given: Mapping[str, str]) -> list[tuple[str, str]]:
    """Return variables whose values have parameters of a pipeline in them; one whose parameter was left out is none.

    Args:
        pairs: Of each the name, and the JSON of a text with parameters.
        given: Texts of the parameters by name.

    Raises:
        InputError: A text with more in it than the parameter has one that was left out, or it is none.

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
