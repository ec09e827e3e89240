"""Relative stores of a run on this machine: taken from the client's directory, or refused, since steps do not work there."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from google.protobuf import json_format

from runwide.errors import InputError
from runwide_components.engines.stores import store_parameters, stores

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


def absolute(spec: Any, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of a run with relative stores, and any `pathlib.Path`, made absolute.

    A parameter is a store if it is, as a whole, the store of a fan-out, through however many pipelines. A relative
    default becomes an argument.

    Args:
        spec: The compiled pipeline.
        arguments: Of the run.
    """
    wanted = store_parameters(spec)
    declared = spec.root.input_definitions.parameters
    defaults = {
        name: json_format.MessageToDict(declared[name].default_value)
        for name in wanted
        if name in declared and declared[name].default_value.WhichOneof("kind") == "string_value"
    }
    relative = {name: value for name, value in defaults.items() if is_relative(value)}
    return {
        name: in_full(value) if name in wanted or isinstance(value, os.PathLike) else value
        for name, value in {**relative, **arguments}.items()
    }


def in_full(value: Any) -> Any:
    """Return a store with a relative folder taken from the client's directory; anything else as it is.

    Args:
        value: A URI, a folder, or anything.

    Example:
        >>> in_full("gs://bucket/runs"), in_full("runs") == str(Path("runs").absolute())
        ('gs://bucket/runs', True)
    """
    value = os.fspath(value) if isinstance(value, os.PathLike) else value
    return str(Path(value).absolute()) if is_relative(value) else value


def is_relative(value: Any) -> bool:
    """Whether a store is a folder that depends on the directory of who opens it.

    Args:
        value: The store; one that kfp fills in at run time is not known yet.

    Example:
        >>> [is_relative(store) for store in ("runs", "/mnt/runs", "file:///mnt/runs", "{{channel}}", None)]
        [True, False, False, False, False]
    """
    known = isinstance(value, str) and value and "://" not in value and "{{" not in value
    # what these are is said where the store is opened
    odd = isinstance(value, str) and value.startswith(("~", "file:"))
    return bool(known) and not odd and not Path(value).is_absolute()


def refuse(spec: Any, arguments: Mapping[str, Any], more: Iterable[str | None] = ()) -> None:
    """Reject stores that steps on this machine do not see.

    A relative one is an item of a loop, or a text with parts; one that is an argument alone is made absolute.

    Args:
        spec: The compiled pipeline; None where it is not known.
        arguments: Of the run.
        more: Further stores, which may be relative; None is none.

    Raises:
        InputError: There is one.
    """
    found = [] if spec is None else list(stores(spec, absolute(spec, arguments), ours=True))
    for store in (one for one in (*more, *found) if one):
        if store.startswith("memory:"):
            raise InputError(
                "a step does not see this store, which is the memory of one process",
                uri=store,
                hint="give a folder, or gs://bucket/prefix",
            )
    for store in found:
        if is_relative(store):
            raise InputError(
                f"a fan-out of this pipeline has the relative store {store!r}, and steps have directories of their own",
                hint=f"give the folder in full, such as {str(Path(store).absolute())!r}, or gs://bucket/prefix",
            )
