"""Values as a pipeline engine hands them to a command: text of a known type, or a reference to a longer text."""

from __future__ import annotations

import json
import platform
from typing import Any

from runwide import settings
from runwide.errors import EnvironmentMismatch, InputError
from runwide.job.environment import minor
from runwide.job.reference import parse
from runwide.parsing import json_of
from runwide.redaction import shortened
from runwide.spill import open_store
from runwide.spill.verified import fetch

_KINDS = ("str", "int", "float", "bool", "list", "dict")


def value_of(kind: str, text: str) -> Any:
    """A pipeline parameter from its text.

    Engines keep every number as a double and print it as they like, so in lists and dicts a whole number is an
    int, whether it comes as ``1`` or ``1.0``.

    Args:
        kind: ``str``, ``int``, ``float``, ``bool``, ``list`` or ``dict``.
        text: A string as it is, anything else as JSON.

    Raises:
        InputError: The text is not of that kind.

    Example:
        >>> value_of("list", '[1.0, 2.5, {"a": 3.0}]')
        [1, 2.5, {'a': 3}]
        >>> value_of("float", "1")
        1.0
    """
    if kind == "str":
        return text
    try:
        found = json_of(text, depth=settings.max_json_depth())
    except ValueError as error:
        raise InputError(f"{shortened(text, 80)!r} is not a {kind} of a pipeline ({error})") from error
    number = isinstance(found, (int, float)) and not isinstance(found, bool)
    if kind == "float" and number:
        return float(found)
    found = _whole(found)
    if kind not in _KINDS or type(found).__name__ != kind:
        raise InputError(
            f"{shortened(text, 80)!r} is not a {kind} of a pipeline", hint=f"kinds are {', '.join(_KINDS)}"
        )
    return found


def _whole(value: Any) -> Any:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, list):
        return [_whole(one) for one in value]
    if isinstance(value, dict):
        return {name: _whole(one) for name, one in value.items()}
    return value


def text_of(reference: str) -> str:
    """The text that a reference stands for, held against its digest.

    Raises:
        BadReference: It is none.
        ObjectNotFound: There is no such object.
        DigestMismatch: The object was changed.
    """
    found = parse(reference)
    with open_store(found.folder) as store:
        return fetch(store, found.name, digest=found.digest).decode()


def constants(text: str | None, typed: tuple[tuple[str, str, str], ...]) -> str | None:
    """One JSON object of ``--constants-json`` and every ``--constant NAME KIND TEXT``.

    Example:
        >>> constants('{"a": 1}', (("b", "str", "x"),))
        '{"a": 1, "b": "x"}'
    """
    if not typed:
        return text
    value_of("dict", text or "{}")  # complains of what is none; the numbers in it stay as they are
    known = json_of(text or "{}", depth=settings.max_json_depth())
    return json.dumps(known | {name: value_of(kind, value) for name, kind, value in typed})


def check_python(version: str | None) -> None:
    """Refuse a function that another minor version of Python pickled: it is bytecode, and could crash this one.

    Raises:
        EnvironmentMismatch: It is another one.

    Example:
        >>> check_python(None)
    """
    ours = minor(platform.python_version())
    if version is not None and minor(version) != ours:
        raise EnvironmentMismatch(
            f"the function was pickled by Python {version}, this is Python {ours}",
            hint=f'compile the pipeline with Python {ours}, or name the function as "package.module:function"',
        )
