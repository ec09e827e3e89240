"""Find the part of a value that cannot be pickled."""

from __future__ import annotations

import time
from contextlib import contextmanager
from functools import lru_cache, partial
from itertools import chain
from types import CodeType, FunctionType, MethodType
from typing import TYPE_CHECKING, Any

from runwide import naming
from runwide.errors import FunctionNotPicklable, ItemNotPicklable, ResultNotPicklable, RunwideError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_OURS = (FunctionNotPicklable, ItemNotPicklable, ResultNotPicklable)
_DEPTH = 30
_SECONDS = 2.0
"""Limit of the search, which pickles parts again and serves a message only."""


def located(message: str, value: object) -> str:
    """Return a message with the place and class of the part that cannot be pickled.

    Example:
        >>> import threading
        >>> located("cannot pickle", {"jobs": [1, threading.Lock()]})
        "cannot pickle; it is dict['jobs'][1], of class _thread.lock"
    """
    try:
        path, found, owner = _search(value)
    except BaseException:  # the code of the user's classes runs here
        return message
    if found is value:
        return message
    kind = type(found)
    of = f" of a {owner}" if owner else ""
    return f"{message}; it is {path}{of}, of class {kind.__module__}.{kind.__qualname__}"


def refusal(what: str, error: BaseException, value: object) -> str:
    """Return the message for a value that cannot be pickled, with the reason and the part of it.

    Example:
        >>> refusal("the item", TypeError("no"), [1])
        'the item cannot be pickled: TypeError: no'
    """
    return located(f"{what} cannot be pickled: {type(error).__name__}: {naming.text_of(error)}", value)


def raised_by_pickle(error: BaseException) -> BaseException:
    """Return the error that pickling raised, as the standard pools do; its cause is our error, which names the part.

    An error that would end the program or an iteration is not returned: our error is, as for all other errors.

    Example:
        >>> error = naming.caused(ItemNotPicklable("the item cannot be pickled", item=3), TypeError("no"))
        >>> raised = raised_by_pickle(error)
        >>> raised, raised.__cause__ is error
        (TypeError('no'), True)
    """
    raised = error.__cause__
    if not isinstance(error, _OURS) or not isinstance(raised, Exception):
        return error
    if isinstance(raised, (RunwideError, StopIteration)):
        return error
    before = raised.__cause__
    # The same object may be raised for each item.
    naming.caused(error, None if isinstance(before, _OURS) else before)
    return naming.caused(raised, error)


@contextmanager
def raising_what_pickle_raised() -> Iterator[None]:
    """Replace our errors by the one that `raised_by_pickle` returns."""
    try:
        yield
    except _OURS as error:
        raise raised_by_pickle(error)  # noqa: B904 - its cause is set


def _search(value: Any) -> tuple[str, Any, str]:
    """Return the path to the part, the part, and the class that has it as an attribute, empty if the path shows it."""
    deadline = time.monotonic() + _SECONDS
    path = start = naming.name_of(value)
    owner = ""
    seen = {id(value)}
    for _ in range(_DEPTH):
        for step, part in _parts(value):
            if id(part) not in seen and time.monotonic() < deadline and _fails(part):
                seen.add(id(part))
                inner = path != start and step.startswith(".") and not isinstance(value, type)
                owner = type(value).__qualname__ if inner else ""
                path, value = path + step, part
                break
        else:
            break
    return path, value, owner


def _fails(value: object) -> bool:
    from runwide.pickling import pickler  # loads cloudpickle

    try:
        pickler.dumps(value)
    except Exception:
        return True
    return False


def _parts(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        yield from ((f"[{naming.shown(key)}]", part) for key, part in value.items())
    elif isinstance(value, (list, tuple, set, frozenset)):
        yield from ((f"[{index}]", part) for index, part in enumerate(value))
    if isinstance(value, FunctionType):
        yield from _parts_of_function(value)
    elif isinstance(value, MethodType):
        yield ".__self__", value.__self__
    elif isinstance(value, partial):
        yield from ((" → " + naming.name_of(part), part) for part in (value.func, *value.args))
        yield from ((f" → {name}", part) for name, part in value.keywords.items())
    elif isinstance(value, type):
        yield from ((f".{name}", part) for name, part in vars(value).items())
    elif hasattr(value, "__wrapped__"):
        yield "", value.__wrapped__
    else:
        yield from _attributes(value)
        yield "", type(value)


def _parts_of_function(function: Any) -> Iterator[tuple[str, Any]]:
    code = function.__code__
    for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=True):
        yield f" → {name}", cell.cell_contents
    yield from (
        (f" → {name}", function.__globals__[name])
        for name in global_names(code)
        if name in function.__globals__
    )
    yield from ((" → default", part) for part in function.__defaults__ or ())
    yield from ((f" → {name}", part) for name, part in (function.__kwdefaults__ or {}).items())
    yield from ((f".{name}", part) for name, part in vars(function).items())


@lru_cache(maxsize=256)
def global_names(code: CodeType) -> tuple[str, ...]:
    """Return the names of globals that code reads, also in functions that it defines; names of attributes are not included.

    Example:
        >>> global_names((lambda x: [len(part) for part in x.parts]).__code__)
        ('len',)
    """
    import dis  # slow to load

    own = [step.argval for step in dis.get_instructions(code) if step.opname == "LOAD_GLOBAL"]
    inner = (global_names(constant) for constant in code.co_consts if isinstance(constant, CodeType))
    return tuple(chain(own, *inner))


def _attributes(value: Any) -> Iterable[tuple[str, Any]]:
    found = dict(getattr(value, "__dict__", {}))
    for kind in type(value).__mro__:
        slots = vars(kind).get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else tuple(slots):
            if hasattr(value, name):
                found[name] = getattr(value, name)
    return [(f".{name}", part) for name, part in found.items()]
