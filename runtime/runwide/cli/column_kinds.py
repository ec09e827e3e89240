"""The kinds of values in a column of Parquet: pyarrow converts values of some kinds to another one without an error."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterator

Place: TypeAlias = "tuple[str | None, ...]"
"""The place of a value inside a value of the column: keys of dicts, and None for the elements of a list."""

_KINDS: tuple[tuple[type | tuple[type, ...], str], ...] = (
    (bool, "a bool"),
    ((int, float), "a number"),
    (str, "a text"),
    (bytes, "bytes"),
    (date, "a date"),
    (time, "a time"),
    (timedelta, "a timedelta"),
    (Decimal, "a Decimal"),
    (list, "a list"),
    (dict, "a dict"),
)


@dataclass(slots=True)
class Kinds:
    """The kinds of values in a column.

    Args:
        known: The kind at each place.
        fine: Places of pandas times with nanoseconds; Python's own types have microseconds only.
    """

    known: dict[Place, str] = field(default_factory=dict)
    fine: set[Place] = field(default_factory=set)

    def misfit(self, value: Any) -> str | None:
        """Add a value, which may be None; return an error if its kind differs from that of earlier values.

        Example:
            >>> kinds = Kinds()
            >>> [kinds.misfit(value) for value in (1, None, 2.5, True)]
            [None, None, None, 'it is a bool, and an earlier value is a number']
        """
        for place, one in _inside(value, ()):
            kind = _kind(one)
            before = self.known.setdefault(place, kind)
            if before != kind:
                return f"{_named_place(place)} is {kind}, and an earlier value is {before}"
            if getattr(one, "nanosecond", 0) or getattr(one, "nanoseconds", 0):
                self.fine.add(place)
        return None


def _inside(value: Any, place: Place) -> Iterator[tuple[Place, Any]]:
    """Yield a value and all values inside it, with their places; skip None."""
    if value is None:
        return
    yield place, value
    if isinstance(value, dict):
        for name, one in value.items():
            yield from _inside(one, (*place, name))
    elif isinstance(value, list):
        for one in value:
            yield from _inside(one, (*place, None))


def _kind(value: Any) -> str:
    if isinstance(value, datetime):
        return f"a datetime {'without' if value.tzinfo is None else 'with'} a time zone"
    return next((kind for types, kind in _KINDS if isinstance(value, types)), type(value).__name__)


def _named_place(place: Place) -> str:
    return "its " + "".join("[]" if one is None else f"[{one!r}]" for one in place) if place else "it"


def with_nanoseconds(kind: Any, fine: set[Place], place: Place = ()) -> Any:
    """Return a type of pyarrow in which the times at some places have nanoseconds.

    Args:
        kind: The type of pyarrow.
        fine: The places with nanoseconds.
        place: The place of ``kind`` itself.

    Example:
        >>> import pyarrow as pa
        >>> with_nanoseconds(pa.list_(pa.timestamp("us", "UTC")), {(None,)}).value_type
        TimestampType(timestamp[ns, tz=UTC])
    """
    import pyarrow as pa

    if pa.types.is_struct(kind):
        return pa.struct(
            [one.with_type(with_nanoseconds(one.type, fine, (*place, one.name))) for one in kind]
        )
    if pa.types.is_list(kind):
        return pa.list_(with_nanoseconds(kind.value_type, fine, (*place, None)))
    if place not in fine:
        return kind
    return pa.duration("ns") if pa.types.is_duration(kind) else pa.timestamp("ns", kind.tz)
