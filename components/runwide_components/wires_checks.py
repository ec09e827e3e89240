"""Check what a fan-out is given: names, places, counts and types."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Mapping
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runwide.errors import InputError
from runwide.spill import windows
from runwide.spill.store import without_fields
from runwide_components.channels import declared, is_artifact, is_of_loop

if TYPE_CHECKING:
    from runwide_components.steps import Input


def check_names(constants: Any) -> None:
    """Reject constants that are no dict of names.

    Raises:
        InputError: They are not.
    """
    if not isinstance(constants, Mapping) or not all(isinstance(name, str) for name in constants):
        raise InputError(
            f"constants= is a {type(constants).__name__}, not a dict of names",
            hint='give one such as {"factor": 2}; a parameter of the pipeline is a value in it',
        )


def absolute(text: Any, what: str) -> Any:
    """A local folder in full: steps do not run where the pipeline was compiled."""
    if not isinstance(text, str):
        return text
    text = str.__str__(text)  # kfp takes no member of an enum, nor any other subclass
    without_fields(text, what)
    if not text or "://" in text or text.startswith("{{") or _is_elsewhere(text):
        return text
    try:
        return str(Path(text).absolute()) if "{{" in text else Path(text).resolve().as_uri()
    except ValueError as error:  # a null character
        raise InputError(
            f"{what}={text!r} is no path ({error})", hint="give a URI such as gs://bucket/runs"
        ) from error


def _is_elsewhere(text: str) -> bool:
    """Whether a folder is one of the steps' system: on Windows, a whole path has a drive."""
    return windows.is_here() and text.startswith("/")


def known_function(function: Any) -> Callable[..., Any] | None:
    """The function itself, also of one that is named; None where it cannot be imported here."""
    if not isinstance(function, str):
        return function if callable(function) else None
    if not re.fullmatch(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*", function):
        raise InputError(f"{function!r} does not name a function", hint='write "package.module:function"')
    module, _, name = function.partition(":")
    try:
        value: Any = reduce(getattr, name.split("."), importlib.import_module(module))
    except Exception:  # it is in the image, and need not be here
        return None
    if not callable(value):
        raise InputError(
            f"{function} is a {type(value).__name__}, not a function", hint='write "package.module:function"'
        )
    found: Callable[..., Any] = value
    return found


def checked(value: Any, port: Input) -> Any:
    """Return the value of an input as kfp takes it.

    Raises:
        InputError: It cannot be that input's.
    """
    if isinstance(value, str) and re.search(r"\{\{.*\}\}", value):
        raise InputError(
            f"{port.name}={value!r} has braces that nothing replaces",
            hint="put a parameter of the pipeline into the text, or one of the placeholders of kfp.dsl",
        )
    if (
        not isinstance(value, port.type)
        or isinstance(value, bool)
        or not value
        or (port.type is int and value < 1)
    ):
        raise InputError(
            f"{port.name}={value!r} cannot be meant",
            hint="give a number of 1 or more"
            if port.type is int
            else 'give a URI such as "gs://bucket/runs"',
        )
    return port.type(value)  # kfp takes no member of an enum


def check_type(channel: Any, name: str, wanted: type) -> None:
    """Reject a parameter or output of another type than an input has.

    Raises:
        InputError: It is of another type.
    """
    if is_artifact(channel) or declared(channel).kind not in (
        wanted.__name__,
        *(["json"] if is_of_loop(channel) else []),
    ):
        raise InputError(
            f"{name} is a {channel.channel_type} of the pipeline, not a {wanted.__name__}",
            hint=f"annotate it as {wanted.__name__}",
        )


def no_list(items: Any) -> InputError:
    """Return the error of items that are a parameter of another type."""
    return InputError(
        f"items is a {items.channel_type} of the pipeline, not a list",
        hint="annotate it as list, or give a URI as str",
    )
