"""Where the code of a pickle stands: file names and lines, which travel beside it and say nothing of what it does."""

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
"""What of a code object is in a pickle; this differs between minor versions of Python, as bytecode does."""

UNPACKED = "runwide-code-"
"""Start of the name of a folder into which code of a program's own was unpacked."""
_FIRST_LINE = "__firstlineno__"
_template = (lambda: None).__code__


class _Current(threading.local):
    """The places of the pickle that this thread is loading."""

    def __init__(self) -> None:
        self.places: Sequence[Sequence[Any]] = ()


current = _Current()


@dataclass(frozen=True, slots=True)
class Place:
    """Where a code object stands.

    Args:
        file: File name, as tracebacks show it.
        line: First line, from 1.
        table: Lines of its instructions, as Python has them.
        class_line: Line of the class whose body it is; None for other code, and before Python 3.13.
    """

    file: str
    line: int
    table: bytes
    class_line: int | None = None

    def about(self) -> list[Any]:
        """Return it as JSON."""
        return [
            self.file,
            self.line,
            binascii.b2a_base64(self.table, newline=False).decode(),
            self.class_line,
        ]

    @classmethod
    def of(cls, about: Sequence[Any]) -> Place:
        """Return the place that `about` has written."""
        file, line, table, class_line = about
        return cls(str(file), max(1, int(line)), binascii.a2b_base64(table), class_line)


_NOWHERE = "<unknown>"


def taken_apart(code: types.CodeType) -> tuple[tuple[Any, ...], Place]:
    """Return what a code object does, the values of `CODE`, and where it stands."""
    values = {name: getattr(code, name) for name in CODE}
    constant = _constant_of_line(code)
    class_line = None
    if constant is not None:
        class_line = code.co_consts[constant]
        values["co_consts"] = _with(code.co_consts, constant, 0)
    return tuple(values.values()), Place(
        shown(code.co_filename), code.co_firstlineno, code.co_linetable, class_line
    )


def put_together(values: Sequence[Any], place: Place) -> types.CodeType:
    """Return the code object that was `taken_apart`."""
    about = dict(zip(CODE, values, strict=True))
    code = _template.replace(
        **about, co_filename=place.file, co_firstlineno=place.line, co_linetable=place.table
    )
    constant = None if place.class_line is None else _constant_of_line(code)
    if constant is None:
        return code
    return code.replace(co_consts=_with(code.co_consts, constant, place.class_line))


def _constant_of_line(code: types.CodeType) -> int | None:
    """Return which constant of a class body is the line of the class, as from Python 3.13 on."""
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
    r"""Return the same code as if it stood nowhere, to be compared.

    Example:
        >>> one, other = eval("lambda: 1").__code__, eval("\n\nlambda: 1").__code__
        >>> one == other, placeless(one) == placeless(other)
        (False, True)
    """
    values, _ = taken_apart(code)
    made = put_together(values, Place(_NOWHERE, 1, b""))
    constants = (placeless(one) if isinstance(one, types.CodeType) else one for one in made.co_consts)
    return made.replace(co_consts=tuple(constants))


def make_code(number: int | None, values: Sequence[Any]) -> types.CodeType:
    """Return a code object of a pickle.

    Args:
        number: Which of the pickle's places is its own; None for none.
        values: Values of `CODE`.
    """
    if number is not None:
        with suppress(Exception):  # what is beside a pickle may be damaged without harm
            code = put_together(values, Place.of(current.places[number]))
            deque(code.co_lines(), maxlen=0)
            return code
    return put_together(values, _nowhere(values))


def _nowhere(values: Sequence[Any]) -> Place:
    """Return a place for code whose own is not known: all of it on the first line."""
    size = len(values[CODE.index("co_code")])
    if sys.version_info < (3, 11):
        return Place(_NOWHERE, 1, bytes((254, 0)) * (size // 254 + 1))
    # entries of the location table: a first byte with the form, here without columns, and up to eight instructions
    whole, rest = divmod(size // 2, 8)
    entry = 0x80 | 13 << 3
    return Place(_NOWHERE, 1, bytes((entry | 7, 0)) * whole + (bytes((entry | rest - 1, 0)) if rest else b""))


def placed(core: bytes, modules: str, beside: str) -> Any:  # noqa: ARG001 - what it says is for comparisons
    """Load a pickle whose places travel beside it.

    Args:
        core: The pickle.
        modules: JSON of digests of modules that it imports.
        beside: JSON: ``places`` by number, and ``submodules`` to be imported first.
    """
    import json  # for stored functions alone: every worker imports this module

    about = json.loads(beside)  # noqa: TID251 - a part of a pickle, and trusted as that is
    for name in about["submodules"]:
        import_module(name)
    before, current.places = current.places, about["places"]
    try:
        return pickle.loads(core)  # noqa: TID251 - likewise
    finally:
        current.places = before


def shown(file: str) -> str:
    """Return a file's name as it is on the search path, the same in every folder that has the program.

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
    """Return where the file of a function lies that came by value: beside the code that came with it.

    Args:
        path: Its path in the archive.

    Example:
        >>> own_file("shop.py")
        'shop.py'
    """
    folder = own_folder()
    return os.path.normpath(os.path.join(folder, *path.split("/")))  # noqa: PTH118 - likewise


def make_way(folder: str) -> None:
    """Forget modules of other code that have the names of modules in a folder, which are imported from there now.

    A program's own ``locale.py`` comes before that of Python, which this process has loaded before the program's code came.

    Args:
        folder: Where code of a program's own was unpacked.
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
    """Return the first folder of unpacked code on the search path; an empty text if there is none."""
    return next((entry for entry in sys.path if os.path.basename(entry).startswith(UNPACKED)), "")  # noqa: PTH119 - a text


def own_path(path: str) -> Path:
    """Return where a path lies that a program had beside its file, as `own_file` does.

    Args:
        path: Its path in the archive; ``.`` for the folder.

    Example:
        >>> own_path("labels.json").name
        'labels.json'
    """
    from pathlib import Path  # every worker imports this module

    return Path(own_file(path))
