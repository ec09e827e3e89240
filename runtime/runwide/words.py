"""Format numbers and types for people."""

from __future__ import annotations

TIMES = "\N{MULTIPLICATION SIGN}"


def seconds(value: float) -> str:
    """Format a duration.

    Example:
        >>> seconds(0.00042), seconds(0.5), seconds(12.34), seconds(125), seconds(7200)
        ('420 µs', '500 ms', '12.3 s', '2 min 5 s', '2 h')
    """
    if value < 0.001:  # noqa: PLR2004 - of a unit
        return f"{value * 1e6:.0f} µs"
    if value < 1:
        return f"{value * 1e3:.3g} ms"
    if value < 60:  # noqa: PLR2004 - of a unit
        return f"{value:.3g} s"
    minutes, rest = divmod(round(value), 60)
    if minutes < 60:  # noqa: PLR2004 - of a unit
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    hours, rest = divmod(minutes, 60)
    return f"{hours:,} h {rest} min" if rest else f"{hours:,} h"


def size(value: float) -> str:
    """Format a number of bytes.

    Example:
        >>> size(512), size(1536), size(3 << 30)
        ('512 B', '1.5 KiB', '3.0 GiB')
    """
    if value < 1024:  # noqa: PLR2004 - of a unit
        return f"{value:.0f} B"
    for unit in ("KiB", "MiB", "GiB"):
        value /= 1024
        if value < 1024:  # noqa: PLR2004 - of a unit
            return f"{value:.1f} {unit}"
    return f"{value / 1024:.1f} TiB"


def share(value: float) -> str:
    """Format a part of a whole.

    Example:
        >>> share(0.923), share(0.004), share(0)
        ('92 %', '0.4 %', '0 %')
    """
    percent = 100 * value
    return f"{percent:.1f} %" if 0 < percent < 1 else f"{percent:.0f} %"


def count(number: int, noun: str) -> str:
    """Format a number with its noun.

    Example:
        >>> count(1, "core"), count(2000, "core")
        ('1 core', '2,000 cores')
    """
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def verb(number: int, one: str, many: str) -> str:
    """Return the form of a verb that goes with a number."""
    return one if number == 1 else many
