"""Relative stores of a run on this machine: made absolute, or rejected, since steps have other working directories."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runwide.errors import InputError
from runwide_components.engines.stores import defaults_of, store_parameters, stores_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


def absolute_stores(spec: Any, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of a run with relative stores, and any `pathlib.Path`, made absolute.

    A parameter is a store if its whole value is the store of a fan-out, also of one in a pipeline inside of this one. A
    relative default becomes an argument.
    """
    wanted = store_parameters(spec)
    defaults = defaults_of(spec.root)
    relative = {name: defaults[name] for name in wanted if is_relative(defaults.get(name))}
    return {
        name: in_full(value) if name in wanted or isinstance(value, os.PathLike) else value
        for name, value in {**relative, **arguments}.items()
    }


def in_full(value: Any) -> Any:
    """Return a store with a relative folder made absolute, and any other value unchanged.

    Args:
        value: A URI, a folder, or any other value.

    Example:
        >>> in_full("gs://bucket/runs"), in_full("runs") == str(Path("runs").absolute())
        ('gs://bucket/runs', True)
    """
    value = os.fspath(value) if isinstance(value, os.PathLike) else value
    return str(Path(value).absolute()) if is_relative(value) else value


def is_relative(value: Any) -> bool:
    """Return True if a store is a folder relative to the working directory.

    Args:
        value: The store. A placeholder of kfp is not known yet, and gives False.

    Example:
        >>> [is_relative(store) for store in ("runs", "/mnt/runs", "file:///mnt/runs", "{{channel}}", None)]
        [True, False, False, False, False]
    """
    known = isinstance(value, str) and value and "://" not in value and "{{" not in value
    # opening the store rejects these
    odd = isinstance(value, str) and value.startswith(("~", "file:"))
    return bool(known) and not odd and not Path(value).is_absolute()


def refuse_stores(spec: Any, arguments: Mapping[str, Any], more: Iterable[str | None] = ()) -> None:
    """Reject stores that steps on this machine cannot reach.

    `absolute_stores` has replaced relative stores in arguments. The others are items of a loop, or composed texts.

    Args:
        spec: The compiled pipeline; None where it is not known.
        arguments: Arguments of the run.
        more: Further stores, which may be relative; None is ignored.

    Raises:
        InputError: A step cannot reach a store.
    """
    found = [] if spec is None else list(stores_of(spec, absolute_stores(spec, arguments), ours=True))
    for store in (one for one in (*more, *found) if one):
        if store.startswith("memory:"):
            raise InputError(
                "a step cannot reach this store: it is in the memory of one process",
                uri=store,
                hint="give a folder, or gs://bucket/prefix",
            )
    for store in found:
        if is_relative(store):
            raise InputError(
                f"a fan-out of this pipeline has the relative store {store!r}: steps have other working directories",
                hint=f"give an absolute path, such as {str(Path(store).absolute())!r}, or gs://bucket/prefix",
            )
