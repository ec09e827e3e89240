"""A run on this machine, as the client asks for it and the run's own process reads it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

LOG_LINES = 50
"""Lines of a step's log that its error has."""


@dataclass(frozen=True, slots=True)
class Request:
    """What one run is to do, as the process that does it reads it.

    Args:
        spec: Path of the compiled pipeline.
        arguments: Arguments of the pipeline.
        runner: ``docker`` or ``subprocess``.
        at_once: Iterations of a loop that run at the same time.
        cores: Physical cores that the steps share.
        run: Label of the run's containers.
        options: Options of docker-py's ``containers.run``.
        mounts: Folders that the containers see at the same path.
        root: Folder for what kfp itself writes; None for one that goes with the run.
        files: Files that steps may read, containers at the same path, by the variable that names each.
        key_files: The same for steps of ours alone.
        images: Images of steps of ours.
        parent: Process id of the client, without which the run does not go on.
        follow: Descriptor to which each line of each step is written as it comes; None to write them to files alone.
    """

    spec: str
    arguments: dict[str, Any]
    runner: str
    at_once: int
    cores: int
    run: str
    options: dict[str, Any] = field(default_factory=dict)
    mounts: list[str] = field(default_factory=list)
    root: str | None = None
    files: dict[str, str] = field(default_factory=dict)
    key_files: dict[str, str] = field(default_factory=dict)
    images: list[str] = field(default_factory=list)
    parent: int = 0
    follow: int | None = None
