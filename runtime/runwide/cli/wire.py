"""Read values that a pipeline engine passes to a command: texts of a known type, or references of longer texts."""

from __future__ import annotations

import platform
from typing import TYPE_CHECKING, Any

from runwide import settings
from runwide.cli.declared import KINDS, convert, parse
from runwide.cli.encoding import code_in, unpacked, value_of_bytes
from runwide.cli.given import LEFT_OUT, Given, filled
from runwide.errors import EnvironmentMismatch, InputError
from runwide.job import code, reference
from runwide.job.environment import check_packages, minor
from runwide.json_text import json_of
from runwide.pickling.places import make_way
from runwide.redaction import shortened
from runwide.store import open_store
from runwide.store.records import fetch
from runwide.tables.formats import json_value

if TYPE_CHECKING:
    from collections.abc import Iterable

    from runwide.cli.given import Texts
    from runwide.code.archive import Code

ARGUMENT = 128 * 1024 - 1
"""Most bytes of one argument of a program on Linux (MAX_ARG_STRLEN includes the zero at its end)."""


def value_of(kind: str, text: str, where: str = "") -> Any:
    """Return the value of a pipeline parameter from its text.

    Engines store every number as a double, and write it as ``1`` or ``1.0``. So if the type of a list or dict does not
    declare the type of its elements, whole numbers become ints.

    Args:
        kind: ``str``, ``int``, ``float``, ``bool``, ``list`` or ``dict``, or a type such as ``list[float]``.
        text: The string itself, or JSON for any other kind.

    Example:
        >>> value_of("list", '[1.0, 2.5, {"a": 3.0}]')
        [1, 2.5, {'a': 3}]
        >>> value_of("float", "1"), value_of("list[float]", "[1, 2]")
        (1.0, [1.0, 2.0])
    """
    declared = parse(kind)
    if declared is not None and declared.kind == "str":
        return text
    shown = f"{where or repr(shortened(text, 80))} is not a {kind} of a pipeline"
    if declared is None:
        raise InputError(shown, hint=f"kinds are {', '.join(KINDS)}, and types such as list[int]")
    try:
        found = json_of(text, depth=settings.max_json_depth())
    except ValueError as error:
        raise InputError(f"{shown} ({error})") from error
    try:
        return convert(found, declared, where or "it")
    except InputError as error:
        raise InputError(f"{shown}: {error.message}", hint=error.hint) from error


def code_used(text: str) -> Code:
    """Make this process and its workers use the code in a text of `runwide.cli.encoding.written_code`; return the code."""
    found = code_in(text, object_of)
    folder = code.unpacked(found)
    code.put(folder)
    make_way(folder)
    return found


def object_of(text: str) -> bytes:
    """Return the object of a reference, verified by its digest."""
    found = reference.parse(text)
    with open_store(found.folder) as store:
        return bytes(fetch(store, found.name, digest=found.digest))


def pickled(text: str, option: str) -> Any:
    """Return a pickled value from a text (``z:`` and base64 of zlib), or from the object of a reference with a digest."""
    data = object_of(text) if "#sha256=" in text else text.encode()
    return value_of_bytes(unpacked(data, option))


def constants(
    text: str | None,
    typed: Iterable[tuple[str, str, str]] = (),
    values: Any = None,
    given: Texts | None = None,
) -> dict[str, Any] | None:
    """Return the constants of ``--constants-json``, every ``--constant NAME KIND TEXT``, and ``--pickled constants``.

    Args:
        values: Constants by name, with the places of parameters; a parameter that was left out becomes `LEFT_OUT`.
        given: The texts of these parameters.

    Example:
        >>> constants('{"a": 1}', (("b", "str", "x"),))
        {'a': 1, 'b': 'x'}
    """
    if text is None and values is None and not typed:
        return None
    found = {} if text is None else json_value(text, "--constants-json")
    if not isinstance(found, dict):
        raise InputError("--constants-json is not a JSON object", hint='pass an object such as {"factor": 2}')
    found |= {name: value_of(kind, one, f"constant {name!r}") for name, kind, one in typed}
    texts = given or {}
    return found | {name: _filled(value, texts) for name, value in (values or {}).items()}


def _filled(value: Any, texts: Texts) -> Any:
    left_out = isinstance(value, Given) and value.is_left_out(texts)
    return LEFT_OUT if left_out else filled(value, texts)


def check_python(version: str | None) -> None:
    """Reject a function that another minor version of Python pickled: its bytecode could crash this process.

    Example:
        >>> check_python(None)
    """
    ours = minor(platform.python_version())
    if version is not None and minor(version) != ours:
        raise EnvironmentMismatch(
            f"the function or a value was pickled by Python {version}, this is Python {ours}",
            hint=f'compile the pipeline with Python {ours}, or name the function as "package.module:function"',
        )


def check_recorded(packages: str | None) -> None:
    """Reject a function whose packages are missing here, or too different, before it is loaded.

    Args:
        packages: JSON of the packages that it needs, by the names in `runwide.code.distributions`.

    Example:
        >>> check_recorded('{"click": "8.1.0"}')
    """
    found = {} if packages is None else json_value(packages, "--packages")
    if not isinstance(found, dict) or not all(isinstance(one, str) for one in found.values()):
        raise InputError(
            "--packages is not a JSON object of texts", hint='pass an object such as {"numpy": "2.1.0"}'
        )
    check_packages(found)
