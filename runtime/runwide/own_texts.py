"""Find the texts of a function: in its code, its defaults and the values that it uses."""

from __future__ import annotations

from collections import deque
from itertools import islice, pairwise
from pathlib import PurePath
from types import CodeType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from types import FunctionType

_MOST = 10_000  # containers of one function, and values of one container
_KEYS = frozenset({"BUILD_CONST_KEY_MAP", "BINARY_SUBSCR", "STORE_SUBSCR", "DELETE_SUBSCR", "COMPARE_OP"})
_CONTAINERS = (tuple, list, set, frozenset)


def codes_of(code: CodeType) -> Iterator[CodeType]:
    """Yield the code of a function, and of the functions in it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from codes_of(constant)


def texts_of(function: FunctionType, values: Mapping[str, Any]) -> frozenset[str]:
    """Return the texts and relative paths of a function, also in tuples, lists, sets and dicts.

    Args:
        function: The function.
        values: The variables of its module that it uses.

    Example:
        >>> def f(name="one.csv"): return [name, *("two.csv", "three.csv"), OTHER]
        >>> sorted(texts_of(f, {"OTHER": ["four.csv"]}))
        ['four.csv', 'one.csv', 'three.csv', 'two.csv']
    """
    waiting: deque[Any] = deque(code.co_consts for code in codes_of(function.__code__))
    waiting += [function.__defaults__, function.__kwdefaults__, list(values.values())]
    waiting += map(_content, function.__closure__ or ())
    found: set[str] = set()
    seen: set[int] = set()
    while waiting and len(seen) < _MOST:
        value = waiting.popleft()
        kind = type(value)
        if issubclass(kind, (str, PurePath)):
            found.add(str(value))
        elif issubclass(kind, (dict, *_CONTAINERS)) and id(value) not in seen:
            seen.add(id(value))
            waiting += islice(value, _MOST)
            waiting += islice(value.values(), _MOST) if issubclass(kind, dict) else ()
    return frozenset(found)


def keys_of(function: FunctionType) -> frozenset[str]:
    """Return texts that the code of a function only uses as keys or in comparisons.

    Example:
        >>> def f(x): return {"env": 1, "data": x}["data"], x / "tables"
        >>> sorted(keys_of(f))
        ['data', 'env']
    """
    import dis  # slow to load

    keys: set[str] = set()
    others: set[str] = set()
    for code in codes_of(function.__code__):
        instructions = [
            one for one in dis.get_instructions(code) if one.opname not in ("EXTENDED_ARG", "CACHE")
        ]
        for one, after in pairwise([*instructions, None]):
            if one is not None and one.opname.startswith("LOAD_CONST"):
                is_key = after is not None and (after.opname in _KEYS or after.argrepr == "[]")
                (keys if is_key else others).update(_texts(one.argval))
    return frozenset(keys - others)


def _texts(constant: Any) -> Iterator[str]:
    group = constant if isinstance(constant, (tuple, frozenset)) else (constant,)
    yield from (one for one in group if isinstance(one, str))


def _content(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # it has no value yet
        return None
