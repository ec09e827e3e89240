"""Values that contain parameters of a pipeline; the step fills them in when it knows the parameters."""

from __future__ import annotations

import copy
import dataclasses
import json
import re
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from runwide import settings
from runwide.cli.declared import JSON, convert, fitted, parse
from runwide.errors import InputError
from runwide.json_text import json_of
from runwide.redaction import shortened

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

Texts: TypeAlias = "Mapping[str, str]"
"""The texts of the parameters of the pipeline that a step receives, by name."""

UNFILLED = re.compile(
    r"\{\{(\$(?=\}\})|\$\.(?:pipeline_|inputs|outputs|workspace_path)|channel:task=)[^\x00-\x1f\x7f-\x9f]*?\}\}"
)
"""A placeholder of kfp, which the engine replaces by a value; control characters between two texts of a pickle end it."""

LEFT_OUT = object()
"""The value of an optional parameter that was left out."""


@dataclass(frozen=True, slots=True)
class Given:
    """The place of a parameter in a value.

    Args:
        type: The declared type of the parameter, or of its value at ``key``; ``json`` if it is not known.
        like: A type to convert the value to if possible; empty for none.
        key: A key of the parameter whose value is used instead of the whole parameter.
        among: The name of a list that has the parameter as an element: the text alone may be a number or a text.

    Example:
        >>> Given("n", "int").value({"n": "3.0"}), Given("row", key="a").value({"row": '{"a": [2.0]}'})
        (3, [2])
    """

    name: str
    type: str = "json"
    like: str = ""
    key: str = ""
    among: str = ""

    def value(self, texts: Texts) -> Any:
        """Return the value of the parameter, in its declared type; None if it was left out."""
        found = self._found(texts)
        return None if found is LEFT_OUT else found

    def is_left_out(self, texts: Texts) -> bool:
        """Return whether the parameter is optional and has no value."""
        return self._found(texts) is LEFT_OUT

    def _found(self, texts: Texts) -> Any:
        text = texts.get(self.name)
        if text is None:
            return LEFT_OUT
        refuse_unfilled(text)
        where = self._where()
        value = self._raw(text, texts, where)
        return value if value is LEFT_OUT else fitted(value, parse(self.like), where)

    def _raw(self, text: str, texts: Texts, where: str) -> Any:
        declared = parse(self.type) or JSON
        if self.among:
            if self.among not in texts:
                raise InputError(
                    f"{where} is an element of {self.among!r}, which is missing",
                    hint=f"give --given {self.among} as well",
                )
            return convert(_chosen(text, _read(texts[self.among], where), where), declared, where)
        if declared.kind == "str" and not self.key:
            return text
        value = _read(_python(text) if declared.kind in ("bool", "json") else text, where)
        if self.key:
            value = _below(value, self.key, self.name)
        elif value is None and declared.kind not in ("optional", "json"):
            return LEFT_OUT
        return convert(value, declared, where)

    def _where(self) -> str:
        name = re.sub(r"^(constant|given)_", "", self.name)
        return f"{name}.{self.key}" if self.key else name


def _python(text: str) -> str:
    return text.lower() if text in ("True", "False") else text


def _read(text: str, where: str) -> Any:
    try:
        return json_of(text, depth=settings.max_json_depth())
    except ValueError as error:
        raise InputError(f"{where} is {shortened(repr(text), 80)}, not JSON ({error})") from error


def _below(value: Any, key: str, name: str) -> Any:
    if isinstance(value, str):  # engines may pass an object as its text
        value = _read(value, name)
    if not isinstance(value, dict) or key not in value:
        raise InputError(
            f"{name} has no {key!r}", hint="give every item of the loop this key, or loop over other items"
        )
    return value[key]


def _chosen(text: str, among: Any, where: str) -> Any:
    """Return the element of a list that an engine writes as this text."""
    found = [one for one in among if _is_written(one, text)]
    if not found or len({type(_number(one)) for one in found}) > 1:
        raise InputError(
            f"{where} is {shortened(repr(text), 80)}, which may be a text or another value",
            hint="declare the type of the elements of the loop's list, such as list[str]",
        )
    return found[0]


def _number(value: Any) -> Any:
    return float(value) if type(value) is int else value


def _is_written(value: Any, text: str) -> bool:
    if isinstance(value, str):
        return value == text
    try:
        found = json_of(_python(text), depth=settings.max_json_depth())
    except ValueError:
        return False
    return isinstance(found, bool) == isinstance(value, bool) and bool(found == value)


@dataclass(frozen=True, slots=True)
class Composed:
    """A text with parameters in it.

    Example:
        >>> Composed(("gs://", Given("bucket", "str"), "/", Given("n", "int"))).text({"bucket": "b", "n": "3.0"})
        'gs://b/3'
    """

    parts: tuple[str | Given, ...]

    def text(self, texts: Texts) -> str:
        """Return the text with the values of its parameters, as Python writes them; none may be left out."""
        return "".join(part if isinstance(part, str) else self._part(part, texts) for part in self.parts)

    @staticmethod
    def _part(part: Given, texts: Texts) -> str:
        if part.is_left_out(texts):
            raise InputError(
                f"the parameter {part.name} was left out, and a text contains it", hint="give it a default"
            )
        return str(part.value(texts))

    def to_json(self) -> str:
        """Return the JSON of the parts, for an argument of a step."""
        return json.dumps(
            [
                part
                if isinstance(part, str)
                else {name: value for name, value in asdict(part).items() if value}
                for part in self.parts
            ]
        )


def composed(text: str, option: str) -> Composed:
    """Read a text with parameters that `Composed.to_json` wrote.

    Example:
        >>> composed('["a-", {"name": "n", "type": "int"}]', "--composed").text({"n": "3"})
        'a-3'
    """
    try:
        parts = _read(text, option)
        return Composed(tuple(part if isinstance(part, str) else Given(**part) for part in parts))
    except TypeError as error:
        raise InputError(
            f"invalid {option}: expected a text with parameters ({error})",
            hint="pass the text that fan_out writes",
        ) from error


def filled(value: Any, texts: Texts) -> Any:
    """Fill in the parameters of a value; a parameter that was left out becomes None.

    Example:
        >>> filled({"a": (1, Given("n", "int"))}, {"n": "2.0"})
        {'a': (1, 2)}
    """

    def change(one: Any) -> Any:
        if isinstance(one, Given):
            return one.value(texts)
        return one.text(texts) if isinstance(one, Composed) else one

    return rebuilt(value, change)


def rebuilt(value: Any, change: Callable[[Any], Any], inside: tuple[int, ...] = ()) -> Any:
    """Return a value with its leaves changed; parts without a change stay the same objects.

    Args:
        value: Its lists, tuples, named tuples, sets, dicts and dataclasses are searched; anything else is a leaf.
        inside: Ids of the values that contain this one, which are not searched again.

    Example:
        >>> rebuilt([1, {"a": (2, 3)}], lambda one: -one if isinstance(one, int) else one)
        [-1, {'a': (-2, -3)}]
    """
    if id(value) in inside:
        return value
    parts = _parts(value)
    if parts is None:
        return change(value)
    made = [rebuilt(part, change, (*inside, id(value))) for part in parts]
    if all(one is part for one, part in zip(made, parts, strict=True)):
        return value
    return _again(value, made)


def _parts(value: Any) -> list[Any] | None:
    if isinstance(value, (Given, Composed)):
        return None
    if isinstance(value, dict):
        return [part for pair in value.items() for part in pair]
    if isinstance(value, (list, tuple, set, frozenset)):
        return list(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return [getattr(value, name) for name in _fields(value)]
    return None


def _fields(value: Any) -> list[str]:
    return [field.name for field in dataclasses.fields(value) if hasattr(value, field.name)]


def _again(value: Any, parts: list[Any]) -> Any:
    """Make a value of the same type with other parts."""
    if isinstance(value, (tuple, frozenset)):
        return _built(value, parts)
    made = copy.copy(value)
    if isinstance(value, dict):
        made.clear()
        for key, one in zip(parts[::2], parts[1::2], strict=True):  # not update(): Counter's adds
            made[key] = one
    elif isinstance(value, list):
        made[:] = parts
    elif isinstance(value, set):
        set.clear(made)
        set.update(made, parts)
    else:
        for name, part in zip(_fields(value), parts, strict=True):
            object.__setattr__(made, name, part)
    return made


def _built(value: Any, parts: list[Any]) -> Any:
    """Make a tuple or frozen set of the same type with other parts, also if its own ``__new__`` takes other arguments."""
    kind = type(value)
    try:
        made = (tuple if isinstance(value, tuple) else frozenset).__new__(kind, parts)
    except TypeError:  # a type that is written in C, such as time.struct_time
        return kind(parts)
    if hasattr(value, "__dict__"):
        vars(made).update(vars(value))
    return made


def refuse_unfilled(text: str) -> str:
    """Return a text, such as the URI of a store, if the engine has left no placeholder of kfp in it.

    Example:
        >>> refuse_unfilled("gs://bucket/runs")
        'gs://bucket/runs'
    """
    if found := UNFILLED.search(text):
        raise InputError(
            f"{shortened(text, 200)} contains {found[0]}, which the engine has not filled in",
            hint="pass it as a parameter of the pipeline",
        )
    return text
