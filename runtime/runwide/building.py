"""Classes that came by value, built without running again what made the first class of each."""

from __future__ import annotations

import types
from contextlib import contextmanager, suppress
from enum import Enum
from typing import TYPE_CHECKING, Any

from runwide.definitions import has_arrived

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence


def build_class(meta: type, name: str, bases: tuple[type, ...], values: dict[str, Any]) -> type:
    """Build a class without the hooks of its program, which may want more than is known of it.

    What the hooks have done is among the attributes that are set later. Hooks of installed packages are run where they
    do not fail.

    Example:
        >>> build_class(type, "P", (object,), {"__module__": "m"})
        <class 'm.P'>
    """

    def whole() -> type:
        return types.new_class(name, bases, {"metaclass": meta}, lambda space: space.update(values))

    return _first_that_works(bases, meta, whole, lambda base: base.__new__(meta, name, bases, dict(values)))


def build_enum(
    meta: Any, name: str, bases: tuple[type, ...], values: dict[str, Any], members: dict[str, Any]
) -> type:
    """Build an enumeration with its members, as `build_class` does a class."""

    def space() -> dict[str, Any]:
        found: dict[str, Any] = meta.__prepare__(name, bases)
        for key, value in (*values.items(), *members.items()):
            found[key] = value  # noqa: PERF403 - a dict of the metaclass, which takes members one by one
        return found

    return _first_that_works(
        bases, meta, lambda: meta(name, bases, space()), lambda base: base.__new__(meta, name, bases, space())
    )


def _first_that_works(
    bases: Sequence[type], meta: type, whole: Callable[[], type], by: Callable[[Any], type]
) -> type:
    """Build a class by its metaclass, or by the first one below that takes it; ``type`` takes all."""
    arrived = [kind for base in bases for kind in base.__mro__ if has_arrived(kind)]
    every = [kind for base in bases for kind in base.__mro__]
    below = [kind for kind in meta.__mro__ if "__new__" in vars(kind) and not has_arrived(kind)]
    if not has_arrived(meta):
        for muted in (arrived, every):
            with suppress(Exception), _without_hooks(muted):
                return whole()
    for kind in below[:-1]:
        with suppress(Exception), _without_hooks(every):
            return by(kind)
    with _without_hooks(every):
        return by(type)


@contextmanager
def _without_hooks(kinds: Iterable[type]) -> Iterator[None]:
    """Mute what is called when a subclass or a member is made; the caller holds the lock."""
    muted: list[tuple[type, str, Any]] = []
    try:
        for kind in dict.fromkeys(kinds):
            for name, quiet in _QUIET.items():
                if name in vars(kind) and (
                    name == "__init_subclass__" or (issubclass(kind, Enum) and kind is not Enum)
                ):
                    before = vars(kind)[name]
                    with suppress(TypeError):  # of a class of C
                        type.__setattr__(kind, name, quiet)
                        muted.append((kind, name, before))
        yield
    finally:
        for kind, hook, before in reversed(muted):
            type.__setattr__(kind, hook, before)


def _plain_member(kind: Any, *values: Any) -> Any:
    data = getattr(kind, "_member_type_", object)
    return object.__new__(kind) if data is object else data.__new__(kind, *values)


_QUIET = {
    "__init_subclass__": classmethod(lambda *_args, **_options: None),
    "__new_member__": staticmethod(_plain_member),
    "__init__": lambda *_: None,
}
