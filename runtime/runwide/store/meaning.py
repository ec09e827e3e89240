"""The meaning of the exceptions that requests to a service raise."""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import contextmanager
from enum import Enum
from typing import TYPE_CHECKING, ClassVar, TypeVar

from runwide.errors import (
    IntegrityError,
    ObjectExists,
    ObjectNotFound,
    StoreError,
    StoreNotFound,
    StoreNotReadable,
    StoreNotWritable,
    StoreUnavailable,
)
from runwide.log import Log
from runwide.redaction import shortened
from runwide.store.base import DAMAGES
from runwide.store.google_auth import exceptions, module

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

T = TypeVar("T")

log = Log("spill")

_LONGEST = 300  # characters of another library's message


class Meaning(Enum):
    """The kinds of exceptions that requests to a service raise."""

    ABSENT = "there is no such object, or no such store"
    EXISTS = "an object of that name is there already"
    DENIED = "this process may not do that"
    TRANSIENT = "the same request may succeed a little later"
    SLOW_DOWN = "the service asks for fewer requests a second"
    OTHER = "any other failure of the service"


class Damaged(Exception):
    """An answer whose bytes are not those that the service has."""


class Broken(Exception):
    """An answer that ended too early, with its connection."""


class Errors(ABC):
    """The exceptions of one service's library, and the errors of runwide that they become."""

    access_hint: ClassVar[str] = "give this process access to the store"

    @abstractmethod
    def meaning(self, error: Exception) -> Meaning | None:
        """Return the meaning of an exception; None for one that does not come from the service or its library."""

    def is_transient(self, error: Exception) -> bool:
        """Return whether the same request may succeed a little later."""
        broken = isinstance(error, (Broken, Damaged, ConnectionError, TimeoutError))
        return broken or self.meaning(error) in {Meaning.TRANSIENT, Meaning.SLOW_DOWN}

    def explained(self, error: Exception, uri: str, *, writing: bool) -> StoreError | None:  # noqa: ARG002
        """Return a more precise error for this exception, or None to use the default."""
        return None

    def line(self, error: object) -> str:
        """Return the text of an exception in one line of limited length."""
        return shortened(" ".join(str(error).split()), _LONGEST)

    @contextmanager
    def mapped(self, uri: str, *, writing: bool) -> Iterator[None]:
        """Turn the exceptions of the service's library into errors of runwide that name the object.

        Args:
            writing: Whether a refusal is one to write.
        """
        try:
            yield
        except (StoreError, IntegrityError):
            raise
        except Exception as error:
            ours = self.explained(error, uri, writing=writing) or self._ours(error, uri, writing=writing)
            if ours is None:
                raise
            raise ours from error

    def _ours(self, error: Exception, uri: str, *, writing: bool) -> StoreError | None:
        meaning = self.meaning(error)
        last = getattr(error, "cause", None) or error
        if self.is_transient(error) or isinstance(error, exceptions().RetryError):
            return StoreUnavailable(
                f"no good answer within the retry deadline; the last one: {self.line(last)}",
                uri=uri,
                hint="check network and endpoint, then run it again: it continues from the objects that are stored",
            )
        if meaning is Meaning.ABSENT and writing:
            return StoreNotFound("there is no such store", uri=uri, hint="create it first")
        if meaning is Meaning.ABSENT:
            return ObjectNotFound("there is no such object", uri=uri)
        if meaning is Meaning.EXISTS:
            return ObjectExists("other bytes are there already", uri=uri)
        if meaning is Meaning.DENIED:
            return self.refused(error, uri, writing=writing)
        return None if meaning is None else StoreError(self.line(error), uri=uri)

    def refused(self, error: Exception, uri: str, *, writing: bool) -> StoreError:
        """Return the error of a process that has no access."""
        kind, verb = (StoreNotWritable, "write") if writing else (StoreNotReadable, "read")
        return kind(f"this process may not {verb} there: {self.line(error)}", uri=uri, hint=self.access_hint)

    def retried(self, call: Callable[[], T], *, uri: str, deadline: float) -> T:
        """Repeat a call while it fails with transient errors; Google's ``RetryError`` ends it after ``deadline`` seconds."""
        retry = module("google.api_core.retry").Retry(
            predicate=self.is_transient,
            initial=0.25,
            maximum=30.0,
            multiplier=2.0,
            timeout=deadline,
            on_error=lambda error: log.warning("request.retried", uri=uri, cause=self.line(error)),
        )
        answer: T = retry(call)()
        return answer


def damage_counted(call: Callable[[], T], uri: str) -> Callable[[], T]:
    """Return the call, which raises `IntegrityError` once its answers were damaged too often."""
    damages = 0

    def counted() -> T:
        nonlocal damages
        try:
            return call()
        except Damaged as error:
            damages += 1
            if damages < DAMAGES:
                raise
            raise IntegrityError(
                f"it was damaged on the way {damages} times: {error}",
                uri=uri,
                hint="look for a proxy or another program between here and the store that changes the bytes",
            ) from error

    return counted
