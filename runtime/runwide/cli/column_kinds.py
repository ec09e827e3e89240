"""The kinds of the values in a column of Parquet, of which pyarrow would convert some to others without an error."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterator

Path: TypeAlias = "tuple[str | None, ...]"
"""The place of a value inside of a column's: keys of dicts, and None for the elements of a list."""

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
    """The kinds of values that a column has, by their places.

    Args:
        known: The kind at each place.
        fine: Places of times of pandas that have nanoseconds, which Python's types do not have.
    """

    known: dict[Path, str] = field(default_factory=dict)
    fine: set[Path] = field(default_factory=set)

    def misfit(self, value: Any) -> str | None:
        """Add a value; return an error where it is of another kind than those before it.

        Args:
            value: A value of the column, or None.

        Example:
            >>> kinds = Kinds()
            >>> [kinds.misfit(value) for value in (1, None, 2.5, True)]
            [None, None, None, 'it is a bool, and those before it are not: a number']
        """
        for path, one in _inside(value, ()):
            kind = _kind(one)
            before = self.known.setdefault(path, kind)
            if before != kind:
                return f"{_place(path)} is {kind}, and those before it are not: {before}"
            if getattr(one, "nanosecond", 0) or getattr(one, "nanoseconds", 0):
                self.fine.add(path)
        return None


def _inside(value: Any, path: Path) -> Iterator[tuple[Path, Any]]:
    """A value and those inside of it, without missing ones."""
    if value is None:
        return
    yield path, value
    if isinstance(value, dict):
        for name, one in value.items():
            yield from _inside(one, (*path, name))
    elif isinstance(value, list):
        for one in value:
            yield from _inside(one, (*path, None))


def _kind(value: Any) -> str:
    if isinstance(value, datetime):
        return f"a datetime {'without' if value.tzinfo is None else 'with'} a time zone"
    return next((kind for types, kind in _KINDS if isinstance(value, types)), type(value).__name__)


def _place(path: Path) -> str:
    return "its " + "".join("[]" if one is None else f"[{one!r}]" for one in path) if path else "it"


def with_nanoseconds(kind: Any, fine: set[Path], path: Path = ()) -> Any:
    """Return a type of pyarrow in which times at some places have nanoseconds.

    Args:
        kind: The type.
        fine: The places.
        path: The place of the type.

    Example:
        >>> import pyarrow as pa
        >>> with_nanoseconds(pa.list_(pa.timestamp("us", "UTC")), {(None,)}).value_type
        TimestampType(timestamp[ns, tz=UTC])
    """
    import pyarrow as pa

    if pa.types.is_struct(kind):
        return pa.struct([one.with_type(with_nanoseconds(one.type, fine, (*path, one.name))) for one in kind])
    if pa.types.is_list(kind):
        return pa.list_(with_nanoseconds(kind.value_type, fine, (*path, None)))
    if path not in fine:
        return kind
    return pa.duration("ns") if pa.types.is_duration(kind) else pa.timestamp("ns", kind.tz)
