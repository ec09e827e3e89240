"""Find the stores that a compiled pipeline names, with the arguments of a run filled in."""

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
_MOST = 1000  # iterations of a loop that are examined


def stores_of(spec: Any, arguments: Mapping[str, Any], *, ours: bool = False) -> Iterator[str]:
    """Yield the values of all inputs named ``store`` that are known before the pipeline runs.

    Args:
        spec: The compiled pipeline.
        arguments: Arguments of the run.
        ours: Yield only stores of runwide's own steps: in a step of the author, ``store`` may mean a shop.
    """
    known = {**defaults_of(spec.root), **arguments}
    yield from dict.fromkeys(_stores(spec, spec.root, known, ours=ours))


def store_parameters(spec: Any, component: Any = None) -> set[str]:
    """Return the parameters of a pipeline whose whole value is the store of one of runwide's steps.

    Args:
        spec: The compiled pipeline.
        component: A pipeline inside of it; None for the outermost.
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
        for items in _iterations(task, known):
            values = {**defaults_of(inner), **_inputs(task, {**known, **items}), **items}
            if inner.HasField("dag"):
                yield from _stores(spec, inner, values, ours=ours)
            store = values.get("store")
            if isinstance(store, str) and not (ours and (inner.HasField("dag") or not _is_ours(spec, inner))):
                yield from _whole(store, values)


def _whole(store: str, values: Mapping[str, Any]) -> Iterator[str]:
    """Yield the URI of a store, composed if it is a text with parameters."""
    texts = {
        name: value if isinstance(value, str) else json.dumps(value)
        for name, value in values.items()
        if value is not None
    }
    with suppress(InputError):  # a placeholder that only the engine can replace
        found = composed(store, "store").text(texts) if store.startswith("[") else store
        if not _MARK.search(found):  # the step rejects such a text, and no folder may be made of it
            yield found


def defaults_of(component: Any) -> dict[str, Any]:
    """Return the default values of a pipeline's parameters by name."""
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


def _iterations(task: Any, known: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the item of each iteration of a loop over a known list; one iteration without an item for other tasks."""
    loop = task.parameter_iterator
    items = (
        json_of(loop.items.raw) if loop.items.raw else _inputs(task, known).get(loop.items.input_parameter)
    )
    if not isinstance(items, list) or not loop.item_input:
        return [{}]
    return [{loop.item_input: item} for item in items[:_MOST]]


def _python(value: Any) -> Any:
    return json_format.MessageToDict(value)
