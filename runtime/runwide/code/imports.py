"""Find the imports in a function's bytecode."""

from __future__ import annotations

import re
import sys
from functools import partial
from opcode import opmap
from types import CodeType, FunctionType, MethodType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_IMPORT = opmap["IMPORT_NAME"]
_IMPORTERS = frozenset({"import_module", "__import__"})
READERS = frozenset({
    "files", "get_data", "open_text", "open_binary", "read_text", "read_binary", "contents", "is_resource",
    "resource_filename", "resource_string", "resource_stream", "PackageLoader",
})  # fmt: skip
"""Functions whose first argument is the name of a package from which they read."""
DOTTED = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*")
CATCHING = frozenset({"ImportError", "ModuleNotFoundError", "Exception", "BaseException"})
"""Errors whose handlers catch a failed import."""


def imported_in(code: CodeType, package: str) -> Iterator[str]:
    r"""Yield the names of modules that code, and functions in it, may import; ``package`` is that of relative imports.

    Example:
        >>> code = compile("def f():\n    from os import path\n    import json", "f", "exec")
        >>> list(imported_in(code, ""))
        ['os', 'os.path', 'json']
    """
    for place, one, instructions in _imports_of(code):
        level, names = (two.argval for two in instructions[place - 2 : place])
        yield from _modules(one.argval, level, names, package)
    if not _IMPORTERS.isdisjoint(code.co_names):
        yield from (text for text in code.co_consts if isinstance(text, str) and DOTTED.fullmatch(text))
    yield from _read_by(code)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from imported_in(constant, package)


def reads_in(code: CodeType) -> bool:
    """Return whether code, or a function in it, reads from a package that it names.

    Example:
        >>> reads_in(compile("files('shop').joinpath('x.csv')", "f", "exec")), reads_in(compile("files(x)", "f", "exec"))
        (True, False)
    """
    inner = (constant for constant in code.co_consts if isinstance(constant, CodeType))
    return any(True for _ in _read_by(code)) or any(map(reads_in, inner))


def _read_by(code: CodeType) -> Iterator[str]:
    """Yield the names of packages from which code reads: texts that are the first argument of one of `READERS`."""
    if READERS.isdisjoint(code.co_names):
        return
    import dis  # slow to load

    called = False
    for one in dis.get_instructions(code):
        if one.opname.startswith("LOAD_") and one.argval in READERS and isinstance(one.argval, str):
            called = one.opname != "LOAD_CONST"
        elif one.opname.startswith("LOAD_"):
            if (
                called
                and isinstance(one.argval, str)
                and one.opname == "LOAD_CONST"
                and DOTTED.fullmatch(one.argval)
            ):
                yield one.argval
            called = False


def needed_in(code: CodeType, package: str) -> Iterator[str]:
    r"""Yield the names of modules without which code cannot run.

    Imports in a branch, and imports whose error is caught, are left out.

    Example:
        >>> code = compile("import a\ntry:\n    import b\nexcept ImportError:\n    b = None", "f", "exec")
        >>> list(needed_in(code, ""))
        ['a']
    """
    found = _imports_of(code)
    tries = _Tries(code, found[0][2]) if found else None
    for place, one, instructions in found:
        if tries is not None and not tries.covers(one.offset) and not _is_in_branch(one.offset, instructions):
            level, names = (two.argval for two in instructions[place - 2 : place])
            yield from _modules(one.argval, level, names, package)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from needed_in(constant, package)


def needed_to_run(function: Any) -> Iterator[str]:
    """Yield the modules that a callable's own code needs, also if it is pickled by name.

    A function of an installed package needs only modules that are installed with it.

    Example:
        >>> def load(text):
        ...     import yaml
        ...     return yaml.safe_load(text)
        >>> list(needed_to_run(load))
        ['yaml']
    """
    from runwide.code.distributions import located_module

    for one in bodies(function):
        if located_module(one.__module__ or "__main__") is None:
            yield from needed_in(one.__code__, one.__globals__.get("__package__") or "")


def bodies(function: Any) -> list[FunctionType]:
    """Return the functions that a call runs first, through partials, methods, decorators and instances.

    Example:
        >>> from functools import partial
        >>> def double(x): return 2 * x
        >>> [one.__name__ for one in bodies(partial(double, 2))]
        ['double']
    """
    found: list[FunctionType] = []
    waiting = [function]
    while waiting:
        one = waiting.pop()
        if isinstance(one, FunctionType):
            if one not in found:
                found.append(one)
                waiting.append(vars(one).get("__wrapped__"))
        elif isinstance(one, partial):
            waiting += [one.func, getattr(one, "first", None)]  # of a `runwide.api.functions.Program`
        elif isinstance(one, MethodType):
            waiting.append(one.__func__)
        elif one is not None and not isinstance(one, type):
            call = getattr(type(one), "__call__", None)  # noqa: B004 - the method itself
            waiting.append(call if isinstance(call, FunctionType) else None)
    return found


def _imports_of(code: CodeType) -> list[tuple[int, Any, Sequence[Any]]]:
    """Return the import statements of code: the index and the instruction of each, and all instructions."""
    if _IMPORT not in code.co_code[::2]:
        return []
    import dis  # slow to load

    instructions = [one for one in dis.get_instructions(code) if one.opname != "EXTENDED_ARG"]
    return [
        (place, one, instructions) for place, one in enumerate(instructions) if one.opname == "IMPORT_NAME"
    ]


def _is_in_branch(offset: int, instructions: Sequence[Any]) -> bool:
    """Return whether code may jump over an instruction: it is in a branch of an `if`, or in a loop that may not run."""
    return any(
        "JUMP" in one.opname and one.offset < offset and isinstance(one.argval, int) and one.argval > offset
        for one in instructions
    )


def _modules(name: str, level: Any, names: Any, package: str) -> Iterator[str]:
    if isinstance(level, int) and level > 0:
        above = package.rsplit(".", level - 1)[0] if level > 1 else package
        name = f"{above}.{name}" if name else above
    yield name
    for one in names if isinstance(names, tuple) else ():
        yield f"{name}.{one}"


# --- try statements


class _Tries:
    """The try statements of code that handle failed imports."""

    def __init__(self, code: CodeType, instructions: Sequence[Any]) -> None:
        self._instructions = instructions
        self._starts = {one.offset: place for place, one in enumerate(instructions)}
        self._suppresses = "suppress" in code.co_names
        entries = _entries if sys.version_info >= (3, 11) else _entries_before
        self._entries = [one for one in entries(code, instructions) if one[2] in self._starts]
        self._fallbacks = [self._handler(target) for _, _, target in self._entries if self._catches(target)]

    def covers(self, offset: int) -> bool:
        """Return whether an import at an offset may fail, or only runs after another import has failed."""
        return any(start <= offset < stop for start, stop in self._fallbacks) or self._caught(
            offset, frozenset()
        )

    def _caught(self, offset: int, seen: frozenset[int]) -> bool:
        """Return whether an exception is caught, here or further outside: handlers that only clean up pass it on."""
        return any(
            start <= offset < stop
            and target not in seen
            and (self._catches(target) or self._caught(target, seen | {target}))
            for start, stop, target in self._entries
        )

    def _handler(self, target: int) -> tuple[int, int]:
        """Return the offsets at which a handler begins and ends."""
        before = ""
        for one in self._instructions[self._starts[target] :]:
            if one.opname == "RERAISE" and (sys.version_info < (3, 11) or before == "POP_EXCEPT"):
                return target, one.offset
            before = one.opname
        return target, target

    def _catches(self, target: int) -> bool:
        """Return whether a handler catches a failed import, and does not only clean up."""
        names: list[str] = []
        for place, one in enumerate(self._instructions[self._starts[target] :]):
            if one.opname in ("LOAD_GLOBAL", "LOAD_NAME", "LOAD_ATTR"):
                names.append(str(one.argval))
            elif one.opname in ("CHECK_EXC_MATCH", "JUMP_IF_NOT_EXC_MATCH"):
                if not CATCHING.isdisjoint(names):
                    return True
                names = []
            elif one.opname == "POP_TOP" and place <= 1:  # a bare except drops the exception at once
                return True
            elif one.opname == "WITH_EXCEPT_START":
                return self._suppresses
            elif one.opname == "RERAISE":
                return False
        return False


def _entries(code: CodeType, _: Sequence[Any]) -> Iterator[tuple[int, int, int]]:
    """Yield start, end and handler of each protected range; Python 3.11 and later have a table of these."""
    import dis

    for entry in dis.Bytecode(code).exception_entries:  # type: ignore[attr-defined]  # since 3.11
        yield entry.start, entry.end, entry.target


def _entries_before(_: CodeType, instructions: Sequence[Any]) -> Iterator[tuple[int, int, int]]:
    """Yield the same for Python 3.10, which has blocks: a protected range ends where its handler begins."""
    for one in instructions:
        if one.opname in ("SETUP_FINALLY", "SETUP_WITH"):
            yield one.offset, one.argval, one.argval
