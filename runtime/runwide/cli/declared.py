"""Types that a pipeline declares for its values, and JSON values converted to them."""

from __future__ import annotations

import inspect
import re
import sys
from dataclasses import dataclass
from functools import partial, reduce
from types import SimpleNamespace, UnionType
from typing import TYPE_CHECKING, Annotated, Any, Union, get_args, get_origin, get_type_hints

from runwide.errors import InputError
from runwide.redaction import shortened

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

SAFE = 2**53
"""Engines store numbers as doubles: from this number on, two integers may become the same double."""

_LARGEST = 2**64

_KINDS = {
    "str": "str", "string": "str", "text": "str", "int": "int", "integer": "int", "float": "float", "double": "float",
    "bool": "bool", "boolean": "bool", "list": "list", "jsonarray": "list", "dict": "dict", "jsonobject": "dict",
    "struct": "dict", "any": "json", "json": "json", "object": "json", "optional": "optional", "union": "optional",
}  # fmt: skip
_NOTHING = ("none", "nonetype")
_TYPES: dict[str, type] = {"str": str, "bool": bool, "list": list, "dict": dict}
KINDS = ("str", "int", "float", "bool", "list", "dict")


@dataclass(frozen=True, slots=True)
class Declared:
    """The declared type of a value of a pipeline.

    Args:
        kind: ``str``, ``int``, ``float``, ``bool``, ``list``, ``dict``, ``optional``, or ``json`` for any JSON value. In
            ``json``, whole numbers below 2**64 are ints, and larger ones are floats.
        items: The type of the elements of a list, the values of a dict, or an optional value; None if it is not declared.
        keys: The type of the keys of a dict; None for text, or if it is not declared.

    Example:
        >>> str(parse("typing.Dict[String, typing.List[Integer]]"))
        'dict[str, list[int]]'
    """

    kind: str
    items: Declared | None = None
    keys: Declared | None = None

    def __str__(self) -> str:
        if self.items is None:
            return self.kind
        keys = f"{self.keys or 'str'}, " if self.kind == "dict" else ""
        return f"{self.kind}[{keys}{self.items}]"


JSON = Declared("json")


def parse(spelling: str) -> Declared | None:
    """Return the type of a name, as kfp or Python writes it.

    Returns:
        The type; None if the outermost name is not a type of JSON. Inside lists and dicts, such a name becomes `JSON`.

    Example:
        >>> str(parse("List[Integer]")), str(parse("list[Decimal]")), parse("set")
        ('list[int]', 'list[json]', None)
    """
    branches = _split(spelling, "|")
    found = re.fullmatch(r"(?:(?:typing|builtins)\.)?(\w+)(?:\[(.*)\])?", spelling.strip(), re.DOTALL)
    if len(branches) > 1 or found is None:
        return _one_of(branches) if len(branches) > 1 else None
    kind, inner = _KINDS.get(found[1].lower()), _split(found[2] or "", ",")
    if kind == "optional":
        return _one_of([*inner, "None"] if found[1].lower() == "optional" else inner)
    if kind not in ("list", "dict"):
        return Declared(kind) if kind else None
    if len(inner) != (1 if kind == "list" else 2):
        return Declared(kind)
    keys = parse(inner[0]) if kind == "dict" else None
    return Declared(kind, parse(inner[-1]) or JSON, keys if keys and keys.kind in ("int", "float") else None)


def _one_of(branches: list[str]) -> Declared:
    """Return the type of a union: an optional type, or any JSON value."""
    wanted = [one for one in branches if one.lower() not in _NOTHING]
    if len(wanted) != 1:
        return JSON
    found = parse(wanted[0]) or JSON
    return found if len(branches) == 1 or found == JSON else Declared("optional", found)


def _split(text: str, mark: str) -> list[str]:
    """Split a name at marks that are outside brackets."""
    depth, parts = 0, [""]
    for letter in text:
        depth += (letter == "[") - (letter == "]")
        if letter == mark and not depth:
            parts.append("")
        else:
            parts[-1] += letter
    return [part.strip() for part in parts if part.strip()]


def of_annotation(annotation: Any) -> Declared | None:
    """Return the type of JSON that an annotation of a parameter means; None if it means none.

    Example:
        >>> str(of_annotation(list[float])), of_annotation(set)
        ('list[float]', None)
    """
    found = parse(_spelt(annotation))
    return None if found == JSON else found


def _spelt(annotation: Any) -> str:
    """Return an annotation as text; for a ``NewType``, the text of its base."""
    while hasattr(annotation, "__supertype__"):
        annotation = annotation.__supertype__
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is None:
        return annotation.__name__ if isinstance(annotation, type) else str(annotation)
    if origin is Annotated:
        return _spelt(inner[0])
    name = {Union: "Union", list: "list", dict: "dict"}.get(origin, "Union" if origin is UnionType else "")
    return f"{name}[{', '.join(map(_spelt, inner))}]" if name else str(annotation)


def of_values(values: Iterable[Any]) -> Declared:
    """Return the type that some values have in common; `JSON` if their types differ.

    Example:
        >>> str(of_values([1.0, 2.5])), str(of_values([1, "a"])), str(of_values([[1], []]))
        ('float', 'json', 'list[int]')
    """
    found = [_of_value(value) for value in values]
    return reduce(_common, found) if found else JSON


def _of_value(value: Any) -> Declared:
    kind = type(value).__name__
    if kind not in KINDS:
        return JSON
    inner = value if kind == "list" else value.values() if kind == "dict" else ()
    return Declared(kind, of_values(inner) if inner else None)


def _common(one: Declared, other: Declared) -> Declared:
    if one.kind != other.kind:
        return JSON
    if one.items is None or other.items is None:
        return one if other.items is None else other
    return Declared(one.kind, _common(one.items, other.items))


def convert(value: Any, declared: Declared, where: str) -> Any:
    """Convert a JSON value to its declared type.

    Args:
        value: The value; engines pass numbers as doubles.
        declared: The type. If it does not declare a number's type, a whole number becomes an int.

    Example:
        >>> convert([1.0, 2.0], parse("list[int]"), "items"), convert([1, 2], parse("list[float]"), "items")
        ([1, 2], [1.0, 2.0])
    """
    return _CONVERSIONS[declared.kind](value, declared, where)


def fitted(value: Any, like: Declared | None, where: str) -> Any:
    """Convert the parts of a value that fit a type; leave other parts unchanged, also inside lists and dicts.

    Example:
        >>> fitted(1, parse("float"), "x"), fitted("a", parse("float"), "x")
        (1.0, 'a')
        >>> fitted([1, None], parse("list[float]"), "x")
        [1.0, None]
    """
    if like is None:
        return value
    try:
        return convert(value, like, where)
    except InputError:
        return _fitted_inside(value, like, where)


def _fitted_inside(value: Any, like: Declared, where: str) -> Any:
    if like.kind == "optional":
        return fitted(value, like.items, where)
    if like.kind == "list" and isinstance(value, list):
        return [fitted(one, like.items, where) for one in value]
    if like.kind == "dict" and isinstance(value, dict) and like.keys is None:
        return {name: fitted(one, like.items, where) for name, one in value.items()}
    return value


def _json(value: Any, _declared: Declared, where: str) -> Any:
    if isinstance(value, list):
        return [_json(one, JSON, f"{where}[{index}]") for index, one in enumerate(value)]
    if isinstance(value, dict):
        return {name: _json(one, JSON, f"{where}[{name!r}]") for name, one in value.items()}
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value != value // 1:
        return value
    if _LARGEST <= abs(value) <= sys.float_info.max:  # too large for an integer of an engine
        return float(value)
    return _whole(value, where, "a number")


def _whole(value: float, where: str, wanted: str) -> int:
    if abs(value) >= SAFE:
        raise beyond(value, where)
    if value != int(value):
        raise _mismatch(value, where, wanted)
    return int(value)


def beyond(value: float, where: str) -> InputError:
    """Return the error for an integer that a pipeline cannot pass exactly.

    Example:
        >>> print(beyond(2**53, "items[0]").message)
        items[0] is 9007199254740992, and engines keep whole numbers exactly only below 2**53
    """
    return InputError(
        f"{where} is {_shown(value)}, and engines keep whole numbers exactly only below 2**53",
        hint="declare it as float, or pass it as text",
    )


def _shown(value: float) -> str:
    try:
        return shortened(repr(value), 40)
    except ValueError:  # Python limits the digits of integers (sys.set_int_max_str_digits)
        return f"a number of {int(value).bit_length()} bits"


def _int(value: Any, _declared: Declared, where: str) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value - value != 0:
        raise _mismatch(value, where, "an int")
    return _whole(value, where, "an int")


def _float(value: Any, _declared: Declared, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise _mismatch(value, where, "a float")
    return float(value)


def _exactly(value: Any, declared: Declared, where: str) -> Any:
    if type(value) is not _TYPES[declared.kind]:
        raise _mismatch(value, where, f"a {declared.kind}")
    return value


def _list(value: Any, declared: Declared, where: str) -> Any:
    items = declared.items or JSON
    return [
        convert(one, items, f"{where}[{index}]") for index, one in enumerate(_exactly(value, declared, where))
    ]


def _dict(value: Any, declared: Declared, where: str) -> Any:
    items = declared.items or JSON
    return {
        _key(name, declared.keys, where): convert(one, items, f"{where}[{name!r}]")
        for name, one in _exactly(value, declared, where).items()
    }


def _key(name: str, keys: Declared | None, where: str) -> Any:
    """Convert a key of JSON, which is always text, to the declared type."""
    if keys is None:
        return name
    try:
        return {"int": int, "float": float}[keys.kind](name)
    except ValueError:
        raise _mismatch(name, f"a key of {where}", f"an {keys.kind}") from None


def _optional(value: Any, declared: Declared, where: str) -> Any:
    return None if value is None else convert(value, declared.items or JSON, where)


def _mismatch(value: Any, where: str, wanted: str) -> InputError:
    return InputError(
        f"{where} is {shortened(repr(value), 80)}, not {wanted}",
        hint="give a value of the type that the pipeline declares, or declare another type",
    )


_CONVERSIONS: dict[str, Callable[[Any, Declared, str], Any]] = {
    "json": _json, "int": _int, "float": _float, "str": _exactly, "bool": _exactly, "list": _list, "dict": _dict,
    "optional": _optional,
}  # fmt: skip


def annotations_of(function: Any) -> tuple[Any, dict[str, Any]]:
    """Return the annotation of a function's first parameter, or None, and all annotations by name.

    Example:
        >>> annotations_of(lambda x, k: x)
        (None, {})
        >>> class Scaled:
        ...     x: float
        ...     def __call__(self, x: int) -> int:
        ...         return x
        >>> annotations_of(Scaled())
        (<class 'int'>, {'x': <class 'int'>})
    """
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError, NameError):  # some builtins have no signature
        return None, {}
    names = _globals_of(function)
    found = {
        name: hint
        for name, one in parameters.items()
        if (hint := _resolved(one.annotation, names)) is not None
    }
    return found.get(next(iter(parameters), "")), found


def _globals_of(function: Any) -> dict[str, Any]:
    """Return the global names that a function's annotations may use."""
    while isinstance(function, partial):
        function = function.func
    if not isinstance(function, type) and not hasattr(inspect.unwrap(function), "__code__"):
        function = getattr(function, "__func__", None) or type(function).__call__
    if isinstance(function, type):
        return vars(sys.modules[function.__module__]) if function.__module__ in sys.modules else {}
    return getattr(inspect.unwrap(function), "__globals__", {})


def _resolved(annotation: Any, names: dict[str, Any]) -> Any:
    """Evaluate an annotation; return None if there is none, or if only type checkers can evaluate it."""
    if annotation is inspect.Parameter.empty:
        return None
    try:
        return get_type_hints(SimpleNamespace(__annotations__={"it": annotation}), names)["it"]
    except Exception:  # evaluating runs the user's code
        return None
