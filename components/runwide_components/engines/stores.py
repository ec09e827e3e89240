"""The stores that a compiled pipeline names, with its arguments in the place of its parameters."""

from __future__ import annotations

import json
import re
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from google.protobuf import json_format

from runwide.cli.given import composed
from runwide.errors import InputError
from runwide.parsing import json_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_KEY = re.compile(r'parseJson\(string_value\)\["(.*)"\]')
_MARK = re.compile(r"\{\{.*?\}\}")
_MOST = 1000  # rounds of a loop that are looked at


def stores(spec: Any, arguments: Mapping[str, Any], *, ours: bool = False) -> Iterator[str]:
    """The values of all inputs named ``store``, as far as they are known before the pipeline runs.

    Args:
        spec: The compiled pipeline.
        arguments: Of the run.
        ours: Only those of steps of ours: one of the author's may call a shop its store.
    """
    known = {**_defaults(spec.root), **arguments}
    yield from dict.fromkeys(_stores(spec, spec.root, known, ours=ours))


def store_parameters(spec: Any, component: Any = None) -> set[str]:
    """The parameters of a pipeline that are the store of a step of ours, as a whole.

    Args:
        spec: The compiled pipeline.
        component: A pipeline in it; None for the outermost.
    """
    found = set()
    for task in (component or spec.root).dag.tasks.values():
        inner = spec.components[task.component_ref.name]
        wanted = {"store"} if _is_ours(spec, inner) else set()
        if inner.HasField("dag"):
            wanted = store_parameters(spec, inner)
        given = [task.inputs.parameters[name] for name in wanted if name in task.inputs.parameters]
        found |= {one.component_input_parameter for one in given if not one.parameter_expression_selector}
    return found - {""}


def _is_ours(spec: Any, component: Any) -> bool:
    executors = spec.deployment_spec.fields["executors"].struct_value.fields
    if component.executor_label not in executors:
        return False
    container = executors[component.executor_label].struct_value.fields["container"].struct_value.fields
    command = container["command"].list_value.values if "command" in container else ()
    return [word.string_value for word in command[:1]] == ["runwide"]


def _stores(spec: Any, component: Any, known: Mapping[str, Any], *, ours: bool) -> Iterator[str]:
    for task in component.dag.tasks.values():
        inner = spec.components[task.component_ref.name]
        for items in _rounds(task, known):
            values = {**_defaults(inner), **_inputs(task, {**known, **items}), **items}
            if inner.HasField("dag"):
                yield from _stores(spec, inner, values, ours=ours)
            store = values.get("store")
            if isinstance(store, str) and not (ours and (inner.HasField("dag") or not _is_ours(spec, inner))):
                yield from _whole(store, values)


def _whole(store: str, values: Mapping[str, Any]) -> Iterator[str]:
    """A store's URI, put together if it is a text with parameters in it."""
    texts = {
        name: value if isinstance(value, str) else json.dumps(value)
        for name, value in values.items()
        if value is not None
    }
    with suppress(InputError):  # of what only the engine knows
        found = composed(store, "store").text(texts) if store.startswith("[") else store
        if not _MARK.search(found):  # the step refuses it, and no folder is made of it
            yield found


def _defaults(component: Any) -> dict[str, Any]:
    found = component.input_definitions.parameters
    return {
        name: _python(one.default_value)
        for name, one in found.items()
        if one.default_value.WhichOneof("kind")
    }


def _inputs(task: Any, known: Mapping[str, Any]) -> dict[str, Any]:
    found = {}
    for name, one in task.inputs.parameters.items():
        if one.HasField("runtime_value"):
            found[name] = _python(one.runtime_value.constant)
        elif known.get(one.component_input_parameter) is not None:
            value = known[one.component_input_parameter]
            key = _KEY.fullmatch(one.parameter_expression_selector)
            found[name] = value.get(key[1]) if key and isinstance(value, dict) else value
    return found


def _rounds(task: Any, known: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The item of each round of a loop over a list that is known; one round of no item for all others."""
    loop = task.parameter_iterator
    items = (
        json_of(loop.items.raw) if loop.items.raw else _inputs(task, known).get(loop.items.input_parameter)
    )
    if not isinstance(items, list) or not loop.item_input:
        return [{}]
    return [{loop.item_input: item} for item in items[:_MOST]]


def _python(value: Any) -> Any:
    return json_format.MessageToDict(value)
