"""File names and line numbers of pickled code, which travel beside the pickle."""

from __future__ import annotations

import binascii
import os
import pickle
import sys
import threading
import types
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

CODE = tuple(
    f"co_{name}"
    for name in (
        "argcount", "posonlyargcount", "kwonlyargcount", "nlocals", "stacksize", "flags", "code", "consts", "names",
        "varnames", "freevars", "cellvars", "name", "qualname", "exceptiontable",
    )
    if hasattr(types.CodeType, f"co_{name}")
)  # fmt: skip
"""Attributes of a code object that a pickle has; they differ between minor versions of Python, as bytecode does."""

UNPACKED = "runwide-code-"
"""First part of the name of a folder into which a program's own code was unpacked."""
_FIRST_LINE = "__firstlineno__"
_template = (lambda: None).__code__


class _Current(threading.local):
    """The places of the pickle that this thread is loading."""

    def __init__(self) -> None:
        self.places: Sequence[Sequence[Any]] = ()


current = _Current()


@dataclass(frozen=True, slots=True)
class Place:
    """The file and lines of a code object.

    Args:
        table: Python's table of the lines of its instructions.
        class_line: Line of the class if it is the body of one; None for other code, and before Python 3.13.
    """

    file: str
    line: int
    table: bytes
    class_line: int | None = None

    def about(self) -> list[Any]:
        """Return the place as values for JSON."""
        return [
            self.file,
            self.line,
            binascii.b2a_base64(self.table, newline=False).decode(),
            self.class_line,
        ]

    @classmethod
    def of(cls, about: Sequence[Any]) -> Place:
        """Return the place whose values `about` has returned."""
        file, line, table, class_line = about
        return cls(str(file), max(1, int(line)), binascii.a2b_base64(table), class_line)


_NOWHERE = "<unknown>"


def split_code(code: types.CodeType) -> tuple[tuple[Any, ...], Place]:
    """Split a code object into the values of `CODE` and its place."""
    values = {name: getattr(code, name) for name in CODE}
    constant = _constant_of_line(code)
    class_line = None
    if constant is not None:
        class_line = code.co_consts[constant]
        values["co_consts"] = _with(code.co_consts, constant, 0)
    return tuple(values.values()), Place(
        shown(code.co_filename), code.co_firstlineno, code.co_linetable, class_line
    )


def join_code(values: Sequence[Any], place: Place) -> types.CodeType:
    """Return the code object that `split_code` has split."""
    about = dict(zip(CODE, values, strict=True))
    code = _template.replace(
        **about, co_filename=place.file, co_firstlineno=place.line, co_linetable=place.table
    )
    constant = None if place.class_line is None else _constant_of_line(code)
    if constant is None:
        return code
    return code.replace(co_consts=_with(code.co_consts, constant, place.class_line))


def _constant_of_line(code: types.CodeType) -> int | None:
    """Return the index of the constant that is the line of the class, which class bodies have from Python 3.13 on."""
    if _FIRST_LINE not in code.co_names:
        return None
    import dis

    before = None
    for one in dis.get_instructions(code):
        if one.opname == "STORE_NAME" and one.argval == _FIRST_LINE:
            return before.arg if before is not None and before.opname == "LOAD_CONST" else None
        before = one
    return None


def _with(values: tuple[Any, ...], place: int, value: Any) -> tuple[Any, ...]:
    return (*values[:place], value, *values[place + 1 :])


def placeless(code: types.CodeType) -> types.CodeType:
    r"""Return the same code without file names and lines, to compare it.

    Example:
        >>> one, other = eval("lambda: 1").__code__, eval("\n\nlambda: 1").__code__
        >>> one == other, placeless(one) == placeless(other)
        (False, True)
    """
    values, _ = split_code(code)
    made = join_code(values, Place(_NOWHERE, 1, b""))
    constants = (placeless(one) if isinstance(one, types.CodeType) else one for one in made.co_consts)
    return made.replace(co_consts=tuple(constants))


def make_code(number: int | None, values: Sequence[Any]) -> types.CodeType:
    """Return a code object of a pickle, with the place of that number, if it has one."""
    if number is not None:
        with suppress(Exception):  # damaged places do no harm
            code = join_code(values, Place.of(current.places[number]))
            deque(code.co_lines(), maxlen=0)
            return code
    return join_code(values, _nowhere(values))


def _nowhere(values: Sequence[Any]) -> Place:
    """Return a place for code whose own is unknown: all instructions are on the first line."""
    size = len(values[CODE.index("co_code")])
    if sys.version_info < (3, 11):
        return Place(_NOWHERE, 1, bytes((254, 0)) * (size // 254 + 1))
    # Each entry of the location table covers up to eight instructions; its first byte has the form, here without columns.
    whole, rest = divmod(size // 2, 8)
    entry = 0x80 | 13 << 3
    return Place(_NOWHERE, 1, bytes((entry | 7, 0)) * whole + (bytes((entry | rest - 1, 0)) if rest else b""))


def placed(core: bytes, modules: str, beside: str) -> Any:  # noqa: ARG001 - used in comparisons only
    """Load a pickle with the places and submodules that travel beside it."""
    import json  # needed for stored functions only, and every worker imports this module

    about = json.loads(beside)  # noqa: TID251 - a part of a pickle, as trusted as the whole
    for name in about["submodules"]:
        import_module(name)
    before, current.places = current.places, about["places"]
    try:
        return pickle.loads(core)  # noqa: TID251 - likewise
    finally:
        current.places = before


def shown(file: str) -> str:
    """Return a file's name relative to the search path, which is the same wherever the program is installed.

    Example:
        >>> shown("<string>"), shown("/nowhere/on/the/path.py")
        ('<string>', 'path.py')
    """
    if file.startswith("<"):
        return file
    above = [folder for folder in map(os.path.abspath, sys.path) if file.startswith(folder + os.sep)]
    found = file[len(max(above, key=len)) + 1 :] if above else os.path.basename(file)  # noqa: PTH119 - loads nothing
    return found.replace(os.sep, "/")


def own_file(path: str) -> str:
    """Return the path of the file of a function that was pickled by value: it is beside the code that came with it.

    Example:
        >>> own_file("shop.py")
        'shop.py'
    """
    folder = own_folder()
    return os.path.normpath(os.path.join(folder, *path.split("/")))  # noqa: PTH118 - likewise


def make_way(folder: str) -> None:
    """Forget loaded modules whose names are in a folder of unpacked code, so that they are imported from there.

    A program's own ``locale.py`` takes precedence over Python's, which this process loaded before that code arrived.
    """
    for name in os.listdir(folder):  # noqa: PTH208 - loads nothing
        top = name.removesuffix(".py")
        if top == name and not os.path.exists(f"{folder}/{name}/__init__.py"):  # noqa: PTH110 - likewise
            continue
        file = getattr(sys.modules.get(top), "__file__", None)
        if isinstance(file, str) and not file.startswith(folder):
            for one in [one for one in sys.modules if one == top or one.startswith(f"{top}.")]:
                del sys.modules[one]


def own_folder() -> str:
    """Return the first folder of unpacked code on the search path, or an empty text."""
    return next((entry for entry in sys.path if os.path.basename(entry).startswith(UNPACKED)), "")  # noqa: PTH119 - a text


def own_path(path: str) -> Path:
    """Return the place of a path (``.``: the folder) that a program had beside its file, as `own_file` does for the file.

    Example:
        >>> own_path("labels.json").name
        'labels.json'
    """
    from pathlib import Path  # every worker imports this module

    return Path(own_file(path))
