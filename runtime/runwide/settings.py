"""The only reader of the environment."""

from __future__ import annotations

import os
from dataclasses import dataclass

from runwide.errors import InputError


@dataclass(frozen=True, slots=True)
class Settings:
    """What the environment says, parsed.

    Args:
        workers: ``RUNWIDE_WORKERS``: number of workers, instead of the number of cores.
        store: ``RUNWIDE_STORE``: default store of jobs.
        scratch: ``RUNWIDE_SCRATCH``: directory for large payloads between processes.
        image: ``RUNWIDE_IMAGE``: image of the components.
        log_format: ``RUNWIDE_LOG``: ``json``, ``text``, or empty for what suits the output.
        log_level: ``RUNWIDE_LOG_LEVEL``: ``debug``, ``info``, ``warning`` or ``error``.
    """

    workers: int | None = None
    store: str | None = None
    scratch: str | None = None
    image: str | None = None
    log_format: str = ""
    log_level: str = "info"


def read() -> Settings:
    """Read the environment now.

    Raises:
        InputError: A variable has a value that cannot be meant.

    Example:
        >>> read().log_level
        'info'
    """
    env = os.environ
    return Settings(
        workers=_positive("RUNWIDE_WORKERS"),
        store=env.get("RUNWIDE_STORE") or None,
        scratch=env.get("RUNWIDE_SCRATCH") or None,
        image=env.get("RUNWIDE_IMAGE") or None,
        log_format=_one_of("RUNWIDE_LOG", ("", "json", "text")),
        log_level=_one_of("RUNWIDE_LOG_LEVEL", ("info", "debug", "warning", "error")),
    )


def is_set(name: str) -> bool:
    """Whether the user has set a variable, to any value, so that theirs wins."""
    return name in os.environ


def _positive(name: str) -> int | None:
    text = os.environ.get(name)
    if not text:
        return None
    if not text.strip().isdigit() or int(text) < 1:
        raise InputError(f"{name}={text!r} is not a positive whole number", hint=f"set {name} to 1 or more, or unset it")
    return int(text)


def _one_of(name: str, allowed: tuple[str, ...]) -> str:
    text = os.environ.get(name, "").lower() or allowed[0]
    if text not in allowed:
        names = ", ".join(value for value in allowed if value)
        raise InputError(f"{name}={text!r} is not one of {names}", hint=f"set {name} to one of them, or unset it")
    return text
