"""Values between processes: small ones in a message, large ones in a mapped file.

A value becomes an *entry*, which any process can read without running code of the user:

- a scalar is its own entry;
- ``(value,)`` is a small tuple, list or dict of scalars, or another value sent together with these;
- ``(FRAME, pickle, buffers)`` is a pickle with its out-of-band buffers;
- ``(MAPPED, spans)`` is the same with the bytes in a file beside the message: ``spans`` are ``(offset, length)``
  of the pickle and of each buffer.

So a value that cannot be loaded fails alone, and its message does not. The file is complete before the message is sent,
and the receiver unlinks it as soon as it is mapped. Arrays use the private, writable pages of the mapping, without another
copy.

Small lists and dicts are copied when they become entries, so that later changes are not sent, and no two values share one.
"""

from __future__ import annotations

import pickle
from contextlib import suppress
from itertools import chain
from typing import TYPE_CHECKING, Any

from runwide.pickling import PlainPickle, definitions

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from runwide.pool.scratch import Scratch


_SCALARS = frozenset({type(None), bool, int, float, complex})
_TEXTS = frozenset({str, bytes})
_UNCHANGING = frozenset({tuple})
_CHANGING = frozenset({list, dict})
_BOXES = _UNCHANGING | _CHANGING
_LEAVES = _SCALARS | _TEXTS
_TEXT_LIMIT = 1024  # length of one text, and of the texts in one value, on average
_PARTS = 16  # number of parts of one box, on average
_DEPTH = 4


def is_scalar(value: object) -> bool:
    """Return whether a value is its own entry.

    Example:
        >>> is_scalar(3), is_scalar("a" * 5000), is_scalar([3])
        (True, False, False)
    """
    kind = type(value)
    try:
        return kind in _SCALARS or (kind in _TEXTS and len(value) <= _TEXT_LIMIT)  # type: ignore[arg-type]  # str or bytes
    except Exception:  # as in `_kinds`
        return False


def all_scalars(values: Sequence[object]) -> bool:
    """Return whether every value is its own entry; much faster than `is_scalar` for each.

    Example:
        >>> all_scalars(range(3)), all_scalars([1, "a", None]), all_scalars([1, "a" * 5000]), all_scalars([1, []])
        (True, True, False, False)
    """
    if type(values) is range:
        return True
    kinds = _kinds(values)
    if kinds <= _SCALARS:
        return True
    return kinds <= _LEAVES and all(map(is_scalar, values))


def copied(values: Sequence[Any]) -> Sequence[Any] | None:
    """Return the values if all are plain, with copies of lists and dicts; None if a value is not plain.

    Plain values are scalars, small tuples of plain immutable parts, and small lists and dicts of such parts.

    Example:
        >>> copied([(1, ("a", 2)), {"b": 2.0}, [None]]), copied([(1, object())]), copied([[[]]]), copied([list(range(1000))])
        ([(1, ('a', 2)), {'b': 2.0}, [None]], None, None, None)
    """
    if not _are_plain(values):
        return None
    if _kinds(values).isdisjoint(_CHANGING):
        return values
    return [value.copy() if type(value) in _CHANGING else value for value in values]


def _kinds(values: Sequence[object]) -> set[type]:
    """Return the types of values; only ``object`` if a metaclass has no hash, or one that fails."""
    try:
        return set(map(type, values))
    except Exception:
        return {object}


def _are_plain(values: Sequence[Any]) -> bool:
    number, boxes = len(values), _BOXES
    for _ in range(_DEPTH):
        kinds = _kinds(values)
        if kinds <= _SCALARS:
            return True
        if not kinds <= _LEAVES | boxes or (kinds & _TEXTS and not _are_short(values, number)):
            return False
        held = values if kinds <= boxes else [value for value in values if type(value) in boxes]
        if not held:
            return True
        if sum(map(len, held)) > _PARTS * number:
            return False
        values, boxes = _parts(held, kinds), _UNCHANGING
    return False


def _are_short(values: Sequence[Any], number: int) -> bool:
    sizes = [len(value) for value in values if type(value) in _TEXTS]
    return max(sizes) <= _TEXT_LIMIT and sum(sizes) <= _TEXT_LIMIT * number


def _parts(boxes: Sequence[Any], kinds: set[type]) -> list[Any]:
    parts = list(chain.from_iterable(boxes))
    if dict in kinds:
        parts += chain.from_iterable(box.values() for box in boxes if type(box) is dict)
    return parts


FRAME, MAPPED, FAILED = "frame", "mapped", "failed"

INLINE_BYTES = 32 * 1024
"""A message carries at most this much payload, so that several fit a socket's buffer (about 200 KiB on Linux)."""

OUT_OF_BAND_BYTES = 16 * 1024
"""Buffers below this size are cheaper inside the pickle than apart."""


Entry = Any
Dumped = tuple[bytes, list[memoryview]]
Parcel = dict[str, bytes]
"""Definitions that several values need, pickled separately, by the keys that workers use for them."""


class Scalars(list[Any]):
    """Values that are known to be their own entries; checking them again would take as long as short tasks."""


def have_values(entries: Sequence[Entry]) -> bool:
    """Return whether `values_of` returns the values of these entries.

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
    """Return the values of entries that need no unpickling; None if one of them needs it.

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
    """Return entries of values that need no separate pickle; None if one of them needs it.

    Example:
        >>> entries_of([1, "a"]), entries_of([1, (2, 3)]), entries_of([1, object()])
        ([1, 'a'], [(1,), ((2, 3),)], None)
    """
    if all_scalars(values):
        return values
    plain = copied(values)
    return None if plain is None else list(zip(plain))


def payload_size(entries: Sequence[Entry]) -> int:
    """Return the payload bytes of entries."""
    return 0 if have_values(entries) else sum(map(entry_size, entries))


def dump_by_value(value: object, *, parcel: Parcel | None = None) -> Dumped:
    """Pickle for a worker of this program: code that it could not import (``__main__``, closures) goes by value.

    Args:
        parcel: Gets definitions that a worker keeps; None for a pickle that is loaded by itself.
    """
    buffers: list[memoryview] = []
    callback = _collector(buffers)
    if _is_plain(value):
        return pickle.dumps(value, protocol=5, buffer_callback=callback), buffers
    from runwide.pickling import for_workers  # slow to load, and not always needed

    return for_workers.dumps_for_workers(value, buffer_callback=callback, parcel=parcel), buffers


def digest(dumped: Dumped) -> str:
    """Return a digest of a pickled value.

    Example:
        >>> digest((b"a", [])) == digest((b"a", [])), digest((b"a", [])) == digest((b"b", []))
        (True, False)
    """
    from hashlib import blake2b  # no worker needs it

    found = blake2b(dumped[0], digest_size=16)
    for buffer in dumped[1]:
        found.update(buffer)
    return found.hexdigest()


def _is_plain(value: object) -> bool:
    """Return whether plain pickle can pickle a value, such as arguments, and the items of a shard."""
    if type(value) is not tuple:
        return isinstance(value, PlainPickle)
    return all_scalars(value) or all(isinstance(part, PlainPickle) or is_scalar(part) for part in value)


def dump_by_reference_first(value: object) -> Dumped:
    """Pickle for the program that started this one: with plain pickle, which is fast, or else by value."""
    buffers: list[memoryview] = []
    if not definitions.has_classes():
        with suppress(Exception):
            return pickle.dumps(value, protocol=5, buffer_callback=_collector(buffers)), buffers
        buffers.clear()
    from runwide.pickling import for_workers  # slow to load, and not always needed

    return for_workers.dumps_for_program(value, buffer_callback=_collector(buffers)), buffers


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
    """Return the payload bytes of an entry; plain data count as 0."""
    if type(entry) is not tuple or len(entry) == 1 or entry[0] == FAILED:
        return 0
    if entry[0] == MAPPED:
        return sum(length for _, length in entry[1])
    return len(entry[1]) + sum(memoryview(buffer).nbytes for buffer in entry[2])


def seal(entries: list[Entry], scratch: Scratch) -> tuple[str | None, list[Entry]]:
    """Move the bytes of entries to a file if they are too many for a message.

    Return the path of the file, or None, and the entries to send.
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
    """Return an entry with copies of its buffers, so that the memory they belong to can be freed."""
    if type(entry) is tuple and entry[0] == FRAME and entry[2]:
        return (FRAME, entry[1], [bytearray(buffer) for buffer in entry[2]])
    return entry


def load(entry: Entry, mapping: memoryview | None) -> Any:
    """Return the value of an entry; exceptions of unpickling are passed on."""
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
        from runwide.pool.scratch import cut_short  # needs fcntl, and entries are also read on Windows

        raise cut_short(mapping.nbytes, start + length)
    body, *buffers = (mapping[start : start + length] for start, length in entry[1])
    return pickle.loads(body, buffers=buffers)  # noqa: TID251 - likewise
