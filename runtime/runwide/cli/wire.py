"""Values as a pipeline engine hands them to a command: text of a known type, or a reference to a longer text."""

from __future__ import annotations

import platform
from typing import TYPE_CHECKING, Any

from runwide import settings
from runwide.cli.declared import KINDS, convert, parse
from runwide.cli.function_text import code_in, unpacked
from runwide.cli.given import LEFT_OUT, Given, filled
from runwide.cli.inputs import json_value
from runwide.cli.values import value_of_bytes
from runwide.errors import EnvironmentMismatch, InputError
from runwide.job import code as here
from runwide.job.environment import check_packages, minor
from runwide.job.reference import parse as parsed_reference
from runwide.parsing import json_of
from runwide.places import make_way
from runwide.redaction import shortened
from runwide.spill import open_store
from runwide.spill.verified import fetch

if TYPE_CHECKING:
    from collections.abc import Iterable

    from runwide.archive import Code
    from runwide.cli.given import Texts

ARGUMENT = 128 * 1024 - 1
"""Bytes of one argument that Linux lets a program be started with (MAX_ARG_STRLEN, with the zero at its end)."""


def value_of(kind: str, text: str, where: str = "") -> Any:
    """A pipeline parameter from its text.

    Engines keep every number as a double and print it as they like, so where a list or dict does not say what is in it, a
    whole number is an int, whether it comes as ``1`` or ``1.0``.

    Args:
        kind: ``str``, ``int``, ``float``, ``bool``, ``list`` or ``dict``, or such as ``list[float]``.
        text: A string as it is, anything else as JSON.
        where: Names the parameter, for errors.

    Raises:
        InputError: The text is not of that kind.

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
        raise InputError(shown, hint=f"kinds are {', '.join(KINDS)}, and such as list[int]")
    try:
        found = json_of(text, depth=settings.max_json_depth())
    except ValueError as error:
        raise InputError(f"{shown} ({error})") from error
    try:
        return convert(found, declared, where or "it")
    except InputError as error:
        raise InputError(f"{shown}: {error.message}", hint=error.hint) from error


def code_used(text: str) -> Code:
    """Have this process, and its workers, use the code of a program's own that a text holds; returns the code.

    Args:
        text: As `runwide.cli.function_text.written_code` made it.

    Raises:
        InputError: It is another text.
    """
    code = code_in(text, object_of)
    folder = here.unpacked(code)
    here.put(folder)
    make_way(folder)
    return code


def object_of(reference: str) -> bytes:
    """The object that a reference stands for, held against its digest.

    Raises:
        BadReference: It is none.
        ObjectNotFound: There is no such object.
        DigestMismatch: The object was changed.
    """
    found = parsed_reference(reference)
    with open_store(found.folder) as store:
        return bytes(fetch(store, found.name, digest=found.digest))


def text_of(reference: str) -> str:
    """The text that a reference stands for, held against its digest.

    Raises:
        BadReference: It is none.
        ObjectNotFound: There is no such object.
        DigestMismatch: The object was changed.
    """
    return object_of(reference).decode()


def pickled(text: str, option: str) -> Any:
    """The value that was pickled: in the text itself, or in an object to which it refers.

    Args:
        text: ``z:`` and base64 of zlib, or a reference with a digest.
        option: Its option, for errors.

    Raises:
        InputError: It is neither, or cannot be loaded here.
    """
    if "#sha256=" in text:
        text = text_of(text)
    return value_of_bytes(unpacked(text.encode(), option))


def constants(
    text: str | None,
    typed: Iterable[tuple[str, str, str]] = (),
    values: Any = None,
    given: Texts | None = None,
) -> dict[str, Any] | None:
    """The constants of ``--constants-json``, every ``--constant NAME KIND TEXT``, and ``--pickled constants``.

    Args:
        text: A JSON object.
        typed: Name, kind and text of each parameter of a pipeline.
        values: Constants by name, with the places of parameters; one that was left out is `LEFT_OUT`.
        given: The texts of these parameters.

    Raises:
        InputError: The text is no JSON object, or a parameter is of another type.

    Example:
        >>> constants('{"a": 1}', (("b", "str", "x"),))
        {'a': 1, 'b': 'x'}
    """
    if text is None and values is None and not typed:
        return None
    found = {} if text is None else json_value(text, "--constants-json")
    if not isinstance(found, dict):
        raise InputError("--constants-json is not a JSON object", hint='pass something like {"factor": 2}')
    found |= {name: value_of(kind, one, f"constant {name!r}") for name, kind, one in typed}
    texts = given or {}
    return found | {name: _filled(value, texts) for name, value in (values or {}).items()}


def _filled(value: Any, texts: Texts) -> Any:
    left_out = isinstance(value, Given) and value.is_left_out(texts)
    return LEFT_OUT if left_out else filled(value, texts)


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
            f"the function or a value was pickled by Python {version}, this is Python {ours}",
            hint=f'compile the pipeline with Python {ours}, or name the function as "package.module:function"',
        )


def check_recorded(packages: str | None) -> None:
    """Refuse a function whose packages are missing here, or too different, before it is loaded.

    Args:
        packages: JSON of the packages that it needs, as `runwide.distributions` names them.

    Raises:
        EnvironmentMismatch: Some are.
        InputError: The text is no JSON object of texts.

    Example:
        >>> check_recorded('{"click": "8.1.0"}')
    """
    found = {} if packages is None else json_value(packages, "--packages")
    if not isinstance(found, dict) or not all(isinstance(one, str) for one in found.values()):
        raise InputError(
            "--packages is not a JSON object of texts", hint='pass something like {"numpy": "2.1.0"}'
        )
    check_packages(found)
