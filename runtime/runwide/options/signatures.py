"""Signatures and help of functions that take options."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, TypeVar

from runwide.options.record import OPTIONS, Surface

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

C = TypeVar("C")

_PLACE = "**options: As in `runwide.options.record.{}`."


def taking(kind: type, surface: Surface) -> Callable[[C], C]:
    """Return a decorator that shows each option of ``**options`` to editors, ``help`` and `inspect.signature`.

    Args:
        surface: Surface of the function: options that it rejects are not shown.

    Example:
        >>> from runwide.options.record import Surface, TaskOptions
        >>> @taking(TaskOptions, Surface("example", {"workers": "there are none"}))
        ... def run(items, **options):
        ...     '''Run it.
        ...
        ...     Args:
        ...         **options: As in `runwide.options.record.TaskOptions`.
        ...     '''
        >>> list(inspect.signature(run).parameters)[:3], "    retries: Further attempts" in run.__doc__
        (['items', 'timeout', 'retries'], True)
    """
    names = [name for name in names_of(kind) if name not in surface.refused]

    def shown(call: C) -> C:
        described: Any = call
        starts: Any = vars(described)["__init__"] if isinstance(described, type) else described
        made = starts.__signature__ = _explicit(starts, kind, names)
        if starts is not described:  # a class, whose `__new__` has another signature
            described.__signature__ = made.replace(parameters=list(made.parameters.values())[1:])
        mark = _PLACE.format(kind.__name__)
        described.__doc__ = documented(described.__doc__ or "", mark, names)
        return call

    return shown


def names_of(kind: type) -> list[str]:
    """Return the names of the options of a kind, in the order of `OPTIONS`.

    Example:
        >>> from runwide.options.record import Options, TaskOptions, WorkerOptions
        >>> sorted(set(names_of(Options)) - set(names_of(TaskOptions)))
        ['on_event', 'progress']
        >>> sorted(set(names_of(TaskOptions)) - set(names_of(WorkerOptions)))
        ['initargs', 'initializer']
    """
    return [name for name in OPTIONS if name in kind.__annotations__]


def documented(text: str, mark: str, names: Iterable[str]) -> str:
    """Return a docstring in which one line for all options is replaced by a line for each.

    Args:
        mark: The line for all, without its indentation.
    """
    before, found, after = text.partition(mark)
    if not found:
        return text
    margin = before[before.rfind("\n") + 1 :]
    return before + f"\n{margin}".join(f"{name}: {OPTIONS[name].help}" for name in names) + after


def _explicit(call: Any, kind: type, names: Iterable[str]) -> inspect.Signature:
    found = inspect.signature(call)
    types = kind.__annotations__
    given = [one for one in found.parameters.values() if one.kind is not inspect.Parameter.VAR_KEYWORD]
    known = {one.name for one in given}
    further = [
        inspect.Parameter(
            name,
            inspect.Parameter.KEYWORD_ONLY,
            default=OPTIONS[name].default,
            annotation=types[name].__origin__,
        )
        for name in names
        if name not in known
    ]
    return found.replace(parameters=[*given, *further])
