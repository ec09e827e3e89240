"""What the frames of a job are bound to, so that none can stand in the place of another."""

from __future__ import annotations


def item_context(job_id: str, item: int) -> str:
    """What an item's frame is bound to; the digest of the job is not known when it is written, its id is unique."""
    return f"{job_id}/item/{item}"


def result_context(job_digest: str, item: int) -> str:
    """What a result's frame is bound to."""
    return f"{job_digest}/result/{item}"


def node_context(job_digest: str, level: int, index: int) -> str:
    """What the frame of a folded value in a job's tree is bound to."""
    return f"{job_digest}/reduce/{level}/{index}"
