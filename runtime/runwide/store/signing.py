"""Signatures of objects with a key that is not in the bucket."""

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

_logged: set[str] = set()


def key() -> bytes | None:
    """Return the user's key: ``RUNWIDE_SIGNING_KEY``, or the content of ``RUNWIDE_SIGNING_KEY_FILE`` or ``…_SECRET``.

    None if none is set: then objects of a store are trusted as far as the store is, or not at all.
    """
    found = settings.read()
    return _key(found.signing_key, found.signing_key_file, found.signing_key_secret)


def new_key() -> str:
    """Return a new key, as text for a variable or a file.

    Example:
        >>> len(new_key())
        64
    """
    return secrets.token_hex(_BYTES)


def new_run_key() -> str | None:
    """Return a key for one run of a pipeline; None if the user has a key, which is better.

    It is a parameter of the run, so everyone who may view runs can read it.
    """
    return None if key() is not None else new_key()


def of_run(text: str | None) -> bytes | None:
    """Return the key that one run of a pipeline has made for itself, from its parameter; None without one."""
    return _key(text, None, None) if text else None


def sign(digest: str, kind: str, *, run_key: bytes | None = None) -> bytes:
    """Return the HMAC-SHA-256 of a digest under the key; zeros if there is no key.

    Args:
        kind: The kind of object that has the digest, so that one kind cannot replace another.
        run_key: The key to use if the user has none.
    """
    secret = key() or run_key
    if secret is None:
        return UNSIGNED
    return hmac.digest(secret, f"runwide {kind}\0{digest}".encode(), hashlib.sha256)


def check(
    found: bytes, digest: str, kind: str, *, uri: str | None = None, run_key: bytes | None = None
) -> bool:
    """Check a signature with the key; return False if there is no key to check with."""
    if key() is None and run_key is None:
        return False
    if not hmac.compare_digest(found, sign(digest, kind, run_key=run_key)):
        raise DigestMismatch(
            f"the {kind} is {'not signed' if found == UNSIGNED else 'signed with another key'}",
            uri=uri,
            hint="it was written without the signing key; none of it was unpickled",
        )
    return True


def believe(what: str, uri: str) -> None:
    """Warn once in this process, for each kind of object, that without a key it is trusted as far as the store is."""
    if uri.startswith("memory://"):  # no other program can write there
        return
    if key() is None and what not in _logged:
        _logged.add(what)
        log.warning(
            "store.believed",
            what=what,
            uri=uri,
            cause="no signing key is set: anyone who can write there can change it, and run code where results are read",
            hint=HINT,
        )


@lru_cache(maxsize=8)
def _key(text: str | None, file: str | None, secret: str | None) -> bytes | None:
    if text is not None:
        found = text.encode()
    elif file is not None:
        found = _of_file(Path(file))
    elif secret is not None:
        from runwide.store.google import secret_value

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
