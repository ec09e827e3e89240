"""Contexts of a job's frames: a frame is bound to its context, so that it cannot be used for another item or job."""

from __future__ import annotations


def item_context(job_id: str, item: int) -> str:
    """Return the context of an item's frame: by the job's id, as its digest is not known yet when items are written."""
    return f"{job_id}/item/{item}"


def result_context(job_digest: str, item: int) -> str:
    """Return the context of a result's frame."""
    return f"{job_digest}/result/{item}"


def node_context(job_digest: str, level: int, index: int) -> str:
    """Return the context of a value in the tree of a job with ``reduce=``."""
    return f"{job_digest}/reduce/{level}/{index}"
