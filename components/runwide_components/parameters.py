"""Read sets of parameters for many runs of a pipeline, and derive the names and labels of the runs."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from runwide.cli.wire import value_of
from runwide.errors import InputError, NoItems
from runwide.naming import kind_of, with_article
from runwide.redaction import shortened
from runwide.tables.csv_rows import Part, texts
from runwide.tables.rows import decoded, unzipped, values_of_lines

_KINDS = {
    "STRING": "str", "NUMBER_INTEGER": "int", "NUMBER_DOUBLE": "float",
    "BOOLEAN": "bool", "LIST": "list", "STRUCT": "dict",
}  # fmt: skip
_TRUE, _FALSE = ("true", "yes", "1"), ("false", "no", "0")
_NAME_LENGTH = 100  # of the 128 that Vertex allows; a hash and an attempt's number follow
_LABEL_LENGTH = 63
_LABELS = 32  # of the 64 that Google allows


@dataclass(frozen=True, slots=True)
class Inputs:
    """The parameters of a pipeline.

    Args:
        kinds: ``str``, ``int``, ``float``, ``bool``, ``list`` or ``dict`` by name.
        required: Names of parameters without a default.
    """

    kinds: Mapping[str, str]
    required: frozenset[str]

    @classmethod
    def of(cls, spec: Any) -> Inputs:
        """Return the inputs of a pipeline's spec."""
        found = spec.root.input_definitions.parameters
        kinds = {name: _kind(one) for name, one in sorted(found.items())}
        required = {
            name for name, one in found.items() if not one.is_optional and not one.HasField("default_value")
        }
        return cls(kinds, frozenset(required))


def _kind(parameter: Any) -> str:
    enum = parameter.DESCRIPTOR.fields_by_name["parameter_type"].enum_type
    return _KINDS.get(enum.values_by_number[parameter.parameter_type].name, "str")


def parameter_sets(given: Any, inputs: Inputs | None) -> list[dict[str, Any]]:
    """Return one set of arguments for each run.

    Args:
        given: A list of mappings; a mapping, whose lists span a grid; the path of a CSV file with a header, in which an
            empty cell leaves an optional parameter out, or of a ``.jsonl`` file with a mapping in each line; or a DataFrame
            with a run in each row. In a grid, give a parameter that is itself a list as a list of lists.
        inputs: The parameters of the pipeline; None if they are not known.

    Raises:
        NoItems: There is no set.
        InputError: An argument is missing, unknown, not JSON or of another type than the parameter; or two sets are equal.

    Example:
        >>> parameter_sets({"country": ["fr", "de"], "year": 2026}, None)
        [{'country': 'fr', 'year': 2026}, {'country': 'de', 'year': 2026}]
    """
    sets = [_checked(one, number, inputs) for number, one in enumerate(_sets(given, inputs))]
    if not sets:
        raise NoItems("there are no sets of parameters", hint="give at least one set of parameters")
    seen: dict[str, int] = {}
    for number, one in enumerate(sets):
        first = seen.setdefault(json.dumps(one, sort_keys=True), number)
        if first != number:
            raise InputError(
                f"the sets of parameters {first} and {number} are equal", hint="give each of them once"
            )
    return sets


def _sets(given: Any, inputs: Inputs | None) -> Iterable[Mapping[str, Any]]:
    if isinstance(given, (str, os.PathLike)):
        text, uri = _read(Path(given)), str(given)
        return values_of_lines(text, uri) if uri.endswith(".jsonl") else _of_csv(text, uri, inputs)
    if isinstance(given, Mapping):
        axes = [
            list(value) if isinstance(value, (list, tuple, range)) else [value] for value in given.values()
        ]
        return [dict(zip(given, values, strict=True)) for values in product(*axes)]
    if hasattr(given, "to_dict"):  # a DataFrame of pandas or polars
        rows = given.to_dict("records") if hasattr(given, "iloc") else given.to_dicts()
        return [{name: _plain(value) for name, value in row.items()} for row in rows]
    if isinstance(given, Iterable):
        return list(given)
    raise InputError(f"{kind_of(given)} has no sets of parameters", hint="give a list of mappings")


def _read(path: Path) -> str:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"cannot read the file ({error.strerror})", uri=str(path)) from error
    return decoded(unzipped(data, str(path)), str(path))


def _of_csv(text: str, uri: str, inputs: Inputs | None) -> list[dict[str, Any]]:
    """Return the rows of CSV. An empty cell leaves out an optional parameter that is not a text."""
    kinds = inputs.kinds if inputs else {}
    optional = {name for name in kinds if inputs and name not in inputs.required and kinds[name] != "str"}
    return [
        {
            name: _typed(kinds.get(name, "str"), cell, f"{uri}, row {number}, {name}")
            for name, cell in row.items()
            if cell or name not in optional
        }
        for number, row in enumerate(texts(Part(text, uri)), 1)
    ]


def _typed(kind: str, text: str, where: str) -> Any:
    try:
        if kind == "bool" and text.lower() in (*_TRUE, *_FALSE):
            return text.lower() in _TRUE
        return value_of(kind, text)
    except InputError as error:
        raise InputError(f"{shortened(text, 80)!r} is not {with_article(kind)}", uri=where) from error


def _plain(value: Any) -> Any:
    """Turn a number of numpy into one of Python."""
    return value.item() if hasattr(value, "item") and not isinstance(value, (list, dict)) else value


def _checked(one: Any, number: int, inputs: Inputs | None) -> dict[str, Any]:
    where = f"set of parameters {number}"
    if not isinstance(one, Mapping) or not all(isinstance(name, str) for name in one):
        raise InputError(
            f"{where} is not a mapping of names to values", hint='give one such as {"country": "fr"}'
        )
    try:
        json.dumps(dict(one), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"{where} cannot be passed to a pipeline: {error}", hint="give JSON values"
        ) from error
    if inputs is not None:
        if unknown := sorted(one.keys() - inputs.kinds.keys()):
            raise InputError(
                f"{where} has {', '.join(unknown)}: the pipeline has no such parameter",
                hint=f"it has {', '.join(inputs.kinds) or 'no parameters'}",
            )
        if missing := sorted(inputs.required - one.keys()):
            raise InputError(
                f"{where} lacks {', '.join(missing)}", hint="give it, or a default in the pipeline"
            )
        for name, value in one.items():
            _check_kind(name, value, inputs, where)
    return dict(one)


def _check_kind(name: str, value: Any, inputs: Inputs, where: str) -> None:
    """Reject a value of another type than the parameter, before an engine does so at run time."""
    kind = inputs.kinds[name]
    if value is None and name not in inputs.required:
        return
    if kind in ("list", "dict"):
        fits = isinstance(value, (list, tuple) if kind == "list" else dict)
    elif kind in ("int", "float"):
        fits = isinstance(value, (int, float)) and not isinstance(value, bool)
        fits = fits and (kind == "float" or value == int(value))
    else:
        fits = isinstance(value, bool if kind == "bool" else str)
    if not fits:
        raise InputError(
            f"{where}, {name}: {shortened(repr(value), 80)} is not {with_article(kind)}",
            hint=f"give {with_article(kind)}, which the pipeline declares",
        )


def run_name(title: str, arguments: Mapping[str, Any], key: str, attempt: int) -> str:
    """Return the name of a run, from its arguments; it is the same each time the run is submitted.

    Example:
        >>> run_name("Forecast", {"country": "fr", "days": 7, "table": {}}, "0123456789", 1)
        'forecast-fr-7-01234567-2'
    """
    words = [title, *(str(value) for value in arguments.values() if isinstance(value, (str, int, float)))]
    text = re.sub(r"[^a-z0-9]+", "-", "-".join(words).lower()).strip("-")
    text = text if text[:1].isalpha() else f"run-{text}"
    again = f"-{attempt + 1}" if attempt else ""
    return f"{text[:_NAME_LENGTH].rstrip('-')}-{key[:8]}{again}"


def labels_of(arguments: Mapping[str, Any], names: Iterable[str] | None = None) -> dict[str, str]:
    """Return labels from a run's arguments, in the spelling that Google allows.

    Args:
        names: Names of the arguments to use; None for all scalars, 32 at most.

    Example:
        >>> labels_of({"country": "FR", "day": "2026/11/24", "rows": [1]})
        {'country': 'fr', 'day': '2026-11-24'}
    """
    if names is None:
        names = [name for name, value in arguments.items() if isinstance(value, (str, int, float))][:_LABELS]
    if unknown := [name for name in names if name not in arguments]:
        raise InputError(f"labels= names {unknown[0]}, which is not a parameter")
    return {_label(name): _label(str(arguments[name])) for name in names}


def _label(text: str) -> str:
    return re.sub(r"[^a-z0-9_-]+", "-", text.lower())[:_LABEL_LENGTH]


def useful_labels(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments that are useful as labels; URIs are not.

    Example:
        >>> useful_labels({"market": "fr", "store": "gs://bucket/runs"})
        {'market': 'fr'}
    """
    return {name: value for name, value in arguments.items() if "/" not in str(value)}
