"""Refuses, before anything is submitted, images and stores that the machines of a cloud or a cluster cannot reach."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from runwide.errors import InputError
from runwide_components.engines.arguments import checked_stores
from runwide_components.engines.spec import images_of
from runwide_components.engines.stores import stores as stores_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

# no dots and no slashes: Google's client makes the region a part of the host's name
PROJECT = re.compile(r"[a-z0-9][a-z0-9-]{1,62}|[a-z0-9.-]{1,60}:[a-z0-9-]{1,62}")
"""Id of a project of Google Cloud, or its number; with its domain where it has one."""
REGION = re.compile(r"[a-z]+(-[a-z]+)+[0-9]{1,2}")
"""Name of a region of Google Cloud."""

_BUCKET = re.compile(r"gs://[^/{}\s]+(/.*)?", re.DOTALL)
_FILLED_IN = re.compile(r"\{\{.*?\}\}")  # by the engine, at run time
_IMAGE_HINT = (
    "give image= or RUNWIDE_IMAGE its whole address, such as base_image('my-project') of runwide_components, or "
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
    """Reject a run that an engine's machines cannot do: all that is wrong with it, in one error.

    Args:
        engine: What to call the engine.
        spec: The compiled pipeline; None where it is not known here.
        arguments: Of the run.
        stores: Further stores that its steps use; None is none.
        images: Further images of steps of ours.
        mounts: Folders that its steps see, in which stores may lie.

    Raises:
        InputError: An image of our steps has no registry, a store is not in a bucket, or an argument cannot be passed on.

    Example:
        >>> refuse_unfit("Vertex", None, {}, stores=["gs://bucket/runs"], images=["ghcr.io/shop/steps:1"])
        >>> refuse_unfit("Vertex", None, {}, stores=["runs"])
        Traceback (most recent call last):
        ...
        runwide.errors.InputError: a step on Vertex does not see this store [runs]; use a bucket: gs://bucket/prefix
    """
    checked_stores(spec, arguments)  # for its errors
    found_stores = [*stores, *_of_ours(spec, arguments)]
    found_images = [*images, *_images(spec)]
    unseen = [store for store in dict.fromkeys(found_stores) if store and not is_seen(store, mounts)]
    nowhere = [image for image in dict.fromkeys(found_images) if not has_registry(image)]
    if not unseen and not nowhere:
        return
    said, uris, hints = [], [], []
    if nowhere:
        said.append(f"an image of runwide's steps names no registry from which {engine} could pull it")
        uris += nowhere
        hints.append(_IMAGE_HINT)
    if unseen:
        said.append(f"a step on {engine} does not see this store")
        uris += unseen
        hints.append(_STORE_HINT)
    raise InputError("; ".join(said), uri=", ".join(uris), hint="; ".join(hints))


def is_seen(store: str, mounts: Iterable[str] = ()) -> bool:
    """Whether the machines of a cloud see a store, as far as that is known before the run.

    Args:
        store: Its URI.
        mounts: Folders that they see.

    Example:
        >>> [is_seen(store, ["/mnt/all"]) for store in ("gs://b/runs", "/mnt/all/runs", "/tmp", "memory://x", "gs://")]
        [True, True, False, False, False]
    """
    if _FILLED_IN.search(store) or _BUCKET.fullmatch(store):
        return True
    folder = store.removeprefix("file://").rstrip("/")
    return any(folder == mount or folder.startswith(f"{mount}/") for mount in mounts)


def has_registry(image: str) -> bool:
    """Whether the name of an image says from which registry it comes.

    Args:
        image: The name.

    Example:
        >>> [has_registry(image) for image in ("runwide:0.1.0", "user/runwide", "docker.io/user/runwide", "kind:5000/x")]
        [False, False, True, True]
    """
    if _FILLED_IN.search(image):
        return True
    host, slash, _ = image.partition("/")
    return bool(slash) and ("." in host or ":" in host or host == "localhost")


def _of_ours(spec: Any, arguments: Mapping[str, Any]) -> Iterator[str]:
    if spec is not None:
        yield from stores_of(spec, arguments, ours=True)


def _images(spec: Any) -> Iterator[str]:
    """Images of steps of ours, and of the author's own where no registry of the world has them."""
    if spec is None:
        return
    yield from images_of(spec, "runwide")
    for image in images_of(spec):
        if image.partition(":")[0] == "runwide":
            yield image
