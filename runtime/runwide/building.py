"""Classes that came by value, built without running again what made the first class of each."""

from __future__ import annotations

import types
from contextlib import contextmanager, suppress
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

    def below(base: Any) -> type:
        made: type = base.__new__(meta, name, bases, dict(values))
        return made

    return _first_that_works(bases, meta, (whole, below), ("__init_subclass__",))


def build_enum(
    meta: Any, name: str, bases: tuple[type, ...], values: dict[str, Any], members: dict[str, Any]
) -> type:
    """Build an enumeration with its members, as `build_class` does a class."""

    def space() -> dict[str, Any]:
        found: dict[str, Any] = meta.__prepare__(name, bases)
        for key, value in (*values.items(), *members.items()):
            found[key] = value  # noqa: PERF403 - a dict of the metaclass, which takes members one by one
        return found

    def whole() -> type:
        made: type = meta(name, bases, space())
        return made

    def below(base: Any) -> type:
        made: type = base.__new__(meta, name, bases, space())
        return made

    return _first_that_works(bases, meta, (whole, below), tuple(_QUIET))


def _first_that_works(
    bases: Sequence[type],
    meta: type,
    ways: tuple[Callable[[], type], Callable[[Any], type]],
    hooks: Sequence[str],
) -> type:
    """Build a class by its metaclass, or by the first one below that takes it; ``type`` takes all."""
    whole, below = ways
    every = [kind for base in bases for kind in base.__mro__]
    if not has_arrived(meta):
        for muted in ([kind for kind in every if has_arrived(kind)], every):
            with suppress(Exception), _without_hooks(muted, hooks):
                return whole()
    metas = [kind for kind in meta.__mro__ if "__new__" in vars(kind) and not has_arrived(kind)]
    for kind in metas[:-1]:
        with suppress(Exception), _without_hooks(every, hooks):
            return below(kind)
    with _without_hooks(every, hooks):
        return below(metas[-1])


@contextmanager
def _without_hooks(kinds: Iterable[type], hooks: Sequence[str]) -> Iterator[None]:
    """Mute what is called when a subclass or a member is made; the caller holds the lock."""
    muted: list[tuple[type, str, Any]] = []
    places = [(kind, hook) for kind in dict.fromkeys(kinds) if kind.__module__ != "enum" for hook in hooks]
    try:
        for kind, hook in places:
            if hook in vars(kind):
                before = vars(kind)[hook]
                with suppress(TypeError):  # of a class of C
                    type.__setattr__(kind, hook, _QUIET[hook])
                    muted.append((kind, hook, before))
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
    "__eq__": object.__eq__,  # of members that have no content yet
    "__hash__": object.__hash__,
}
