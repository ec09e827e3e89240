"""What goes into a fan-out: its function, items, constants, numbers and places, each as an input of the scatter step."""

from __future__ import annotations

import dataclasses
import importlib
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import reduce
from hashlib import sha256
from pathlib import Path
from typing import Any

from kfp import dsl

from runwide.cli.arguments import QUOTED
from runwide.cli.function_text import packed, parted, written
from runwide.cli.given import Composed
from runwide.cli.sizing import AUTO
from runwide.cli.taken import annotations_of, check_constants
from runwide.cli.values import is_by_value, is_plain, refuse_parameters, values_bytes
from runwide.errors import InputError, NoItems
from runwide.log import Log
from runwide.pool import function_pickle
from runwide.redaction import redacted_fields
from runwide.spill.store import open_store, without_fields
from runwide_components.channels import Parameters, declared, is_artifact, is_channel, is_of_loop
from runwide_components.listed import listed
from runwide_components.steps import RUN, STORE_AND_SHARDS, Input

_log = Log("components")

# The engine hands all inputs of a task over as one command-line argument, and Linux takes 128 KiB of it
# (MAX_ARG_STRLEN); quoting needs some of that.
INLINE_LIMIT = 64 * 1024
_LEVELS = 50  # of values in values, as far as secrets are looked for
_MARKED = ("{{", '{"Concat": ', '{"IfPresent": ')  # what engines take for more than text


@dataclass(frozen=True, slots=True)
class Wires:
    """The inputs of a scatter step.

    Args:
        all: Each input with its value, which may be a channel of the pipeline.
        has_code: Whether there is code among the values, which only the same Python can load.
    """

    all: tuple[tuple[Input, Any], ...]
    has_code: bool

    @property
    def open(self) -> list[tuple[Input, Any]]:
        """Those that the pipeline knows only when it runs."""
        return [(port, value) for port, value in self.all if is_channel(value)]

    @property
    def fixed(self) -> list[tuple[Input, Any]]:
        """The others."""
        return [(port, value) for port, value in self.all if not is_channel(value)]


def wires(
    function: Callable[..., Any] | str, items: Any, components: Any, store: Any, constants: Mapping[str, Any]
) -> Wires:
    """Each input of the scatter step with its value.

    Args:
        function: As `fan_out` takes it, and so are the others.
        items: The items.
        components: How many.
        store: Where the job goes.
        constants: Further keyword arguments.

    Raises:
        FunctionNotPicklable: The function cannot be sent to another process.
        InputError: Something of it cannot be meant.
    """
    _check_names(constants)
    known = _known(function)
    if known is not None:
        check_constants(known, constants, "constants=")
    try:
        return _wired(_Wiring(known, _absolute(store, "store")), function, items, components, constants)
    except RecursionError as error:
        raise InputError(
            "the items or constants hold each other in more levels than Python can go through",
            hint="pass flatter values, or write them to the store and pass their URI",
        ) from error


def _wired(made: _Wiring, function: Any, items: Any, components: Any, constants: Mapping[str, Any]) -> Wires:
    all_ = (
        made.function(function),
        made.items(items),
        *made.counts_and_places(components),
        *made.constants(constants),
        *made.parameters.ports(),
        (RUN, dsl.PIPELINE_JOB_ID_PLACEHOLDER),
    )
    return Wires(all_, made.has_code)


def _check_names(constants: Any) -> None:
    if not isinstance(constants, Mapping) or not all(isinstance(name, str) for name in constants):
        raise InputError(
            f"constants= is a {type(constants).__name__}, not a dict of names",
            hint='give one such as {"factor": 2}; a parameter of the pipeline is a value in it',
        )


def _absolute(text: Any, what: str) -> Any:
    """A local folder in full: steps do not run where the pipeline was compiled."""
    if not isinstance(text, str):
        return text
    text = str.__str__(text)  # kfp takes no member of an enum, nor any other subclass
    without_fields(text, what)
    if not text or "://" in text or text.startswith("{{"):
        return text
    try:
        return str(Path(text).absolute()) if "{{" in text else Path(text).resolve().as_uri()
    except ValueError as error:  # a null character
        raise InputError(
            f"{what}={text!r} is no path ({error})", hint="give a URI such as gs://bucket/runs"
        ) from error


def _known(function: Any) -> Callable[..., Any] | None:
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


class _Wiring:
    """The making of one fan-out's inputs, with what they share.

    Args:
        function: The function, None where it is not known here.
        store: Where the job goes.
    """

    def __init__(self, function: Callable[..., Any] | None, store: Any) -> None:
        self.parameters = Parameters()
        self.has_code = False
        self._store = self.parameters.text(store) if type(store) is str else store
        self._of_item, self._of_constants = annotations_of(function)
        self._left = QUOTED

    def function(self, function: Any) -> tuple[Input, str]:
        """The function by name, or pickled."""
        if isinstance(function, str):
            return Input("function", str, ("--function",)), function
        made = function_pickle(function)
        refuse_parameters(made.core, "the function")
        self.has_code = True
        text = written(made)
        if self._fits(text):
            return Input("function", str, ("--function-base64",)), text
        kept, places = parted(text)
        if not self._fits(places):
            kept, places = text, ""
        return Input("function", str, ("--function-reference",)), self._spilled("function", kept) + places

    def items(self, items: Any) -> tuple[Input, Any]:
        """The items: a channel, the text that says where they are, or their values."""
        if is_channel(items):
            return self._open_items(items)
        if isinstance(items, str):
            return self._place_of_items(items)
        values = listed(items)
        if not values:
            raise NoItems("there is nothing to fan out over", hint="give at least one item")
        _warn_of_secrets("items", {"items": values})
        made = self.parameters.inside(values)
        if made is values and (text := self._plain(values)):
            return Input("items", str, ("--items-json",)), text
        return self._pickled("items", made, _say_which_item)

    def _place_of_items(self, text: str) -> tuple[Input, str]:
        text = str.__str__(text)
        if not Path(text.replace("\0", "")).exists():
            without_fields(text, "items")
        if "/" not in text and "{{" not in text:
            raise InputError(
                f"{text!r} is not the URI of items", hint="give a list, or gs://bucket/rows.jsonl"
            )
        if "://" not in text and not text.startswith("{{"):
            text = str(Path(text).absolute())
        found = self.parameters.text(text)
        if isinstance(found, Composed):
            return Input("items", str, ("--composed", "items")), found.to_json()
        return Input("items", str, ("--items-from",)), text

    def _open_items(self, items: Any) -> tuple[Input, Any]:
        if is_artifact(items):
            return Input("items", dsl.Input[dsl.Artifact], ("--items-from",), artifact=True), items
        found = declared(items)
        of_item = list[self._of_item] if found.items is None and self._of_item else None  # type: ignore[name-defined]
        if is_of_loop(items) or (of_item is not None and found.kind == "list"):
            if found.kind not in ("list", "str", "json"):
                raise _no_list(items)
            place = Composed((self.parameters.given(items, like=of_item),))
            return Input("items", str, ("--composed", "items")), place.to_json()
        if found.kind == "list":
            return Input("items", list, ("--items-type", str(found), "--items-parameter")), items
        if found.kind == "str":
            return Input("items", str, ("--items-from",)), items
        raise _no_list(items)

    def counts_and_places(self, components: Any) -> Iterator[tuple[Input, Any]]:
        """The store and the number of components."""
        for port, what, value in zip(
            STORE_AND_SHARDS, ("store", "shards"), (self._store, components), strict=True
        ):
            if port.name == "components" and isinstance(value, str) and value == AUTO:
                yield Input("components", str, port.options), AUTO
            elif isinstance(value, Composed):
                yield Input(port.name, str, ("--composed", what)), value.to_json()
            elif is_channel(value):
                _check_type(value, port.name, port.type)
                if is_of_loop(value):
                    place = Composed((self.parameters.given(value),))
                    yield Input(port.name, str, ("--composed", what)), place.to_json()
                else:
                    yield port, value
            else:
                yield port, _checked(value, port)

    def constants(self, constants: Mapping[str, Any]) -> Iterator[tuple[Input, Any]]:
        """The constants, in one input; that of each parameter among them is one of `parameters`."""
        if not constants:
            return
        _warn_of_secrets("constant", {name: one for name, one in constants.items() if not is_channel(one)})
        values = {name: self._constant(name, value) for name, value in constants.items()}
        same = all(value is constants[name] for name, value in values.items())
        if same and (text := self._plain(values)):
            yield Input("constants", str, ("--constants-json",)), text
        else:
            yield self._pickled("constants", values, _say_which_constant)

    def _constant(self, name: str, value: Any) -> Any:
        if is_channel(value):
            return self.parameters.given(
                value,
                name=f"constant_{re.sub(r'[^a-zA-Z0-9_]', '_', name)}",
                like=self._of_constants.get(name),
            )
        try:
            return self.parameters.inside(value)
        except InputError as error:
            raise InputError(f"constant {name!r}: {error.message}", hint=error.hint) from error

    def _plain(self, values: Any) -> str | None:
        """Values as JSON, which people can read, where it gives them back as they are."""
        text = json.dumps(values) if is_plain(values) else ""
        inline = text and not any(mark in text for mark in _MARKED) and self._fits(text, INLINE_LIMIT // 2)
        return text if inline else None

    def _pickled(self, what: str, value: Any, blame: Callable[[Any], None]) -> tuple[Input, str]:
        try:
            data = values_bytes(value, f"the {what}")
        except InputError:
            blame(value)
            raise
        self.has_code = self.has_code or is_by_value(data)
        text = packed(data)
        text = text if self._fits(text) else self._spilled(what, text)
        return Input(what, str, ("--pickled", what)), text

    def _fits(self, text: str, limit: int = INLINE_LIMIT) -> bool:
        """Whether a text goes into the spec, beside those that are there."""
        if len(text) > min(limit, self._left):
            return False
        self._left -= len(text)
        return True

    def _spilled(self, kind: str, text: str) -> str:
        """Put what is too long for a pipeline spec into the store, under its digest, and return the reference."""
        if not isinstance(self._store, str):
            raise InputError(
                f"the {kind} takes {len(text)} characters in a pipeline spec, and the store is only known at run time",
                hint="give store= as a string, so that it can be put there when the pipeline is compiled; or write "
                "them to a table, and pass its URI or the artifact",
            )
        data = text.encode()
        digest = sha256(data).hexdigest()
        name = f"{kind}/{digest}"
        with open_store(self._store) as opened:
            opened.create(name, data)
            return f"{opened.child_uri(name)}#sha256={digest}"


def _say_which_item(values: list[Any]) -> None:
    for index, value in enumerate(values):
        values_bytes(value, f"item {index}")


def _say_which_constant(values: Mapping[str, Any]) -> None:
    for name, value in values.items():
        values_bytes(value, f"constant {name!r}")


def _no_list(items: Any) -> InputError:
    return InputError(
        f"items is a {items.channel_type} of the pipeline, not a list",
        hint="annotate it as list, or give a URI as str",
    )


def _checked(value: Any, port: Input) -> Any:
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


def _warn_of_secrets(what: str, values: Mapping[str, Any]) -> None:
    """Say what of a pipeline that is compiled now looks like a secret: whoever may see the pipeline can read it."""
    for name, value in values.items():
        plain = {name: _shown(value)}
        if redacted_fields(plain) != plain:
            _log.warning(
                "secret.compiled",
                **{what: name},
                cause="it looks like a secret, and stands in the compiled pipeline in clear",
                hint="name it in secrets=, as Secret Manager does (projects/P/secrets/S/versions/V): the steps read it, "
                "and the function has it as a variable of its environment",
            )


def _shown(value: Any, inside: tuple[int, ...] = ()) -> Any:
    """A value as far as it may hold a secret: texts, and what holds them; a parameter has none yet."""
    if is_channel(value) or id(value) in inside or len(inside) > _LEVELS:
        return None
    around = (*inside, id(value))
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = {field.name: getattr(value, field.name, None) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(name): _shown(one, around) for name, one in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_shown(one, around) for one in value]
    return (
        value if value is None or isinstance(value, (str, bool, int, float)) else f"a {type(value).__name__}"
    )


def _check_type(channel: Any, name: str, wanted: type) -> None:
    if is_artifact(channel) or declared(channel).kind not in (
        wanted.__name__,
        *(["json"] if is_of_loop(channel) else []),
    ):
        raise InputError(
            f"{name} is a {channel.channel_type} of the pipeline, not a {wanted.__name__}",
            hint=f"annotate it as {wanted.__name__}",
        )


def slug(function: Any) -> str:
    """A function's name as a part of a task's name."""
    name = function.rpartition(":")[2] if isinstance(function, str) else getattr(function, "__name__", "call")
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "call"
