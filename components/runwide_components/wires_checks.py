"""Check the arguments of a fan-out: names, stores, counts and types."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runwide.calls import imported
from runwide.errors import InputError
from runwide.spill import windows
from runwide.spill.store import without_fields
from runwide_components.channels import declared, is_artifact, is_of_loop

if TYPE_CHECKING:
    from runwide_components.steps import Input


def check_constant_names(constants: Any) -> None:
    """Reject constants that are not a dict of names.

    Raises:
        InputError: They are not a dict, or a name is not a text.
    """
    if not isinstance(constants, Mapping) or not all(isinstance(name, str) for name in constants):
        raise InputError(
            f"constants= is a {type(constants).__name__}, not a dict of names",
            hint='give one such as {"factor": 2}; a parameter of the pipeline is a value in it',
        )


def absolute(text: Any, what: str) -> Any:
    """Return a local folder as an absolute URI: steps have other working directories.

    Args:
        text: A store or folder; any other value is returned unchanged.
        what: Name of the argument, for errors.
    """
    if not isinstance(text, str):
        return text
    text = str.__str__(text)  # kfp accepts no subclass of str, such as a member of an enum
    without_fields(text, what)
    if not text or "://" in text or text.startswith("{{") or _is_elsewhere(text):
        return text
    try:
        return str(Path(text).absolute()) if "{{" in text else Path(text).resolve().as_uri()
    except ValueError as error:  # a null character
        raise InputError(
            f"invalid {what}={text!r}: not a path ({error})", hint="give a URI such as gs://bucket/runs"
        ) from error


def _is_elsewhere(text: str) -> bool:
    """Return True for a path of the steps' system on a client with Windows, where absolute paths have a drive."""
    return windows.is_here() and text.startswith("/")


def known_function(function: Any) -> Callable[..., Any] | None:
    """Return the function, also for a name; None if it cannot be imported here.

    Raises:
        InputError: The name is invalid, or names something else.
    """
    if not isinstance(function, str):
        return function if callable(function) else None
    if not re.fullmatch(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*", function):
        raise InputError(f"invalid name of a function {function!r}", hint='give "package.module:function"')
    try:
        value: Any = imported(function)
    except Exception:  # the image has the module, and this machine need not have it
        return None
    if not callable(value):
        raise InputError(
            f"{function} is a {type(value).__name__}, not a function", hint='give "package.module:function"'
        )
    found: Callable[..., Any] = value
    return found


def checked(value: Any, port: Input) -> Any:
    """Return the value of an input in the form that kfp accepts.

    Raises:
        InputError: The value is invalid for the input.
    """
    if isinstance(value, str) and re.search(r"\{\{.*\}\}", value):
        raise InputError(
            f"{port.name}={value!r} has a placeholder that no engine replaces",
            hint="put a parameter of the pipeline into the text, or one of the placeholders of kfp.dsl",
        )
    if (
        not isinstance(value, port.type)
        or isinstance(value, bool)
        or not value
        or (port.type is int and value < 1)
    ):
        raise InputError(
            f"invalid {port.name}={value!r}",
            hint="give a number of 1 or more"
            if port.type is int
            else 'give a URI such as "gs://bucket/runs"',
        )
    return port.type(value)  # kfp accepts no member of an enum


def check_type(channel: Any, name: str, wanted: type) -> None:
    """Reject a parameter or output with another type than an input.

    Raises:
        InputError: It has another type.
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
    """Return the error for items that are a parameter of another type."""
    return InputError(
        f"items is a {items.channel_type} of the pipeline, not a list",
        hint="annotate it as list, or give a URI as str",
    )
