"""cloudpickle that remembers where code came from, so that a remote traceback names files and lines.

cloudpickle replaces every file name by ``<dynamic-code>``, for payloads that do not depend on it. A worker that shows
the line that failed is worth more to us.
"""

from __future__ import annotations

import marshal
from collections import ChainMap
from types import CodeType
from typing import TYPE_CHECKING, Any, ClassVar

import cloudpickle

from runwide import pickling

if TYPE_CHECKING:
    import pickle
    from collections.abc import Callable, MutableMapping

_MARSHAL = 2  # the last version whose output does not depend on reference counts


def load_code(data: bytes) -> CodeType:
    """The code object that was dumped; it must be this minor version of Python, as for all bytecode."""
    code: CodeType = marshal.loads(data)  # noqa: S302 - part of a pickle, and trusted as that is
    return code


def _reduce_code(code: CodeType) -> Any:
    try:
        return load_code, (marshal.dumps(code, _MARSHAL),)
    except ValueError:  # a tool has put something into its constants
        return cloudpickle.Pickler.dispatch_table[CodeType](code)


class _Pickler(pickling.Pickler):
    dispatch_table: ClassVar[MutableMapping[type, Any]] = ChainMap(
        {CodeType: _reduce_code}, pickling.Pickler.dispatch_table
    )


def dumps(value: object, *, buffer_callback: Callable[[pickle.PickleBuffer], bool] | None = None) -> bytes:
    """As `runwide.pickling.dumps`, with the file names of code.

    Example:
        >>> import pickle
        >>> pickle.loads(dumps(lambda x: x + 1))(1)
        2
    """
    return pickling.dumps(value, pickler=_Pickler, buffer_callback=buffer_callback)
