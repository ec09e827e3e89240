"""Hold chunks of results until their items are due, in memory up to a limit and beyond it in temporary files."""

from __future__ import annotations

import heapq
import tempfile
from array import array
from itertools import count
from typing import IO, TYPE_CHECKING, NamedTuple

from runwide.errors import ScratchError
from runwide.host import space
from runwide.job.failed import failure_from_json, failure_to_json
from runwide.parsing import json_of
from runwide.spill.canonical import dumps

if TYPE_CHECKING:
    from collections.abc import Iterator

    from runwide.job.chunk_reads import Loaded
    from runwide.records import Failure
    from runwide.spill.buffers import Buffer

_FILE_BYTES = 64 << 20  # a larger file takes no further chunk, so that its space is freed with these


class Due(NamedTuple):
    """A result whose turn has come.

    Args:
        item: Its item.
        digest: SHA-256 of its frame, in hex.
        frame: Its frame: a view of its chunk, or bytes of its own where the chunk was in a file.
        failure: The failure, if the item failed.
        uri: URI of its chunk.
    """

    item: int
    digest: str
    frame: Buffer
    failure: Failure | None
    uri: str


class _File:
    """A temporary file without a name, which holds some chunks."""

    def __init__(self) -> None:
        self._folder = space.scratch()
        try:
            self._file: IO[bytes] = tempfile.TemporaryFile(dir=self._folder)  # noqa: SIM115 - closed with its last chunk
        except OSError as error:
            raise self._error("written to", error) from error
        self.size = 0
        self.chunks = 0

    def add(self, data: Buffer) -> int:
        """Append bytes and return their offset."""
        start = self.size
        try:
            self._file.seek(start)
            self._file.write(data)
            self._file.flush()
        except OSError as error:
            raise self._error("written to", error) from error
        self.size += len(data)
        return start

    def read(self, start: int, stop: int) -> bytearray:
        """Return some of the bytes."""
        data = bytearray(stop - start)
        try:
            self._file.seek(start)
            if self._file.readinto(data) != len(data):  # type: ignore[attr-defined]  # typeshed's IO has none
                raise OSError("it is too short")  # noqa: TRY301 - one message for both
        except OSError as error:
            raise self._error("read from", error) from error
        return data

    def _error(self, action: str, error: OSError) -> ScratchError:
        return ScratchError(
            f"results of later items cannot be {action} a temporary file ({error.strerror or error})",
            uri=self._folder,
            hint="set RUNWIDE_SCRATCH to a directory with enough space for them",
        )

    def close(self) -> None:
        """Close the file, which frees its space."""
        self._file.close()


class _Held:
    """A chunk with results that are still to be taken; its index takes 56 bytes a result."""

    def __init__(self, chunk: Loaded) -> None:
        entries = sorted(chunk.entries, key=lambda entry: entry.item)
        self._items = array("Q", [entry.item for entry in entries])
        self._starts = array("Q", [entry.offset for entry in entries])
        self._stops = array("Q", [entry.stop for entry in entries])
        self._digests = b"".join(bytes.fromhex(entry.digest) for entry in entries)
        self._failures = {item: chunk.failures[item] for item in self._items if item in chunk.failures}
        self._in_file: dict[int, tuple[int, int]] = {}  # where the record of a failure is
        self._uri = chunk.uri
        self._place = 0
        self._base = 0
        self.data: bytearray | None = chunk.data
        self.file: _File | None = None

    @property
    def item(self) -> int | None:
        """The next item; None after the last one."""
        return self._items[self._place] if self._place < len(self._items) else None

    def move(self, data: bytearray, file: _File) -> None:
        """Move the chunk into a file, with its failures, whose tracebacks are long."""
        self._base = file.add(data)
        for item, failure in self._failures.items():
            text = dumps(failure_to_json(failure))
            start = file.add(text)
            self._in_file[item] = (start, start + len(text))
        self._failures = {}
        self.data, self.file = None, file
        file.chunks += 1

    def take(self) -> Due:
        """Return the next result."""
        place, self._place = self._place, self._place + 1
        item, start, stop = self._items[place], self._starts[place], self._stops[place]
        digest = self._digests[32 * place : 32 * place + 32].hex()
        if self.file is None:
            frame = memoryview(self.data or b"")[start:stop]
            return Due(item, digest, frame, self._failures.pop(item, None), self._uri)
        record = self._in_file.pop(item, None)
        failure = failure_from_json(json_of(self.file.read(*record))) if record else None
        return Due(item, digest, self.file.read(self._base + start, self._base + stop), failure, self._uri)


class Turns:
    """Take chunks of results, and yield the results in the order of their items.

    Chunks stay in memory up to a budget. Beyond it, those whose first item comes last are moved to temporary files. A file
    is closed, which frees its space, when the last result in it has been yielded.

    Args:
        budget: Bytes of chunks in memory.
    """

    def __init__(self, budget: int) -> None:
        self._budget = budget
        self._chunks: dict[int, _Held] = {}
        self._next: list[tuple[int, int]] = []  # heap of each chunk's next item and its number
        self._latest: list[
            tuple[int, int]
        ] = []  # heap of chunks in memory, the one with the latest items first
        self._numbers = count()
        self._turn = 0
        self._file: _File | None = None
        self._files: set[_File] = set()
        self.in_memory = 0

    @property
    def in_files(self) -> int:
        """Bytes of temporary files."""
        return sum(file.size for file in self._files)

    def put(self, chunk: Loaded) -> None:
        """Take a chunk."""
        held, number = _Held(chunk), next(self._numbers)
        first = held.item
        if first is None:
            return
        self._chunks[number] = held
        self.in_memory += len(chunk.data)
        heapq.heappush(self._next, (first, number))
        heapq.heappush(self._latest, (-first, number))
        while self.in_memory > self._budget and self._latest:
            self._move(heapq.heappop(self._latest)[1])

    def due(self, stop: int | None = None) -> Iterator[Due]:
        """Yield the results whose turn has come.

        Args:
            stop: Every chunk with an item before this one was put. None where chunks come in any order: then a result is
                yielded after those of all items before it.
        """
        while self._next and self._next[0][0] < (self._turn + 1 if stop is None else stop):
            item, number = self._next[0]
            held = self._chunks[number]
            found, self._turn = held.take(), item + 1
            if held.item is None:
                heapq.heappop(self._next)
                self._drop(number)
            else:
                heapq.heapreplace(self._next, (held.item, number))
            del held
            yield found
            del found  # so that the memory is free while the caller waits for the next one

    def _move(self, number: int) -> None:
        held = self._chunks.get(number)
        if held is None or held.data is None:
            return
        if self._file is None or self._file.size >= _FILE_BYTES:
            self._file = _File()
            self._files.add(self._file)
        self.in_memory -= len(held.data)
        held.move(held.data, self._file)

    def _drop(self, number: int) -> None:
        held = self._chunks.pop(number)
        if held.data is not None:
            self.in_memory -= len(held.data)
        elif held.file is not None:
            held.file.chunks -= 1
            if not held.file.chunks:
                if held.file is self._file:
                    self._file = None
                self._files.discard(held.file)
                held.file.close()

    def close(self) -> None:
        """Drop all chunks and close the files."""
        for file in self._files:
            file.close()
        self._files.clear()
        self._chunks.clear()
