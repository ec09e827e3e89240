"""A key that the bucket does not have, for what nobody who may be believed has named."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from functools import lru_cache
from pathlib import Path

from runwide import settings
from runwide.errors import DigestMismatch, InputError
from runwide.log import Log
from runwide.redaction import hide

log = Log("spill")

UNSIGNED = bytes(32)
_BYTES = 32  # of a new key
_SHORTEST = 16  # bytes; a shorter key can be guessed
HINT = "runwide keygen makes one (SECURITY.md)"

_said: set[str] = set()


def key() -> bytes | None:
    """The user's signing key: ``RUNWIDE_SIGNING_KEY``, ``RUNWIDE_SIGNING_KEY_FILE`` or ``RUNWIDE_SIGNING_KEY_SECRET``.

    Returns:
        None where none is set: then what is found in a store is believed as far as the store is, or not at all.

    Raises:
        InputError: The key is too short, or its file cannot be read.
    """
    found = settings.read()
    return _key(found.signing_key, found.signing_key_file, found.signing_key_secret)


def new_key() -> str:
    """A new key, as text that may stand in a variable or a file.

    Example:
        >>> len(new_key())
        64
    """
    return secrets.token_hex(_BYTES)


def new_run_key() -> str | None:
    """A key for one run of a pipeline; None where the user has one, which is better.

    It is a parameter of the run, so who may view runs can read it.
    """
    return None if key() is not None else new_key()


def of_run(text: str | None) -> bytes | None:
    """A key that one run of a pipeline has made for itself, from what its parameter says.

    Args:
        text: The parameter; None or empty where there is none.

    Raises:
        InputError: It is too short.
    """
    return _key(text, None, None) if text else None


def sign(digest: str, kind: str, *, run_key: bytes | None = None) -> bytes:
    """HMAC-SHA-256 of a digest under the key; zeros where there is none.

    Args:
        digest: What is vouched for, in hex.
        kind: What it is the digest of, so that one kind of object cannot stand in for another.
        run_key: What to sign with where the user has no key.
    """
    secret = key() or run_key
    if secret is None:
        return UNSIGNED
    return hmac.digest(secret, f"runwide {kind}\0{digest}".encode(), hashlib.sha256)


def check(
    found: bytes, digest: str, kind: str, *, uri: str | None = None, run_key: bytes | None = None
) -> bool:
    """Hold a signature against the key.

    Returns:
        Whether it is one: not where there is no key to hold it against.

    Raises:
        DigestMismatch: Somebody without the key wrote this.
    """
    if key() is None and run_key is None:
        return False
    if not hmac.compare_digest(found, sign(digest, kind, run_key=run_key)):
        raise DigestMismatch(
            f"the {kind} is {'not signed' if found == UNSIGNED else 'signed with another key'}",
            uri=uri,
            hint="it was written without the signing key; nothing of it was unpickled",
        )
    return True


def believe(what: str, uri: str) -> None:
    """Say once in this process, for each kind of thing, that without a key it is believed as far as the store is.

    Args:
        what: What is believed.
        uri: Where it lies.
    """
    if uri.startswith("memory://"):  # which nobody else can write
        return
    if key() is None and what not in _said:
        _said.add(what)
        log.warning(
            "store.believed",
            what=what,
            uri=uri,
            cause="no signing key is set: who may write there can change it, and run code where results are read",
            hint=HINT,
        )


@lru_cache(maxsize=8)
def _key(text: str | None, file: str | None, secret: str | None) -> bytes | None:
    if text is not None:
        found = text.encode()
    elif file is not None:
        found = _of_file(Path(file))
    elif secret is not None:
        from runwide.spill.google import secret_value

        found = secret_value(secret)
    else:
        return None
    if len(found.strip()) < _SHORTEST:
        raise InputError(
            f"the signing key has {len(found.strip())} bytes, at least {_SHORTEST} are needed",
            hint="make one with: runwide keygen, or openssl rand -hex 32",
        )
    hide(found.decode(errors="replace"))
    return found.strip()


def _of_file(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"the signing key cannot be read ({error.strerror})", uri=str(path)) from error
