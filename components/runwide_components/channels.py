"""Parameters of a pipeline in the values of a fan-out: each becomes an input of the scatter step, with its declared type."""

from __future__ import annotations

import json
import re
from typing import Any

from kfp import dsl
from kfp.dsl import for_loop, pipeline_channel, pipeline_context
from kfp.dsl.types import type_utils

from runwide.cli.declared import JSON, SAFE, Declared, beyond, of_annotation, of_values, parse
from runwide.cli.given import Composed, Given, rebuilt
from runwide.cli.scatter_arguments import QUOTED
from runwide.errors import InputError
from runwide.naming import kind_of
from runwide_components.steps import Input

_CHANNEL = re.compile(r"\{\{channel:task=([^;]*);name=([^;]+);type=(.*?);\}\}")
_MARKS = sorted(
    {
        getattr(dsl, name)
        for name in dir(dsl)
        if name.startswith(("PIPELINE_JOB_", "PIPELINE_ROOT", "PIPELINE_TASK_NAME", "PIPELINE_TASK_ID"))
        or name == "WORKSPACE_PATH_PLACEHOLDER"
    }
)
_IN_TEXT = re.compile("|".join([_CHANNEL.pattern, *map(re.escape, _MARKS)]))
_TYPES = {
    type_utils.NUMBER_INTEGER: int, type_utils.NUMBER_DOUBLE: float, type_utils.STRING: str,
    type_utils.BOOLEAN: bool, type_utils.LIST: list, type_utils.STRUCT: dict,
}  # fmt: skip
_LOOPS = (for_loop.LoopParameterArgument, for_loop.LoopArgumentVariable)


def is_channel(value: Any) -> bool:
    """Return True for a parameter of the pipeline or an output of a task: values that are known only at run time."""
    return isinstance(value, pipeline_channel.PipelineChannel)


def refuse_open(**options: Any) -> None:
    """Reject parameters of the pipeline as options whose values are needed when the pipeline is compiled.

    Example:
        >>> refuse_open(retries=2)
    """
    for name, value in options.items():
        if is_channel(value) or isinstance(value, dsl.PipelineTask):
            raise InputError(
                f"{name}= is a parameter of the pipeline, and its value is needed when the pipeline is compiled",
                hint="give the value itself",
            )


def is_of_loop(value: Any) -> bool:
    """Return True for an item of a ``dsl.ParallelFor``, or a value inside of one."""
    return isinstance(value, _LOOPS)


def is_artifact(channel: Any) -> bool:
    """Return True if a channel is an artifact. A step receives the URI of an artifact."""
    return isinstance(channel, (pipeline_channel.PipelineArtifactChannel, for_loop.LoopArtifactArgument)) or (
        isinstance(channel, dsl.Collected) and channel.is_artifact_channel
    )


def unshared(channel: Any) -> Any:
    """Return a channel for one input: kfp 2.17 modifies a collected list as it compiles, so two inputs cannot share it."""
    return dsl.Collected(channel.output) if isinstance(channel, dsl.Collected) else channel


def declared(channel: Any) -> Declared:
    """Return the type of a parameter's value, as exactly as the pipeline declares it; `JSON` without a declaration."""
    known = _raw(channel)
    if known is not None:
        return of_values(known)
    if isinstance(channel, for_loop.LoopArgumentVariable):
        return _inside(declared(channel.loop_argument), "dict")
    if isinstance(channel, for_loop.LoopParameterArgument):
        return _inside(declared(channel.items_or_pipeline_channel), "list")
    if isinstance(channel, dsl.Collected):
        return Declared("list", declared(channel.output))
    return parse(str(channel.channel_type)) or JSON


def _inside(outer: Declared, kind: str) -> Declared:
    return (outer.items or JSON) if outer.kind == kind else JSON


def _raw(channel: Any) -> list[Any] | None:
    """Return the possible values of an item of a loop, if they are a list in the program; None for others."""
    if isinstance(channel, for_loop.LoopArgumentVariable):
        return _below(_raw(channel.loop_argument), channel)
    if not isinstance(channel, for_loop.LoopParameterArgument):
        return None
    items = channel.items_or_pipeline_channel
    if not is_channel(items):
        return list(items)
    outer = _raw(items)
    return None if outer is None else [one for many in outer for one in _listed(many, channel)]


def _below(items: list[Any] | None, channel: Any) -> list[Any] | None:
    if items is None:
        return None
    lacking = [
        index
        for index, item in enumerate(items)
        if not isinstance(item, dict) or channel.subvar_name not in item
    ]
    if lacking:
        raise InputError(
            f"item {lacking[0]} of the loop has no {channel.subvar_name!r}",
            hint="give every item of a dsl.ParallelFor the same keys",
        )
    return [item[channel.subvar_name] for item in items]


def _listed(value: Any, channel: Any) -> list[Any]:
    if not isinstance(value, (list, tuple)):
        raise InputError(f"{channel.name} loops over {kind_of(value)}: expected a list")
    return list(value)


class Parameters:
    """The parameters that one scatter step needs, collected from its values."""

    def __init__(self) -> None:
        self._ports: dict[str, tuple[Input, Any]] = {}

    def ports(self) -> list[tuple[Input, Any]]:
        """Return each input with its channel, or with the placeholder of kfp that the engine replaces."""
        return list(self._ports.values())

    def given(self, channel: Any, *, name: str = "", like: Any = None) -> Given:
        """Add a parameter to the inputs, and return the mark of its place in the values.

        Args:
            name: Name of the step's input; empty to derive it from the channel.
            like: Annotation of the function's parameter that has this value, used if kfp declares no exact type.
        """
        if is_artifact(channel):
            what = name.removeprefix("constant_") or channel.name
            raise InputError(
                f"{'constant ' if name else ''}{what!r} is an artifact, not a parameter",
                hint="pass its URI as a str",
            )
        found = declared(channel)
        _refuse_large(_raw(channel), channel)
        _refuse_long(_raw(_whole(channel)), channel)
        wish = of_annotation(like) if like is not None and _is_open(found) else None
        about = {"type": str(found), "like": str(wish) if wish else ""}
        if isinstance(channel, for_loop.LoopArgumentVariable):
            return Given(self._port(channel.loop_argument), key=channel.subvar_name, **about)
        if not isinstance(channel, for_loop.LoopParameterArgument):
            return Given(self._port(channel, name), **about)
        if channel.channel_type == "String" and found == JSON:
            if (values := _raw(channel)) is None:
                return Given(self._port(channel, name), among=self._list_of(channel), **about)
            if not any(isinstance(value, str) for value in values):  # so each text is JSON
                return Given(self._port(channel, name), **about)
        return Given(self._port(_as_declared(channel, found), name), **about)

    def _list_of(self, channel: Any) -> str:
        """Add the list of a loop as another input: without a declared type, the text of one item does not show its type."""
        items = channel.items_or_pipeline_channel
        if is_of_loop(items):
            raise InputError(
                f"the type of {channel.name} cannot be known",
                hint="declare the items of the list of the outer loop, such as List[Dict[str, List[int]]]",
            )
        return self._port(items)

    def _port(self, channel: Any, name: str = "") -> str:
        key = f"{type(channel).__name__} {channel.pattern} {name}"
        if key not in self._ports:
            name = self._free(name or f"given_{channel.full_name}")
            kind = _TYPES[type_utils.get_parameter_type(channel.channel_type)]
            optional = type(channel) is pipeline_channel.PipelineParameterChannel and not channel.task_name
            port = Input(name, kind, ("--given", name), optional=optional)
            self._ports[key] = (port, channel)
        return self._ports[key][0].name

    def _mark(self, mark: str) -> Given:
        """Add a placeholder of kfp as a separate input, since some engines replace only whole texts."""
        if mark not in self._ports:
            name = self._free(f"given_{mark.strip('{}$.')}")
            self._ports[mark] = (Input(name, str, ("--given", name)), mark)
        return Given(self._ports[mark][0].name, "str")

    def _free(self, wanted: str) -> str:
        name = re.sub(r"\W+", "_", wanted)
        taken = {port.name for port, _ in self._ports.values()}
        return next(
            one
            for one in (name, *(f"{name}_{number}" for number in range(2, len(taken) + 3)))
            if one not in taken
        )

    def text(self, text: str) -> str | Composed:
        """Return a text, split into parts if it contains parameters."""
        parts: list[str | Given] = []
        end = 0
        for found in _IN_TEXT.finditer(text):
            parts.append(text[end : found.start()])
            end = found.end()
            parts.append(
                self._mark(found[0])
                if found[0] in _MARKS
                else self.given(_channel_of(found[1], found[2], found[3]))
            )
        parts.append(text[end:])
        return Composed(tuple(part for part in parts if part != "")) if len(parts) > 1 else text

    def inside(self, value: Any) -> Any:
        """Return a value with marks in the places of its parameters."""
        return rebuilt(value, self._leaf)

    def _leaf(self, value: Any) -> Any:
        if is_channel(value):
            return self.given(value)
        if isinstance(value, dsl.PipelineTask):
            raise InputError("a value is a task, not its output", hint="pass its .output")
        return self.text(value) if type(value) is str else value


def _is_open(found: Declared) -> bool:
    """Return True if a type does not say whether its numbers are integers."""
    if found.kind in ("list", "dict", "optional"):
        return found.items is None or _is_open(found.items)
    return found == JSON


def _refuse_large(values: Any, channel: Any) -> None:
    """Reject integers of a loop that would lose digits in the pipeline."""
    if isinstance(values, dict):
        values = list(values.values())
    if isinstance(values, (list, tuple)):
        for value in values:
            _refuse_large(value, channel)
    elif type(values) is int and abs(values) >= SAFE:
        raise beyond(values, f"an item of the loop, {channel.name},")


def _whole(channel: Any) -> Any:
    return channel.loop_argument if isinstance(channel, for_loop.LoopArgumentVariable) else channel


def _refuse_long(values: list[Any] | None, channel: Any) -> None:
    """Reject items of a loop that are too long for an argument."""
    sizes = [len(json.dumps(value, default=str)) for value in values or ()]
    if sizes and max(sizes) > QUOTED:
        raise InputError(
            f"item {sizes.index(max(sizes))} of the loop, {channel.name}, takes {max(sizes)} bytes: an argument of a "
            f"step has at most {QUOTED}",
            hint="write the items to tables, and loop over URIs",
        )


def _as_declared(channel: Any, found: Declared) -> Any:
    """Return an item of a loop as a channel with the type of all its values: kfp declares the type of the first value."""
    values = _raw(channel)
    if values is None or found.kind != "json":
        return channel
    if any(isinstance(value, bool) or not isinstance(value, (int, float)) for value in values):
        kinds = sorted({type(value).__name__ for value in values})
        raise InputError(
            f"the items of the loop have several types ({', '.join(kinds)}), and kfp declares them by the first item",
            hint='loop over dicts such as {"value": 1}, and use item.value',
        )
    made = object.__new__(
        type(channel)
    )  # copy.copy() does not work: the object pretends to have every attribute
    vars(made).update(vars(channel), channel_type="float")
    return made


def _channel_of(task: str, name: str, kind: str) -> Any:
    """Return the channel whose placeholder is in a text."""
    pipeline = pipeline_context.Pipeline.get_default_pipeline()
    for group in reversed(pipeline.groups if pipeline else []):
        loop = getattr(group, "loop_argument", None)
        if loop is not None and name == loop.name:
            return loop
        if loop is not None and name.startswith(f"{loop.name}-subvar-"):
            return getattr(loop, name.removeprefix(f"{loop.name}-subvar-"))
    if "@" in kind or kind == "LIST":
        raise InputError(
            f"a text holds {name!r}, which is {'collected from a loop' if kind == 'LIST' else 'an artifact'}",
            hint="pass it in constants=, or its URI as a str",
        )
    made = pipeline.tasks.get(task) if pipeline and task else None
    if made is not None and name in made.outputs:
        return made.outputs[name]
    return pipeline_channel.create_pipeline_channel(name=name, channel_type=kind, task_name=task or None)
