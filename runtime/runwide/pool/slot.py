"""One worker's place in the pool: its process, its line, and what was sent there."""

from __future__ import annotations

import os
import socket
import time
from collections import deque
from dataclasses import dataclass
from itertools import count
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runwide.pool import process, worker
from runwide.pool.channel import Channel
from runwide.pool.status import StatusWords

if TYPE_CHECKING:
    from collections.abc import Mapping

    from runwide.pool.call import Call, Tasks
    from runwide.pool.transfer import Scratch

_chunks = count(1)
_generations = count(1)


class Chunk:
    """Tasks on their way through a worker."""

    __slots__ = ("call", "ended", "number", "payload", "tasks")

    def __init__(self, call: Call, tasks: Tasks, payload: int) -> None:
        self.number = next(_chunks)
        self.call = call
        self.tasks = tasks
        self.payload = payload
        self.ended = 0  # results that came back

    def __len__(self) -> int:
        return len(self.tasks.items)


@dataclass(frozen=True, slots=True)
class SlotOptions:
    """How workers are started.

    Args:
        scratch: The pool's payload directories.
        env: Variables of the worker processes.
        initializer: Payload of what a worker calls first.
    """

    scratch: Scratch
    env: Mapping[str, str]
    initializer: tuple[str | None, Any] | None = None


class Slot:
    """A worker process and the chunks that it holds; replaced as a whole when the process dies."""

    def __init__(self, number: int, options: SlotOptions) -> None:
        self.number = number
        self.tag = f"w{number}-{next(_generations)}"
        self._scratch = options.scratch
        self.chunks: deque[Chunk] = deque()
        self.functions: set[int] = set()
        self.ready = False
        self.leaving = False
        self.timed_out = False
        self.stopped = False
        self.gone = False
        self.tasks_run = 0
        self.started_at = time.monotonic()
        self._status_path = f"{options.scratch.directories[-1]}/{self.tag}.status"
        self.status = StatusWords(self._status_path)
        ours, theirs = socket.socketpair()
        self.channel = Channel(ours)
        try:
            handed = Connection(theirs.detach())
            with handed:  # our copy of the worker's end is closed, so that its death is an end of file
                directories, tag = options.scratch.directories, f"{self.tag}-out"
                self.process = process.start(
                    worker.main,
                    (handed, worker.Station(self._status_path, directories, tag, os.getpid())),
                    name=f"runwide-worker-{number}",
                    env=options.env,
                )
        except BaseException:
            self.channel.close()
            self.status.close()
            raise
        self.channel.send((worker.PREPARE, *(options.initializer or (None, None))))

    @property
    def idle(self) -> bool:
        """Whether it could start a task at once."""
        return self.ready and not self.chunks and not self.leaving

    def send_function(self, call: Call) -> None:
        """Give the worker the function of a call, once."""
        if call.number not in self.functions:
            self.functions.add(call.number)
            self.channel.send((worker.FUNCTION, call.number, *call.function))

    def forget(self, call: Call) -> None:
        """Let the worker drop the function of a call that is over."""
        if call.number in self.functions:
            self.functions.discard(call.number)
            self.channel.send((worker.FORGET, call.number))

    def leave(self) -> None:
        """Ask the worker to leave when it has done what it was sent."""
        if not self.leaving:
            self.leaving = True
            self.channel.send((worker.EXIT,))

    def close(self) -> None:
        """Kill the process if it still runs, and release everything of this slot."""
        self.process.kill_tree()
        self.process.close()
        self.channel.close()
        self.status.close()
        Path(self._status_path).unlink(missing_ok=True)
        self._scratch.forget(self.tag)
