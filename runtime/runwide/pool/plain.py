"""Plain data: small values of a few exact types, many of which travel in one pickle.

Reading such a pickle runs no code of the user. Lists and dicts are copied when they are added, so that later changes are
not sent, and no two values share a list or dict.
"""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

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
