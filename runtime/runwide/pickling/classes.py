"""Build classes that were pickled by value, without running their hooks again."""

from __future__ import annotations

import types
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from runwide.pickling.definitions import has_arrived

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence


def build_class(meta: type, name: str, bases: tuple[type, ...], values: dict[str, Any]) -> type:
    """Build a class without the hooks of its program, which may need more arguments than the pickle has.

    The results of the hooks are among the attributes that are set later. Hooks of installed packages run if they do not
    fail.

    Example:
        >>> build_class(type, "P", (object,), {"__module__": "m"})
        <class 'm.P'>
    """

    def whole() -> type:
        return types.new_class(name, bases, {"metaclass": meta}, lambda space: space.update(values))

    return _first_that_works(whole, meta, name, bases, lambda: dict(values), hooks=("__init_subclass__",))


def build_enum(
    meta: Any, name: str, bases: tuple[type, ...], values: dict[str, Any], members: dict[str, Any]
) -> type:
    """Build an enumeration with its members, as `build_class` builds a class."""

    def space() -> dict[str, Any]:
        found: dict[str, Any] = meta.__prepare__(name, bases)
        for key, value in (*values.items(), *members.items()):
            found[key] = value  # noqa: PERF403 - the metaclass checks each assignment
        return found

    return _first_that_works(
        lambda: meta(name, bases, space()), meta, name, bases, space, hooks=tuple(_QUIET)
    )


def _first_that_works(
    whole: Callable[[], type],
    meta: Any,
    name: str,
    bases: tuple[type, ...],
    space: Callable[[], dict[str, Any]],
    *,
    hooks: Sequence[str],
) -> type:
    """Build a class with its metaclass, or with the first base of the metaclass that accepts it; ``type`` always does."""
    every = [kind for base in bases for kind in base.__mro__]
    if not has_arrived(meta):
        for muted in ([kind for kind in every if has_arrived(kind)], every):
            with suppress(Exception), _without_hooks(muted, hooks):
                return whole()
    metas = [kind for kind in meta.__mro__ if "__new__" in vars(kind) and not has_arrived(kind)]
    for kind in metas[:-1]:
        with suppress(Exception), _without_hooks(every, hooks):
            found: type = kind.__new__(meta, name, bases, space())
            return found
    with _without_hooks(every, hooks):
        made: type = metas[-1].__new__(meta, name, bases, space())
        return made


@contextmanager
def _without_hooks(kinds: Iterable[type], hooks: Sequence[str]) -> Iterator[None]:
    """Disable the hooks that run when a subclass or a member is made; the caller holds the lock."""
    muted: list[tuple[type, str, Any]] = []
    places = [(kind, hook) for kind in dict.fromkeys(kinds) if kind.__module__ != "enum" for hook in hooks]
    try:
        for kind, hook in places:
            if hook in vars(kind):
                before = vars(kind)[hook]
                with suppress(TypeError):  # the class is written in C
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
    "__eq__": object.__eq__,  # members have no content yet
    "__hash__": object.__hash__,
}
