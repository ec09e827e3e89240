"""`Exchange`: named values that runs of pipelines share, each written once."""

from __future__ import annotations

import re
import time
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from runwide.errors import (
    ExchangeTimeout,
    FormatTooNew,
    FrameCorrupt,
    InputError,
    IntegrityError,
    ItemNotPicklable,
    ObjectNotFound,
    StoreNotFound,
    StoreNotReadable,
)
from runwide.log import Log
from runwide.naming import kind_of
from runwide.pickling.unpicklable import refusal
from runwide.store import signing
from runwide.store.base import open_store
from runwide.store.codec import decode, decode_verified, encode
from runwide.store.plain import NotPlain
from runwide.store.records import arrived_damaged, checked_read

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from runwide.store.codec import Encoded

log = Log("exchange")

# magic, SHA-256 of the frame, HMAC of that; then the frame
_MAGIC = b"\x89RWX\r\n\x1a\n"
_HEAD = len(_MAGIC) + 32 + 32
_NAME = re.compile(r"[^/*?\[\]\s]+(/[^/*?\[\]\s]+)*")
_FIRST_PAUSE = 0.1
_LONGEST_PAUSE = 5.0
_BARRIERS = "barriers"


class Exchange:
    """A place in a store where runs of pipelines share values.

    A value is written once under its name, and stays. It is read only if its bytes have the SHA-256 that is stored before
    them, and only under the name and in the exchange for which it was written. Anyone who can write to the store could
    replace both. So without a signing key in all runs (``RUNWIDE_SIGNING_KEY`` and similar, see SECURITY.md), only plain
    data can be exchanged, which is loaded without running code: numbers, text, bytes, lists, tuples, sets, dicts, dates,
    decimals and numpy arrays. With a key, any value that can be pickled can be exchanged, and only signed values are
    unpickled.

    While it waits, `get` asks for its name again, with pauses that grow to 5 seconds; only `collect` lists names.

    Args:
        uri: The exchange: ``gs://bucket/prefix`` or a folder, with the same spelling in all runs. A copy of an exchange, or
            of a value, at another URI cannot be read.

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

    def __repr__(self) -> str:
        return f"Exchange({self.uri!r})"

    def publish(self, name: str, value: Any) -> None:
        """Write a value once. Writing an equal value again, as a restarted step does, is no error.

        Args:
            name: Its name, such as ``"fr/stats"``.
            value: Plain data; with a signing key, any value that can be pickled.

        Raises:
            ObjectExists: Another value has that name.
            ItemNotPicklable: The value cannot be pickled, or there is no key and it is not plain data.
            InputError: The name is invalid.
        """
        _checked(name)
        try:
            frame = encode(value, context=self._context(name))
        except Exception as error:
            raise ItemNotPicklable(
                refusal(kind_of(value), error, value),
                uri=self._store.child_uri(name),
                hint="publish plain data, arrays or importable types",
            ) from error
        if signing.key() is None:
            self._check_plain(frame, name, value)
        head = _MAGIC + bytes.fromhex(frame.digest) + signing.sign(frame.digest, "exchange")
        self._store.create(name, [head, *frame.parts])
        log.info("value.published", name=name, bytes=frame.size, uri=self.uri)

    def get(self, name: str, *, wait: float = 0.0) -> Any:
        """Return the value of a name.

        Args:
            name: Its name.
            wait: Seconds to wait for it to be published.

        Raises:
            ExchangeTimeout: It was not published in time.
            DigestMismatch: Its bytes were changed, or are not signed; they were not unpickled.
            FrameCorrupt: It is the value of another name or exchange, or there is no key and it is not plain data; it was
                not unpickled.
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
        """Return all values whose names match a pattern, by name, in the order of the names.

        Values that `get` would reject are left out, with a log line for each.

        Args:
            pattern: A pattern as in a shell: ``"*/stats"``. A ``*`` also matches slashes.
            count: The least number of values; None for the number that there are now.
            wait: Seconds to wait for this number.

        Raises:
            ExchangeTimeout: There were not enough values in time.
        """
        deadline = time.monotonic() + wait
        found: dict[str, Any] = {}
        refused: set[str] = set()
        for pause in _pauses(deadline):
            for name in self._names(pattern):
                if name not in found and name not in refused:
                    self._collect(name, found, refused)
            if len(found) >= (count or 0):
                return dict(sorted(found.items()))
            time.sleep(pause)
        raise ExchangeTimeout(
            f"{len(found)} of {count} values that match {pattern!r} were published within {wait:g} s",
            uri=self.uri,
            hint=f"there are {', '.join(sorted(found)[:10]) or 'none'}; see why the others are late, or increase wait=",
        )

    def _collect(self, name: str, found: dict[str, Any], refused: set[str]) -> None:
        try:
            found[name] = self._read(name)
        except ObjectNotFound:  # it was deleted after the listing
            return
        except (IntegrityError, FormatTooNew, StoreNotReadable) as error:
            if arrived_damaged(error):
                raise
            refused.add(name)
            log.warning("value.ignored", uri=self._store.child_uri(name), cause=str(error))

    def barrier(self, name: str, me: str, members: Sequence[str], *, wait: float) -> None:
        """Wait until all members have reached this barrier.

        Args:
            name: Name of the barrier; a second barrier needs another name.
            me: Name of this member.
            members: Names of all members, with this one.
            wait: Seconds to wait for the others.

        Raises:
            ExchangeTimeout: Some members did not arrive in time; the message names them.
            InputError: This member is not among the members.

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
        return f"exchange/{self.uri}/{name}"

    def _check_plain(self, frame: Encoded, name: str, value: Any) -> None:
        """Reject a value that a reader without a key would reject."""
        try:
            decode_verified(memoryview(b"".join(frame.parts)), context=self._context(name), plain=True)
        except NotPlain as error:
            raise ItemNotPicklable(
                f"{kind_of(value)} is not plain data, and there is no signing key ({error})",
                uri=self._store.child_uri(name),
                hint=f"publish numbers, text, lists, dicts, dates or numpy arrays; or {signing.HINT}",
            ) from error

    def _names(self, pattern: str) -> list[str]:
        prefix = re.split(r"[*?\[]", pattern, maxsplit=1)[0]
        try:
            names = [info.name for info in self._store.list(prefix)]
        except StoreNotFound:  # no value was published yet
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
                raise FrameCorrupt("this is not a value of an exchange", uri=uri)
            digest = data[len(_MAGIC) : len(_MAGIC) + 32].hex()
            signed = signing.check(bytes(data[_HEAD - 32 : _HEAD]), digest, "exchange", uri=uri)
            about: dict[str, Any] = {"digest": digest, "context": self._context(name), "uri": uri}
            if signed:
                return decode(memoryview(data)[_HEAD:], **about)
            try:
                return decode(memoryview(data)[_HEAD:], plain=True, **about)
            except (IntegrityError, FormatTooNew):
                raise
            except Exception as error:
                raise FrameCorrupt(
                    f"this value is not plain data, and there is no key to verify its writer ({error})",
                    uri=uri,
                    hint=f"it was not unpickled; {signing.HINT}, in all runs",
                ) from error

        return checked_read(self._store, name, check)

    def _late(self, names: Sequence[str], wait: float) -> ExchangeTimeout:
        listed = ", ".join(names[:10]) + (", …" if len(names) > 10 else "")  # noqa: PLR2004 - a line's worth
        return ExchangeTimeout(
            f"{listed} {'was' if len(names) == 1 else 'were'} not published within {wait:g} s",
            uri=self.uri,
            hint="see whether the run that publishes it has failed, or increase wait=",
        )


def _pauses(deadline: float) -> Iterator[float]:
    """Yield the seconds to wait after each look, which grow and end at the deadline; there is at least one look."""
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
            f"invalid name {name!r} of a value",
            hint='give a name such as "fr/stats", without spaces and *?[]',
        )
