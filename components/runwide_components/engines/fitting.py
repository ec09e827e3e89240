"""Reject images and stores that the machines of a cloud or a cluster cannot reach, before anything is submitted."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from runwide.errors import InputError
from runwide_components.engines.arguments import checked_stores
from runwide_components.engines.spec import images_of
from runwide_components.engines.stores import stores_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

_BUCKET = re.compile(r"gs://[^/{}\s]+(/.*)?", re.DOTALL)
_FILLED_IN = re.compile(r"\{\{.*?\}\}")  # by the engine, at run time
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
        engine: Name of the engine.
        spec: The compiled pipeline; None where it is not known here.
        arguments: Arguments of the run.
        stores: Further stores that its steps use; None is ignored.
        images: Further images of runwide's steps.
        mounts: Folders that its steps can read and write, in which stores may be.

    Raises:
        InputError: An image has no registry, a store is not in a bucket, or an argument cannot be passed on.

    Example:
        >>> refuse_unfit("Vertex", None, {}, stores=["gs://bucket/runs"], images=["ghcr.io/shop/steps:1"])
        >>> refuse_unfit("Vertex", None, {}, stores=["runs"])
        Traceback (most recent call last):
        ...
        runwide.errors.InputError: a step on Vertex cannot reach this store [runs]; use a bucket: gs://bucket/prefix
    """
    checked_stores(spec, arguments)  # rejects arguments
    found_stores = [*stores, *_of_ours(spec, arguments)]
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


def _of_ours(spec: Any, arguments: Mapping[str, Any]) -> Iterator[str]:
    if spec is not None:
        yield from stores_of(spec, arguments, ours=True)


def _images(spec: Any) -> Iterator[str]:
    """Yield the images of runwide's steps, and of the author's steps where the image is one of this machine."""
    if spec is None:
        return
    yield from images_of(spec, "runwide")
    for image in images_of(spec):
        if image.partition(":")[0] == "runwide":
            yield image
