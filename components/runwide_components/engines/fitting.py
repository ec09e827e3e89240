"""Reject runs whose arguments, stores or images an engine cannot pass on or reach."""

from __future__ import annotations

import json
import re
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from google.protobuf import json_format

from runwide.cli.declared import SAFE, beyond
from runwide.cli.given import composed
from runwide.cli.wire import ARGUMENT
from runwide.errors import InputError
from runwide.json_text import json_of
from runwide_components.engines.spec import images_of
from runwide_components.engines.step_options import containers_of, program_of
from runwide_components.parameters import Inputs

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping


_KEY = re.compile(r'parseJson\(string_value\)\["(.*)"\]')
_FILLED_IN = re.compile(r"\{\{.*?\}\}")  # by the engine, at run time
_MOST = 1000  # iterations of a loop that are examined


def stores_of(spec: Any, arguments: Mapping[str, Any], *, ours: bool = False) -> Iterator[str]:
    """Yield the values of all inputs named ``store`` that are known before the pipeline runs.

    Args:
        spec: The compiled pipeline; None where it is not known yet.
        ours: Yield only stores of runwide's own steps: in a step of the author, ``store`` may mean a shop.
    """
    if spec is None:
        return
    known = {**defaults_of(spec.root), **arguments}
    yield from dict.fromkeys(_stores(spec, spec.root, known, ours=ours))


def store_parameters(spec: Any, component: Any = None) -> set[str]:
    """Return the parameters of a pipeline whose whole value is the store of one of runwide's steps."""
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
    container = containers_of(spec).get(component.executor_label)
    return container is not None and program_of(container) == "runwide"


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
        if not _FILLED_IN.search(found):  # the step rejects such a text, and no folder may be made of it
            yield found


def defaults_of(component: Any) -> dict[str, Any]:
    """Return the default values of a pipeline's parameters by name."""
    found = component.input_definitions.parameters
    return {
        name: json_format.MessageToDict(one.default_value)
        for name, one in found.items()
        if one.default_value.WhichOneof("kind")
    }


def _inputs(task: Any, known: Mapping[str, Any]) -> dict[str, Any]:
    found = {}
    for name, one in task.inputs.parameters.items():
        if one.HasField("runtime_value"):
            found[name] = json_format.MessageToDict(one.runtime_value.constant)
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


def check_arguments(spec: Any, arguments: Mapping[str, Any], where: str = "") -> None:
    """Reject arguments that are too long for one argument of a step, and whole numbers that lose digits.

    Args:
        where: Text before the argument's name in an error.

    Example:
        >>> check_arguments(None, {"rows": [1, 2]})
    """
    defaults, kinds = ({}, {}) if spec is None else (defaults_of(spec.root), Inputs.of(spec).kinds)
    for name, value in {**defaults, **arguments}.items():
        size = len((value if isinstance(value, str) else json.dumps(value, default=str)).encode())
        if size > ARGUMENT:
            raise InputError(
                f"{where}{name} takes {size} bytes: an argument of a step has at most {ARGUMENT}",
                hint="write the value to a table, and pass its URI or an artifact",
            )
        if kinds.get(name) != "float":
            whole = kinds.get(name) == "int" and isinstance(value, float) and value.is_integer()
            _check_numbers(int(value) if whole else value, where + name)


def checked_stores(spec: Any, arguments: Mapping[str, Any], where: str = "") -> tuple[str, ...]:
    """Check the arguments of a run, and return the stores that its pipeline names."""
    check_arguments(spec, arguments, where)
    return tuple(stores_of(spec, arguments))


def _check_numbers(value: Any, where: str) -> None:
    if type(value) is int and abs(value) >= SAFE:
        raise beyond(value, where)
    if isinstance(value, list):
        for index, one in enumerate(value):
            _check_numbers(one, f"{where}[{index}]")
    elif isinstance(value, dict):
        for name, one in value.items():
            _check_numbers(one, f"{where}[{name!r}]")


_BUCKET = re.compile(r"gs://[^/{}\s]+(/.*)?", re.DOTALL)
_IMAGE_HINT = (
    "give the whole address in image= or RUNWIDE_IMAGE, such as base_image('my-project') of runwide_components, or "
    "docker.io/user/image"
)
_STORE_HINT = "use a bucket: gs://bucket/prefix"


def refuse_unfit(
    engine: str,
    spec: Any,
    arguments: Mapping[str, Any],
    *,
    stores: Iterable[str | None] = (),
    images: Iterable[str] = (),
    mounts: Iterable[str] = (),
) -> None:
    """Reject a run that cannot work on an engine's machines, with all reasons in one error.

    Args:
        stores: Further stores that its steps use; None is ignored.
        images: Further images of runwide's steps.
        mounts: Folders that its steps can read and write, in which stores may be.

    Example:
        >>> refuse_unfit("Vertex", None, {}, stores=["gs://bucket/runs"], images=["ghcr.io/shop/steps:1"])
        >>> refuse_unfit("Vertex", None, {}, stores=["runs"])
        Traceback (most recent call last):
        ...
        runwide.errors.InputError: a step on Vertex cannot reach this store [runs]; use a bucket: gs://bucket/prefix
    """
    checked_stores(spec, arguments)  # rejects arguments
    found_stores = [*stores, *stores_of(spec, arguments, ours=True)]
    found_images = [*images, *_images(spec)]
    unreachable = [
        store for store in dict.fromkeys(found_stores) if store and not is_reachable(store, mounts)
    ]
    unnamed = [image for image in dict.fromkeys(found_images) if not has_registry(image)]
    if not unreachable and not unnamed:
        return
    said, uris, hints = [], [], []
    if unnamed:
        said.append(f"an image of runwide's steps names no registry from which {engine} can pull it")
        uris += unnamed
        hints.append(_IMAGE_HINT)
    if unreachable:
        said.append(f"a step on {engine} cannot reach this store")
        uris += unreachable
        hints.append(_STORE_HINT)
    raise InputError("; ".join(said), uri=", ".join(uris), hint="; ".join(hints))


def is_reachable(store: str, mounts: Iterable[str] = ()) -> bool:
    """Return True if the machines of a cloud can reach a store, as far as that is known before the run.

    Example:
        >>> [is_reachable(store, ["/mnt/all"]) for store in ("gs://b/runs", "/mnt/all/runs", "/tmp", "memory://x", "gs://")]
        [True, True, False, False, False]
    """
    if _FILLED_IN.search(store) or _BUCKET.fullmatch(store):
        return True
    folder = store.removeprefix("file://").rstrip("/")
    return any(folder == mount or folder.startswith(f"{mount}/") for mount in mounts)


def has_registry(image: str) -> bool:
    """Return True if the name of an image contains its registry.

    Example:
        >>> [has_registry(image) for image in ("runwide:0.1.0", "user/runwide", "docker.io/user/runwide", "kind:5000/x")]
        [False, False, True, True]
    """
    if _FILLED_IN.search(image):
        return True
    host, slash, _ = image.partition("/")
    return bool(slash) and ("." in host or ":" in host or host == "localhost")


def _images(spec: Any) -> Iterator[str]:
    """Yield the images of runwide's steps, and of the author's steps where the image is one of this machine."""
    if spec is None:
        return
    yield from images_of(spec, "runwide")
    yield from (image for image in images_of(spec) if image.partition(":")[0] == "runwide")
