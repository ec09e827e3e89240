"""Convert results to plain data that JSON lines and Parquet can hold."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from math import isfinite
from typing import Any

from runwide import settings
from runwide.errors import InputError, ResultNotLoadable
from runwide.records import Failure

_HINT = "return plain data from the function, or leave out the dataset and use runwide.load"
_RICH = (date, datetime, time, timedelta, Decimal, bytes)  # Parquet has types for these
_ARRAY_KINDS = "biufU"  # of numpy: bools, whole numbers, floats, texts


class NotPlain(ValueError):
    """A value is not plain data."""


@dataclass(slots=True)
class Plain:
    """A conversion of results to plain data, with counts of the numbers that became null.

    Args:
        rich: True for Parquet: dates, decimals and bytes are plain, and NaN stays NaN.
        nulled: How many NaN and infinite numbers have become null.
        items: How many results had such numbers.
    """

    rich: bool
    nulled: int = 0
    items: int = 0

    def of(self, result: Any, item: int) -> Any:
        """Return a result as plain data; None for a failed item.

        Args:
            result: The result.
            item: The index of its item.

        Raises:
            InputError: The result is not plain data.

        Example:
            >>> Plain(rich=False).of({"a": (1, float("nan"))}, 0)
            {'a': [1, None]}
        """
        if isinstance(result, Failure):
            if isinstance(result.exception, ResultNotLoadable):
                raise InputError(result.exception.message, item=item, hint=result.exception.hint)
            return None
        before = self.nulled
        try:
            found = self._of(result, settings.max_json_depth())
        except NotPlain as error:
            raise InputError(str(error), item=item, hint=_HINT) from None
        self.items += self.nulled > before
        return found

    def _of(self, value: Any, depth: int) -> Any:
        if not depth:
            raise NotPlain("the result is nested too deep, or contains itself")
        scalar = self._scalar(value)
        if scalar is not _OTHER:
            return scalar
        if isinstance(value, dict):
            return self._object(value, depth)
        if isinstance(value, (list, tuple)):
            return [self._of(one, depth - 1) for one in value]
        if _is_of_numpy(value) and value.dtype.kind in _ARRAY_KINDS:
            return self._of(
                float(value) if value.dtype.char == "g" and not value.shape else value.tolist(), depth - 1
            )
        if self.rich and _is_missing(value):
            return None
        if self.rich and isinstance(value, time) and value.tzinfo is not None:
            raise NotPlain("a time with a time zone has no type in Parquet")
        if self.rich and isinstance(value, _RICH):
            return value
        raise NotPlain(f"a {type(value).__name__} is no plain data of {'Parquet' if self.rich else 'JSON'}")

    def _scalar(self, value: Any) -> Any:
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, Enum) and not isinstance(value, (int, float, str)):
            return _OTHER
        if isinstance(value, int):
            return int(value)
        if isinstance(value, float):
            return self._number(float(value))
        return _text(value) if isinstance(value, str) else _OTHER

    def _number(self, value: float) -> float | None:
        if self.rich or isfinite(value):
            return value
        self.nulled += 1
        return None

    def _object(self, value: dict[Any, Any], depth: int) -> dict[str, Any]:
        found = {_key(key): self._of(one, depth - 1) for key, one in value.items()}
        if len(found) < len(value):
            raise NotPlain("keys of a dict become the same text")
        return found


_OTHER = object()


def _text(value: str) -> str:
    text = str.__str__(value)
    try:
        text.encode()
    except UnicodeEncodeError:
        raise NotPlain(f"the text {text[:80]!r} is invalid Unicode, and cannot be written as UTF-8") from None
    return text


def _key(key: Any) -> str:
    """Return a key of a dict as JSON writes it, a text."""
    if isinstance(key, str):
        return _text(key)
    if _is_of_numpy(key) and not key.shape:
        key = key.item()
    if key is None or isinstance(key, (bool, int)) or (isinstance(key, float) and isfinite(key)):
        return json.dumps(key)
    raise NotPlain(f"a {type(key).__name__} cannot be the key of an object")


def _is_missing(value: Any) -> bool:
    """Return whether a value is a missing value of pandas, without importing pandas."""
    return type(value).__module__.startswith("pandas.") and type(value).__name__ in ("NaTType", "NAType")


def _is_of_numpy(value: Any) -> bool:
    """Return whether a value is a number or an array of numpy, without importing numpy."""
    return type(value).__module__ == "numpy" and hasattr(value, "dtype") and hasattr(value, "tolist")
