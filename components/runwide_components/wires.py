"""Turn the arguments of a fan-out into inputs of the scatter step: function, items, constants, number, store."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kfp import dsl

from runwide.api.functions import Named, check_constants, program_of
from runwide.cli.declared import annotations_of
from runwide.cli.encoding import (
    is_by_value,
    is_plain,
    packed,
    parted,
    refuse_parameters,
    values_bytes,
    written,
    written_code,
)
from runwide.cli.given import Composed
from runwide.cli.scatter_arguments import AUTO, QUOTED
from runwide.code.archive import code_of
from runwide.code.distributions import distributions
from runwide.errors import InputError, NoItems
from runwide.job import environment
from runwide.naming import name_of
from runwide.options.record import DEFAULTS
from runwide.pickling.functions import NOTHING, Needs, function_pickle, modules_named
from runwide.pickling.items import Definitions
from runwide.redaction import shortened
from runwide.store import windows
from runwide.store.base import open_store, without_fields
from runwide_components.channels import Parameters, declared, is_artifact, is_channel, is_of_loop
from runwide_components.checks import (
    absolute,
    check_constant_names,
    check_type,
    checked,
    known_function,
    listed,
    no_list,
    shared_store,
    warn_of_secrets,
)
from runwide_components.configuration import MARKED
from runwide_components.steps import ARTIFACTS, COMPOSED_ENV, RUN, STORE_AND_SHARDS, Input

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from runwide.options.record import RunOptions

# The engine passes all inputs of a task as one command-line argument, for which Linux has a limit of 128 KiB
# (MAX_ARG_STRLEN); quoting needs a part of that.
INLINE_LIMIT = 64 * 1024
_NAME = 200  # characters of a function's name


@dataclass(frozen=True, slots=True)
class Wires:
    """The inputs of a scatter step.

    Args:
        all: Each input with its value, which may be a channel of the pipeline.
        has_code: True if the values contain code, which only the same Python version can load.
        packages: The installed packages that function and values need, with their versions.
        name: Name of the function for logs; empty if it is an input of the step anyway.
    """

    all: tuple[tuple[Input, Any], ...]
    has_code: bool
    packages: Mapping[str, str] = field(default_factory=dict)
    name: str = ""

    @property
    def composed_env(self) -> tuple[str, ...]:
        """Names of the variables whose values contain parameters of the pipeline."""
        return tuple(port.options[1] for port, _ in self.all if port.options[:1] == (COMPOSED_ENV,))

    @property
    def open(self) -> list[tuple[Input, Any]]:
        """The inputs whose values are known only when the pipeline runs."""
        return [(port, value) for port, value in self.all if is_channel(value)]

    @property
    def fixed(self) -> list[tuple[Input, Any]]:
        """The inputs whose values are known now."""
        return [(port, value) for port, value in self.all if not is_channel(value)]


def wires(
    function: Callable[..., Any] | str,
    items: Any,
    components: Any,
    store: Any,
    constants: Mapping[str, Any],
    *,
    env: Mapping[str, Any] | None = None,
    code: Sequence[str] = (),
    options: RunOptions = DEFAULTS,
    reduce: Callable[[Any, Any], Any] | None = None,
) -> Wires:
    """Return each input of the scatter step with its value.

    Args:
        options: Options of the map, whose ``initializer`` travels with the function.
    """
    check_constant_names(constants)
    known = known_function(function)
    if known is not None:
        check_constants(known, constants, "constants=")
    try:
        made = _Wiring(known, shared_store(absolute(store, "store")), code)
        program = prepared(function, options, reduce)
        return _wired(made, program, items, components, constants, env=env or {})
    except RecursionError as error:
        raise InputError(
            "the items or constants are nested too deeply for Python",
            hint="pass flatter values, or write them to the store and pass their URI",
        ) from error


def prepared(function: Any, options: RunOptions, reduce: Callable[[Any, Any], Any] | None = None) -> Any:
    """Return a function together with its initializer and ``reduce``. Without these, a name stays a name."""
    if options.initializer is None and reduce is None:
        return function
    named = Named(function) if isinstance(function, str) else function
    return program_of(named, options.initializer, options.initargs, reduce)


def _wired(
    made: _Wiring,
    function: Any,
    items: Any,
    components: Any,
    constants: Mapping[str, Any],
    *,
    env: Mapping[str, Any],
) -> Wires:
    all_ = (
        made.function(function),
        made.items(items),
        *made.counts_and_places(components),
        *made.constants(constants),
        *made.env(env),
        *made.code(),
        *made.parameters.ports(),
        (RUN, dsl.PIPELINE_JOB_ID_PLACEHOLDER),
    )
    name = "" if isinstance(function, str) else shortened(name_of(function), _NAME)
    return Wires(all_, made.has_code, distributions(made.modules), name)


class _Wiring:
    """Makes the inputs of one fan-out, which share definitions, modules and room in the spec.

    Args:
        function: The function; None if it cannot be imported here.
        whole: Names and paths of code that always travels.
    """

    def __init__(self, function: Callable[..., Any] | None, store: Any, whole: Sequence[str]) -> None:
        self.parameters = Parameters()
        self._needs = NOTHING
        self._shared = Definitions()
        self._whole = whole
        self.has_code = False
        self.modules: set[str] = set()
        self._store = self.parameters.text(store) if type(store) is str else store
        self._of_item, self._of_constants = annotations_of(function)
        self._left = QUOTED

    def function(self, function: Any) -> tuple[Input, str]:
        """Return the input with the function by name, or pickled."""
        if isinstance(function, str):
            return Input("function", str, ("--function",)), function
        made = function_pickle(function)
        self._needs |= made.needs
        self._shared.by_name = made.needs.by_name
        refuse_parameters(made.core, "the function")
        self.has_code = True
        self.modules.update(environment.needed(made))
        text = written(made)
        if self._fits(text):
            return Input("function", str, ("--function-base64",)), text
        kept, places = parted(text)
        if not self._fits(places):
            kept, places = text, ""
        return Input("function", str, ("--function-reference",)), self._spilled("function", kept) + places

    def items(self, items: Any) -> tuple[Input, Any]:
        """Return the input with the items: a channel, a URI, or their values."""
        if is_channel(items):
            return self._open_items(items)
        if isinstance(items, str):
            return self._place_of_items(items)
        values = listed(items)
        if not values:
            raise NoItems("there is nothing to fan out over", hint="give at least one item")
        warn_of_secrets("items", {"items": values})
        made = self.parameters.inside(values)
        if made is values and (text := self._plain(values)):
            return Input("items", str, ("--items-json",)), text
        return self._pickled("items", made, _say_which_item)

    def _place_of_items(self, text: str) -> tuple[Input, str]:
        text = windows.slashed(str.__str__(text))
        if not Path(text.replace("\0", "")).exists():
            without_fields(text, "items")
        if "/" not in text and "{{" not in text:
            raise InputError(
                f"invalid items={text!r}: not a URI", hint="give a list, or gs://bucket/rows.jsonl"
            )
        if "://" not in text and not text.startswith("{{"):
            text = str(Path(text).absolute())
        found = self.parameters.text(text)
        if isinstance(found, Composed):
            return Input("items", str, ("--composed", "items")), found.to_json()
        return Input("items", str, ("--items-from",)), text

    def _open_items(self, items: Any) -> tuple[Input, Any]:
        if is_artifact(items) and items.is_artifact_list:
            return Input("items", dsl.Input[list[dsl.Artifact]], (ARTIFACTS,), artifact=True), items
        if is_artifact(items):
            return Input("items", dsl.Input[dsl.Artifact], ("--items-from",), artifact=True), items
        found = declared(items)
        of_item = list[self._of_item] if found.items is None and self._of_item else None  # type: ignore[name-defined]
        if is_of_loop(items) or (of_item is not None and found.kind == "list"):
            if found.kind not in ("list", "str", "json"):
                raise no_list(items)
            place = Composed((self.parameters.given(items, like=of_item),))
            return Input("items", str, ("--composed", "items")), place.to_json()
        if found.kind == "list":
            return Input("items", list, ("--items-type", str(found), "--items-parameter")), items
        if found.kind == "str":
            return Input("items", str, ("--items-from",)), items
        raise no_list(items)

    def counts_and_places(self, components: Any) -> Iterator[tuple[Input, Any]]:
        """Yield the inputs with the store and the number of components."""
        for port, what, value in zip(
            STORE_AND_SHARDS, ("store", "shards"), (self._store, components), strict=True
        ):
            if port.name == "components" and isinstance(value, str) and value == AUTO:
                yield Input("components", str, port.options), AUTO
            elif isinstance(value, Composed):
                yield Input(port.name, str, ("--composed", what)), value.to_json()
            elif is_channel(value):
                check_type(value, port.name, port.type)
                if is_of_loop(value):
                    place = Composed((self.parameters.given(value),))
                    yield Input(port.name, str, ("--composed", what)), place.to_json()
                else:
                    yield port, value
            else:
                yield port, checked(value, port)

    def constants(self, constants: Mapping[str, Any]) -> Iterator[tuple[Input, Any]]:
        """Yield the input with the constants; each parameter among them is an input of `parameters`."""
        if not constants:
            return
        warn_of_secrets("constant", {name: one for name, one in constants.items() if not is_channel(one)})
        values = {name: self._constant(name, value) for name, value in constants.items()}
        same = all(value is constants[name] for name, value in values.items())
        if same and (text := self._plain(values)):
            yield Input("constants", str, ("--constants-json",)), text
        else:
            yield self._pickled("constants", values, _say_which_constant)

    def env(self, env: Mapping[str, Any]) -> Iterator[tuple[Input, str]]:
        """Yield inputs with the variables that contain parameters of the pipeline; the others are options of the steps."""
        for name, value in env.items():
            if not (is_channel(value) or isinstance(value, (str, dsl.PipelineTask))):
                continue
            try:
                found = self.parameters.inside(value)
            except InputError as error:
                raise InputError(f"env={name!r}: {error.message}", hint=error.hint) from error
            if found is not value:
                made = found if isinstance(found, Composed) else Composed((found,))
                yield Input(f"env_{name}", str, (COMPOSED_ENV, name)), made.to_json()

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
        """Return values as JSON, which is readable, if JSON preserves them; None for others."""
        text = json.dumps(values) if is_plain(values) else ""
        inline = text and not any(mark in text for mark in MARKED) and self._fits(text, INLINE_LIMIT // 2)
        return text if inline else None

    def _pickled(self, what: str, value: Any, blame: Callable[[Any], None]) -> tuple[Input, str]:
        try:
            data = values_bytes(value, f"the {what}", self._shared)
        except InputError:
            blame(value)
            raise
        self.has_code = self.has_code or is_by_value(data)
        self.modules |= modules_named(data)
        text = packed(data)
        text = text if self._fits(text) else self._spilled(what, text)
        return Input(what, str, ("--pickled", what)), text

    def code(self) -> Iterator[tuple[Input, str]]:
        """Yield the input with the program's own code that the function and values need, if they need any."""
        code = code_of(self._needs | Needs(frozenset(self._shared.modules)), whole=self._whole)
        if code is None:
            return
        text = written_code(code)
        if not self._fits(text):
            text = written_code(
                code, self._stored("code", code.archive, ".zip", f"most of it is {code.largest()}")
            )
        self.has_code = True
        yield Input("code", str, ("--code",)), text

    def _fits(self, text: str, limit: int = INLINE_LIMIT) -> bool:
        """Return True if the spec still has room for a text, and reserve it."""
        if len(text) > min(limit, self._left):
            return False
        self._left -= len(text)
        return True

    def _spilled(self, kind: str, text: str) -> str:
        """Write a text that is too long for a pipeline spec to the store, under its digest, and return the reference."""
        return self._stored(
            kind, text.encode(), hint="or write the values to a table, and pass its URI or the artifact"
        )

    def _stored(self, kind: str, data: bytes, suffix: str = "", hint: str = "") -> str:
        if not isinstance(self._store, str):
            raise InputError(
                f"the {kind} takes {len(data):,} bytes: a pipeline spec has room for {INLINE_LIMIT:,}, and the store is not "
                "known before the run",
                hint=f"give store= as a string, so that the {kind} is written there when the pipeline is compiled; {hint}",
            )
        digest = sha256(data).hexdigest()
        name = f"{kind}/{digest}{suffix}"
        with open_store(self._store) as opened:
            opened.create(name, data)
            return f"{opened.child_uri(name)}#sha256={digest}"


def _say_which_item(values: list[Any]) -> None:
    for index, value in enumerate(values):
        values_bytes(value, f"item {index}")


def _say_which_constant(values: Mapping[str, Any]) -> None:
    for name, value in values.items():
        values_bytes(value, f"constant {name!r}")


def slug(function: Any) -> str:
    """Return a function's name in the spelling of a task's name."""
    name = function.rpartition(":")[2] if isinstance(function, str) else getattr(function, "__name__", "call")
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "call"
