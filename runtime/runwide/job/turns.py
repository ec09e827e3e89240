"""Chunks whose items are not due yet, held in bounded memory and beyond it in temporary files."""

from __future__ import annotations

import heapq
import tempfile
from array import array
from bisect import bisect_left
from itertools import count as counted
from typing import IO, TYPE_CHECKING

from runwide.errors import StoreError
from runwide.host import space
from runwide.job.failed import failure_from_json, failure_to_json
from runwide.parsing import json_of
from runwide.spill.canonical import dumps

if TYPE_CHECKING:
    from collections.abc import Iterator

    from runwide.job.arriving import Loaded
    from runwide.records import Failure
    from runwide.spill.buffers import Buffer

BUDGET = 256 << 20
"""Bytes of chunks that are held in memory."""

_FILE_BYTES = 64 << 20  # after which a file takes no more chunks, so that it goes when these are passed


class _File:
    """A temporary file without a name, with some chunks in it."""

    def __init__(self) -> None:
        folder = space.scratch()
        try:
            self._file: IO[bytes] = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - closed with its last chunk
        except OSError as error:
            raise _no_room(error, folder) from error
        self._folder = folder
        self.size = 0
        self.chunks = 0

    def add(self, *parts: Buffer) -> int:
        """Append bytes; return where they begin."""
        start = self.size
        try:
            self._file.seek(start)
            for part in parts:
                self._file.write(part)
                self.size += memoryview(part).nbytes
            self._file.flush()
        except OSError as error:
            raise _no_room(error, self._folder) from error
        return start

    def read(self, start: int, stop: int) -> bytearray:
        """Return some of the bytes, in memory that may be written to."""
        data = bytearray(stop - start)
        self._file.seek(start)
        if self._file.readinto(data) != len(data):  # type: ignore[attr-defined]  # typeshed's IO has none
            raise StoreError("a temporary file ends too early", uri=self._folder)
        return data

    def close(self) -> None:
        """Free its room."""
        self._file.close()


def _no_room(error: OSError, folder: str) -> StoreError:
    return StoreError(
        f"results that wait for earlier ones cannot be written to a temporary file ({error.strerror or error})",
        uri=folder,
        hint="set RUNWIDE_SCRATCH to a directory with more room, or take results as they come (imap_unordered)",
    )


class _Held:
    """A chunk of which some items are not due yet."""

    def __init__(self, loaded: Loaded) -> None:
        entries = sorted(loaded.entries, key=lambda entry: entry.item)
        self.items = array("Q", [entry.item for entry in entries])
        self.starts = array("Q", [entry.offset for entry in entries])
        self.stops = array("Q", [entry.stop for entry in entries])
        self.uri = loaded.uri
        self.left = len(entries)
        self.data: bytearray | None = loaded.data
        self.file: _File | None = None
        self._base = 0
        self._failures = {item: loaded.failures[item] for item in self.items if item in loaded.failures}
        self._noted: dict[int, tuple[int, int]] = {}

    def move(self, file: _File) -> None:
        """Move it into a file, its failures with their long tracebacks too."""
        assert self.data is not None  # noqa: S101 - it is moved once
        self._base = file.add(self.data)
        for item, failure in self._failures.items():
            text = dumps(failure_to_json(failure))
            start = file.add(text)
            self._noted[item] = (start, start + len(text))
        self._failures = {}
        self.data, self.file = None, file
        file.chunks += 1

    def end(self, item: int) -> tuple[Buffer, Failure | None]:
        """Return the frame of an item, and its failure."""
        place = bisect_left(self.items, item)
        start, stop = self.starts[place], self.stops[place]
        self.left -= 1
        if self.data is not None:
            return memoryview(self.data)[start:stop], self._failures.pop(item, None)
        assert self.file is not None  # noqa: S101 - it is there or there
        noted = self._noted.pop(item, None)
        failure = failure_from_json(json_of(self.file.read(*noted))) if noted else None
        return self.file.read(self._base + start, self._base + stop), failure


class Turns:
    """Gives the ends of items in the order of the items.

    Chunks lie in memory up to a budget. Beyond it, those that are due last lie in temporary files, each of which is closed,
    and its room freed, when its last item has had its turn. Four bytes an item of the job tell where it is.

    Args:
        count: Number of items.
        budget: Bytes of chunks in memory.
    """

    def __init__(self, count: int, budget: int = BUDGET) -> None:
        self._count = count
        self._budget = budget
        self._where = array("I", bytes(4 * count))  # 0, or the number of the chunk
        self._held: dict[int, _Held] = {}
        self._latest: list[tuple[int, int]] = []  # chunks in memory, the one that is due last first
        self._numbers = counted(1)
        self._turn = 0
        self._file: _File | None = None
        self._files: set[_File] = set()
        self.in_memory = 0

    @property
    def in_files(self) -> int:
        """Bytes of temporary files."""
        return sum(file.size for file in self._files)

    def put(self, loaded: Loaded) -> None:
        """Take a chunk."""
        if not loaded.entries:
            return
        held, number = _Held(loaded), next(self._numbers)
        for item in held.items:
            self._where[item] = number
        self._held[number] = held
        self.in_memory += len(loaded.data)
        heapq.heappush(self._latest, (-held.items[0], number))
        while self.in_memory > self._budget and self._latest:
            self._move(heapq.heappop(self._latest)[1])

    def due(self) -> Iterator[tuple[int, Buffer, Failure | None, str]]:
        """Yield the items whose turn has come: each with its frame, its failure and where that lay."""
        while self._turn < self._count and (number := self._where[self._turn]):
            item, held = self._turn, self._held[number]
            self._turn += 1
            frame, failure = held.end(item)
            if not held.left:
                self._pass(number)
            found = item, frame, failure, held.uri
            del frame, failure, held
            yield found
            del found

    def _move(self, number: int) -> None:
        held = self._held.get(number)
        if held is None or held.data is None:
            return
        if self._file is None or self._file.size >= _FILE_BYTES:
            self._file = _File()
            self._files.add(self._file)
        self.in_memory -= len(held.data)
        held.move(self._file)

    def _pass(self, number: int) -> None:
        held = self._held.pop(number)
        if held.data is not None:
            self.in_memory -= len(held.data)
        elif held.file is not None:
            held.file.chunks -= 1
            if not held.file.chunks:
                if held.file is self._file:
                    self._file = None
                self._close(held.file)

    def _close(self, file: _File) -> None:
        self._files.discard(file)
        file.close()

    def close(self) -> None:
        """Let go of all of it."""
        for file in [*self._files]:
            self._close(file)
        self._held.clear()
