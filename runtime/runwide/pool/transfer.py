"""Values between processes: small ones inside a message, large ones through a mapped file.

A value becomes an *entry*, which any process can read without running anybody's code:

- a scalar is its own entry;
- ``(FRAME, pickle, buffers)`` is a pickle with its out-of-band buffers;
- ``(MAPPED, spans)`` is the same with the bytes in a file beside the message: ``spans`` are ``(offset, length)``
  of the pickle and of each buffer.

So a value that cannot be loaded fails alone, where it is loaded, and never the message that carried it.
The file is written whole before the message is sent, and unlinked by the receiver as soon as it is mapped; arrays
then live on the private, writable pages of the mapping, without another copy.
"""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from runwide.pool.scratch import Scratch

FRAME, MAPPED, FAILED = "frame", "mapped", "failed"

INLINE_BYTES = 32 * 1024
"""A message carries at most this much payload, so that several fit a socket's buffer (about 200 KiB on Linux)."""

OUT_OF_BAND_BYTES = 16 * 1024
"""Buffers below this size are cheaper inside the pickle than apart."""

_SCALARS = frozenset({type(None), bool, int, float, complex})
_TEXTS = frozenset({str, bytes})
_TEXT_LIMIT = 1024

Entry = Any
Dumped = tuple[bytes, list[memoryview]]


def only_values(entries: Sequence[Entry]) -> bool:
    """Whether every entry is the value itself.

    Example:
        >>> only_values(range(3)), only_values([1, None]), only_values([1, (FRAME, b"", [])])
        (True, True, False)
    """
    return type(entries) is range or tuple not in set(map(type, entries))


def payload_size(entries: Sequence[Entry]) -> int:
    """Payload bytes of entries."""
    return 0 if only_values(entries) else sum(map(entry_size, entries))


def is_scalar(value: object) -> bool:
    """Whether a value is its own entry.

    Example:
        >>> is_scalar(3), is_scalar("a" * 5000), is_scalar([3])
        (True, False, False)
    """
    kind = type(value)
    return kind in _SCALARS or (kind in _TEXTS and len(value) <= _TEXT_LIMIT)  # type: ignore[arg-type]  # str or bytes


def all_scalars(values: Sequence[object]) -> bool:
    """Whether every value is its own entry; much faster than asking of each.

    Example:
        >>> all_scalars(range(3)), all_scalars([1, "a", None]), all_scalars([1, "a" * 5000]), all_scalars([1, []])
        (True, True, False, False)
    """
    if type(values) is range:
        return True
    kinds = set(map(type, values))
    if kinds <= _SCALARS:
        return True
    return kinds <= _SCALARS | _TEXTS and all(map(is_scalar, values))


class PlainPickle:
    """Base of what is ours, holds nothing that is known by name only, and is of a class that workers can import."""

    __slots__ = ()


def dump_by_value(value: object, *, out_of_band: bool = True) -> Dumped:
    """Pickle for another program: what it could not import (``__main__``, closures) goes along by value."""
    buffers: list[memoryview] = []
    callback = _collector(buffers) if out_of_band else None
    if _is_plain(value):
        return pickle.dumps(value, protocol=5, buffer_callback=callback), buffers
    from runwide.pool import pickling  # imports cloudpickle, which neither a worker nor a shard may need

    return pickling.dumps(value, buffer_callback=callback), buffers


def _is_plain(value: object) -> bool:
    """Whether plain pickle does as well: arguments, mostly, and what a shard gives to its workers."""
    if type(value) is not tuple:
        return isinstance(value, PlainPickle)
    return all_scalars(value) or all(isinstance(part, PlainPickle) or is_scalar(part) for part in value)


def dump_by_reference_first(value: object) -> Dumped:
    """Pickle for the program that started this one: plain pickle, which is fast, else by value."""
    buffers: list[memoryview] = []
    try:
        return pickle.dumps(value, protocol=5, buffer_callback=_collector(buffers)), buffers
    except Exception:
        return dump_by_value(value)


def _collector(buffers: list[memoryview]) -> Callable[[pickle.PickleBuffer], bool]:
    def in_band(buffer: pickle.PickleBuffer) -> bool:
        try:
            raw = buffer.raw()
        except BufferError:  # not contiguous
            return True
        if raw.nbytes < OUT_OF_BAND_BYTES:
            return True
        buffers.append(raw)
        return False

    return in_band


def entry_size(entry: Entry) -> int:
    """Payload bytes of an entry, scalars counting as nothing."""
    if type(entry) is not tuple or entry[0] == FAILED:
        return 0
    if entry[0] == MAPPED:
        return sum(length for _, length in entry[1])
    return len(entry[1]) + sum(memoryview(buffer).nbytes for buffer in entry[2])


def seal(entries: list[Entry], scratch: Scratch) -> tuple[str | None, list[Entry]]:
    """Move the bytes of entries to a file if they are too many for a message.

    Returns:
        The path of the file, or None, and the entries to send.
    """
    if only_values(entries):
        return None, entries
    if payload_size(entries) <= INLINE_BYTES:
        return None, [detached(entry) for entry in entries]
    parts: list[bytes | memoryview] = []
    for entry in entries:
        if type(entry) is tuple and entry[0] == FRAME:
            parts += [entry[1], *entry[2]]
    path, spans = scratch.write(parts)
    taken = iter(spans)
    return path, [
        (MAPPED, [next(taken) for _ in range(1 + len(entry[2]))])
        if type(entry) is tuple and entry[0] == FRAME
        else entry
        for entry in entries
    ]


def detached(entry: Entry) -> Entry:
    """The same entry with buffers of its own, so that what they were part of may go."""
    if type(entry) is tuple and entry[0] == FRAME and entry[2]:
        return (FRAME, entry[1], [bytearray(buffer) for buffer in entry[2]])
    return entry


def load(entry: Entry, mapping: memoryview | None) -> Any:
    """The value of an entry; raises whatever unpickling raises."""
    if type(entry) is not tuple:
        return entry
    if entry[0] == FRAME:
        return pickle.loads(entry[1], buffers=entry[2])
    if mapping is None:
        raise pickle.UnpicklingError("the payload file is missing")
    body, *buffers = (mapping[start : start + length] for start, length in entry[1])
    return pickle.loads(body, buffers=buffers)
