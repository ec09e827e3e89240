"""`Exchange`: named values that runs of pipelines share, each written once."""

from __future__ import annotations

import re
import time
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from runwide.errors import (
    ExchangeTimeout,
    FrameCorrupt,
    InputError,
    ItemNotPicklable,
    ObjectNotFound,
    StoreNotFound,
)
from runwide.job.verified import checked_read
from runwide.log import Log
from runwide.spill import signing
from runwide.spill.codec import decode, encode
from runwide.spill.store import open_store
from runwide.unpicklable import refusal

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

log = Log("exchange")

# magic, SHA-256 of the frame, HMAC of that; then the frame
_MAGIC = b"\x89RWX\r\n\x1a\n"
_HEAD = len(_MAGIC) + 32 + 32
_NAME = re.compile(r"[^/*?\[\]\s]+(/[^/*?\[\]\s]+)*")
_FIRST_PAUSE = 0.1
_LONGEST_PAUSE = 5.0
_BARRIERS = "barriers"


class Exchange:
    """A place where runs of pipelines leave values for each other.

    A value is written once under its name, and stays. It is read back only if its bytes are those that were written, by
    the SHA-256 that stands before them, and under the name and in the exchange for which they were written. Whoever can
    write to the store could replace both; set ``RUNWIDE_SIGNING_KEY`` in all runs where that matters, then what is not
    signed is not unpickled.

    Waiting asks for one name again and again, each time a little later, up to 5 seconds; nothing but `collect` lists.

    Args:
        uri: Where it is: ``gs://bucket/prefix`` or a folder. What makes its name is the last part of it: copies of
            an exchange under another name are not believed.

    Example:
        >>> france = Exchange("memory://doc/batch-7")
        >>> france.publish("fr/stats", {"mean": 3})
        >>> germany = Exchange("memory://doc/batch-7")
        >>> germany.get("fr/stats", wait=600)
        {'mean': 3}
    """

    def __init__(self, uri: str) -> None:
        self._store = open_store(uri)
        self.uri = self._store.uri
        self._name = self.uri.rpartition("/")[2]

    def __repr__(self) -> str:
        return f"Exchange({self.uri!r})"

    def publish(self, name: str, value: Any) -> None:
        """Write a value, once. Writing an equal one again, as a step that is restarted does, is fine.

        Args:
            name: Its name, such as ``"fr/stats"``.
            value: Anything that can be pickled.

        Raises:
            ObjectExists: Another value has that name.
            ItemNotPicklable: The value cannot be pickled.
            InputError: This is no name.
        """
        _checked(name)
        try:
            frame = encode(value, context=self._context(name))
        except Exception as error:
            raise ItemNotPicklable(
                refusal(f"a {type(value).__name__}", error, value),
                uri=self._store.child_uri(name),
                hint="publish plain data, arrays or importable types",
            ) from error
        head = _MAGIC + bytes.fromhex(frame.digest) + signing.sign(frame.digest, "exchange")
        self._store.create(name, [head, *frame.parts])
        log.info("value.published", name=name, bytes=frame.size, uri=self.uri)

    def get(self, name: str, *, wait: float = 0.0) -> Any:
        """The value of that name.

        Args:
            name: Its name.
            wait: Seconds to wait for it to be published.

        Raises:
            ExchangeTimeout: It was not published in time.
            DigestMismatch: Its bytes were changed, or are not signed; they were not unpickled.
            FrameCorrupt: It is the value of another name or exchange; it was not unpickled.
        """
        _checked(name)
        deadline = time.monotonic() + wait
        for pause in _pauses(deadline):
            try:
                return self._read(name)
            except (ObjectNotFound, StoreNotFound):
                time.sleep(pause)
        raise self._late([name], wait)

    def collect(self, pattern: str, *, count: int | None = None, wait: float = 0.0) -> dict[str, Any]:
        """All values whose names match a pattern, by name, in the order of the names.

        Args:
            pattern: As a shell has it: ``"*/stats"``. A ``*`` reaches over slashes.
            count: How many there must be at least; None for as many as there are now.
            wait: Seconds to wait for so many.

        Raises:
            ExchangeTimeout: There were too few in time.
            DigestMismatch: As for `get`.
        """
        deadline = time.monotonic() + wait
        names: list[str] = []
        for pause in _pauses(deadline):
            names = self._names(pattern)
            if len(names) >= (count or 0):
                return {name: self._read(name) for name in names}
            time.sleep(pause)
        raise ExchangeTimeout(
            f"{len(names)} of {count} values that match {pattern!r} were published within {wait:g} s",
            uri=self.uri,
            hint=f"there are {', '.join(names[:10]) or 'none'}; see why the others are late, or give wait= more",
        )

    def barrier(self, name: str, me: str, members: Sequence[str], *, wait: float) -> None:
        """Come here, and go on when all members have come.

        Args:
            name: Name of the barrier; a second one needs another name.
            me: Who comes.
            members: All who are expected, this one included.
            wait: Seconds to wait for the others.

        Raises:
            ExchangeTimeout: Not all came in time; the message names them.
            InputError: This one is not expected.

        Example:
            >>> exchange = Exchange("memory://doc/barriers")
            >>> exchange.barrier("loaded", "fr", ["fr"], wait=60)
        """
        if me not in members:
            raise InputError(
                f"{me!r} is not among the members of the barrier {name!r}", hint="give all names in members="
            )
        self.publish(f"{_BARRIERS}/{name}/{me}", None)
        deadline = time.monotonic() + wait
        missing = [f"{_BARRIERS}/{name}/{one}" for one in members if one != me]
        while missing:
            try:
                self.get(missing[0], wait=max(0.0, deadline - time.monotonic()))
            except ExchangeTimeout:
                absent = [one for one in missing if not self._is_there(one)]
                if absent:
                    raise self._late(absent, wait) from None
                return
            missing.pop(0)

    def _context(self, name: str) -> str:
        return f"exchange/{self._name}/{name}"

    def _names(self, pattern: str) -> list[str]:
        prefix = re.split(r"[*?\[]", pattern, maxsplit=1)[0]
        try:
            names = [info.name for info in self._store.list(prefix)]
        except StoreNotFound:  # nobody has published anything
            return []
        ours = [
            name for name in names if not name.startswith(f"{_BARRIERS}/") or pattern.startswith(_BARRIERS)
        ]
        return [name for name in ours if fnmatchcase(name, pattern)]

    def _is_there(self, name: str) -> bool:
        try:
            self._read(name)
        except (ObjectNotFound, StoreNotFound):
            return False
        return True

    def _read(self, name: str) -> Any:
        uri = self._store.child_uri(name)

        def check(data: bytearray) -> Any:
            if len(data) < _HEAD or data[: len(_MAGIC)] != _MAGIC:
                raise FrameCorrupt("this is no value of an exchange", uri=uri)
            digest = data[len(_MAGIC) : len(_MAGIC) + 32].hex()
            signing.check(bytes(data[_HEAD - 32 : _HEAD]), digest, "exchange", uri=uri)
            return decode(memoryview(data)[_HEAD:], digest=digest, context=self._context(name), uri=uri)

        return checked_read(self._store, name, check)

    def _late(self, names: Sequence[str], wait: float) -> ExchangeTimeout:
        listed = ", ".join(names[:10]) + (", …" if len(names) > 10 else "")  # noqa: PLR2004 - a line's worth
        return ExchangeTimeout(
            f"{listed} {'was' if len(names) == 1 else 'were'} not published within {wait:g} s",
            uri=self.uri,
            hint="see whether the run that publishes it has failed, or give wait= more",
        )


def _pauses(deadline: float) -> Iterator[float]:
    """Seconds to the next look, ever longer, none of them beyond the deadline; one look is had in any case."""
    pause = _FIRST_PAUSE
    while True:
        left = deadline - time.monotonic()
        yield max(0.0, min(pause, left))
        if left <= 0:
            return
        pause = min(1.5 * pause, _LONGEST_PAUSE)


def _checked(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise InputError(
            f"{name!r} is no name in an exchange", hint='give one such as "fr/stats", without spaces and *?[]'
        )
