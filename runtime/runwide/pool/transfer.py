"""Values between processes: small ones inside a message, large ones through a mapped file.

A value becomes an *entry*, which any process can read without running anybody's code:

- a scalar is its own entry;
- ``(value,)`` is a small tuple, list or dict of scalars, or another value that came with such;
- ``(FRAME, pickle, buffers)`` is a pickle with its out-of-band buffers;
- ``(MAPPED, spans)`` is the same with the bytes in a file beside the message: ``spans`` are ``(offset, length)``
  of the pickle and of each buffer.

So a value that cannot be loaded fails alone, where it is loaded, and never the message that carried it.
The file is written whole before the message is sent, and unlinked by the receiver as soon as it is mapped; arrays
then live on the private, writable pages of the mapping, without another copy.
"""

from __future__ import annotations

import pickle
from contextlib import suppress
from itertools import chain
from typing import TYPE_CHECKING, Any

from runwide import definitions
from runwide.plain_pickle import PlainPickle
from runwide.pool.plain import all_scalars, copied, is_scalar

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from runwide.pool.scratch import Scratch

FRAME, MAPPED, FAILED = "frame", "mapped", "failed"

INLINE_BYTES = 32 * 1024
"""A message carries at most this much payload, so that several fit a socket's buffer (about 200 KiB on Linux)."""

OUT_OF_BAND_BYTES = 16 * 1024
"""Buffers below this size are cheaper inside the pickle than apart."""


Entry = Any
Dumped = tuple[bytes, list[memoryview]]
Parcel = dict[str, bytes]
"""Definitions that several values need, pickled apart from them, by the key by which a worker has them."""


class Scalars(list[Any]):
    """Values that are their own entries: what is known once is not looked at again, which takes as long as short tasks."""


def have_values(entries: Sequence[Entry]) -> bool:
    """Whether `values_of` has the values of entries.

    Example:
        >>> have_values([1, None]), have_values([((1, 2),), ([3],)]), have_values([1, (FRAME, b"", [])])
        (True, True, False)
    """
    if type(entries) is range:
        return True
    kinds = set(map(type, entries))
    return tuple not in kinds or _are_wrapped(entries, kinds)


def _are_wrapped(entries: Sequence[Entry], kinds: set[type]) -> bool:
    return len(kinds) == 1 and set(map(len, entries)) == {1}


def values_of(entries: Sequence[Entry]) -> Sequence[Any] | None:
    """The values of entries that need no unpickling; None where one of them does.

    Example:
        >>> values_of([((1, 2),), ([3],)]), values_of([1, (FRAME, b"", [])])
        ([(1, 2), [3]], None)
    """
    if type(entries) is range:
        return entries
    kinds = set(map(type, entries))
    if tuple not in kinds:
        return entries
    return list(chain.from_iterable(entries)) if _are_wrapped(entries, kinds) else None


def entries_of(values: Sequence[Any]) -> Sequence[Entry] | None:
    """Entries of values that need no pickle of their own; None where one of them does.

    Example:
        >>> entries_of([1, "a"]), entries_of([1, (2, 3)]), entries_of([1, object()])
        ([1, 'a'], [(1,), ((2, 3),)], None)
    """
    if all_scalars(values):
        return values
    plain = copied(values)
    return None if plain is None else list(zip(plain))


def payload_size(entries: Sequence[Entry]) -> int:
    """Payload bytes of entries."""
    return 0 if have_values(entries) else sum(map(entry_size, entries))


def dump_by_value(value: object, *, parcel: Parcel | None = None) -> Dumped:
    """Pickle for a worker of this program: what it could not import (``__main__``, closures) goes along by value.

    Args:
        value: What it is to have.
        parcel: Where definitions go that a worker keeps; None for a pickle that is loaded by itself.
    """
    buffers: list[memoryview] = []
    callback = _collector(buffers)
    if _is_plain(value):
        return pickle.dumps(value, protocol=5, buffer_callback=callback), buffers
    from runwide.pool import pickling  # imports cloudpickle, which neither a worker nor a shard may need

    return pickling.dumps_for_workers(value, buffer_callback=callback, parcel=parcel), buffers


def digest(dumped: Dumped) -> str:
    """What tells two pickled values apart.

    Example:
        >>> digest((b"a", [])) == digest((b"a", [])), digest((b"a", [])) == digest((b"b", []))
        (True, False)
    """
    from hashlib import blake2b  # which workers do not need

    found = blake2b(dumped[0], digest_size=16)
    for buffer in dumped[1]:
        found.update(buffer)
    return found.hexdigest()


def _is_plain(value: object) -> bool:
    """Whether plain pickle does as well: arguments, mostly, and what a shard gives to its workers."""
    if type(value) is not tuple:
        return isinstance(value, PlainPickle)
    return all_scalars(value) or all(isinstance(part, PlainPickle) or is_scalar(part) for part in value)


def dump_by_reference_first(value: object) -> Dumped:
    """Pickle for the program that started this one: plain pickle, which is fast, else by value."""
    buffers: list[memoryview] = []
    if not definitions.has_classes():
        with suppress(Exception):
            return pickle.dumps(value, protocol=5, buffer_callback=_collector(buffers)), buffers
        buffers.clear()
    from runwide.pool import pickling  # imports cloudpickle, which a worker may not need

    return pickling.dumps_for_program(value, buffer_callback=_collector(buffers)), buffers


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
    """Payload bytes of an entry, plain data counting as nothing."""
    if type(entry) is not tuple or len(entry) == 1 or entry[0] == FAILED:
        return 0
    if entry[0] == MAPPED:
        return sum(length for _, length in entry[1])
    return len(entry[1]) + sum(memoryview(buffer).nbytes for buffer in entry[2])


def seal(entries: list[Entry], scratch: Scratch) -> tuple[str | None, list[Entry]]:
    """Move the bytes of entries to a file if they are too many for a message.

    Returns:
        The path of the file, or None, and the entries to send.
    """
    if have_values(entries):
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
    """The value of an entry; raises whatever unpickling raises.

    Raises:
        ScratchError: The file that has it lost its end.
    """
    if type(entry) is not tuple:
        return entry
    if len(entry) == 1:
        return entry[0]
    if entry[0] == FRAME:
        return pickle.loads(entry[1], buffers=entry[2])  # noqa: TID251 - of this pool's other end
    if mapping is None:
        raise pickle.UnpicklingError("the payload file is missing")
    start, length = entry[1][-1]
    if mapping.nbytes < start + length:
        from runwide.pool.scratch import (
            cut_short,  # which needs Linux or macOS, and jobs are looked at elsewhere too
        )

        raise cut_short(mapping.nbytes, start + length)
    body, *buffers = (mapping[start : start + length] for start, length in entry[1])
    return pickle.loads(body, buffers=buffers)  # noqa: TID251 - likewise
