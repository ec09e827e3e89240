"""The request for a run on this machine: the client writes it, and the process of the run reads it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

LOG_LINES = 50
"""The number of lines of a step's log in its error."""


@dataclass(frozen=True, slots=True)
class Request:
    """The request for one run.

    Args:
        spec: Path of the compiled pipeline.
        arguments: Arguments of the pipeline.
        runner: ``docker`` or ``subprocess``.
        at_once: The largest number of iterations of a loop that run at the same time.
        cores: Physical cores that the steps share.
        run: Label of the run's containers.
        options: Options of docker-py's ``containers.run``.
        mounts: Folders that are mounted in the containers at the same path.
        root: Folder for the files of kfp itself; None for one that is removed with the run.
        files: Files that steps may read, by the variable that names each; in containers they have the same path.
        key_files: The same, for runwide's own steps only.
        images: Images of runwide's own steps.
        parent: Process id of the client; the run ends with it.
        follow: Descriptor to which each line of each step is written at once; None to write lines to files only.
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
