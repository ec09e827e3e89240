"""A store in one SQLite file, for tests, and as an example of a store that another package adds.

A store of a service needs no more than this: single operations, and the meaning of its library's exceptions. Retries,
rates, names and errors come from `runwide.store.remote.RemoteStore`. An entry point in the group ``runwide.stores`` adds
the scheme.
"""

from __future__ import annotations

import os
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runwide.errors import BadReference
from runwide.store.meaning import Meaning
from runwide.store.remote import Page, RemoteStore

if TYPE_CHECKING:
    from collections.abc import Sequence

    from runwide.store.remote import Wanted

_TABLE = (
    "CREATE TABLE IF NOT EXISTS objects (key TEXT PRIMARY KEY, data BLOB NOT NULL, written REAL NOT NULL)"
)
_PAGE = 1000  # objects in a page of a listing
_SECONDS = 5.0  # that a request waits for other processes that write
_MEANINGS = {
    "locked": Meaning.TRANSIENT,  # another process writes
    "readonly": Meaning.DENIED,
    "unable to open": Meaning.DENIED,
    "no such table": Meaning.ABSENT,
}


class _NoRow(LookupError):
    """There is no row with that key."""


class SqliteStore(RemoteStore):
    """A SQLite file, or a prefix in it. The file is made with its first object.

    Args:
        path: Absolute path of a file that ends in ``.db``, and a prefix after it.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     store = SqliteStore(f"{folder}/objects.db/jobs")
        ...     store.create("greeting", b"hello")
        ...     bytes(store.read("greeting", start=1, length=3))
        b'ell'
    """

    access_hint = "make the file and its directory writable for this process"

    def __init__(self, path: str) -> None:
        file, found, prefix = f"{path}/".partition(".db/")
        if not found or not file.startswith("/"):
            raise BadReference(
                "this is not the path of a SQLite file",
                uri=f"sqlite://{path}",
                hint="give sqlite:///directory/NAME.db, and a prefix after it",
            )
        self._file = Path(f"{file}.db")
        super().__init__(f"sqlite://{self._file}", prefix.strip("/"))

    def meaning(self, error: Exception) -> Meaning | None:  # noqa: D102 - see Errors
        if isinstance(error, _NoRow):
            return Meaning.ABSENT
        if isinstance(error, sqlite3.IntegrityError):
            return Meaning.EXISTS
        if isinstance(error, (sqlite3.Error, OSError)):
            found = (meaning for text, meaning in _MEANINGS.items() if text in str(error))
            return next(found, Meaning.OTHER)
        return None

    def put(self, key: str, parts: Sequence[memoryview]) -> None:  # noqa: D102 - see RemoteStore
        self._file.parent.mkdir(parents=True, exist_ok=True)
        with closing(self._opened()) as database:
            database.execute(_TABLE)
            database.execute("INSERT INTO objects VALUES (?, ?, ?)", (key, b"".join(parts), time.time()))

    def get(self, key: str, wanted: Wanted) -> bytes:  # noqa: D102 - see RemoteStore
        for (size,) in self._rows("SELECT length(data) FROM objects WHERE key = ?", key):
            length = wanted.stop(size) - wanted.start
            query = "SELECT substr(data, ?, ?) FROM objects WHERE key = ?"
            for (data,) in self._rows(query, wanted.start + 1, length, key):
                return bytes(data or b"")  # SQLite has NULL for a part without bytes
        raise _NoRow(key)

    def page(self, prefix: str, start: str, token: str | None) -> Page:  # noqa: D102 - see RemoteStore
        rows = self._rows(
            "SELECT key, length(data), written FROM objects"
            " WHERE substr(key, 1, length(?1)) = ?1 AND key >= ?2 AND key > ?3 ORDER BY key LIMIT ?4",
            prefix, start, token or "", _PAGE,
        )  # fmt: skip
        return Page(rows, [], rows[-1][0] if len(rows) == _PAGE else None)

    def remove(self, key: str) -> None:  # noqa: D102 - see RemoteStore
        self._rows("DELETE FROM objects WHERE key = ?", key)

    def _rows(self, query: str, *values: Any) -> list[Any]:
        if not self._file.exists():  # SQLite would make it
            return []
        with closing(self._opened()) as database:
            return database.execute(query, values).fetchall()

    def _opened(self) -> sqlite3.Connection:
        return sqlite3.connect(os.fspath(self._file), timeout=_SECONDS, isolation_level=None)
