"""A key that the bucket does not have, for what no manifest names yet."""

from __future__ import annotations

import hashlib
import hmac
from functools import lru_cache
from pathlib import Path

from runwide import settings
from runwide.errors import DigestMismatch, InputError
from runwide.redaction import hide

UNSIGNED = bytes(32)
_SHORTEST = 16  # bytes; a shorter key can be guessed


def key() -> bytes | None:
    """The signing key: ``RUNWIDE_SIGNING_KEY``, ``RUNWIDE_SIGNING_KEY_FILE`` or ``RUNWIDE_SIGNING_KEY_SECRET``.

    Returns:
        None where none is set: then what is found in a store is believed as far as the store is.

    Raises:
        InputError: The key is too short, or its file cannot be read.
    """
    found = settings.read()
    return _key(found.signing_key, found.signing_key_file, found.signing_key_secret)


def sign(digest: str, kind: str) -> bytes:
    """HMAC-SHA-256 of a digest under the key; zeros where there is none.

    Args:
        digest: What is vouched for, in hex.
        kind: What it is the digest of, so that one kind of object cannot stand in for another.
    """
    secret = key()
    if secret is None:
        return UNSIGNED
    return hmac.digest(secret, f"runwide {kind}\0{digest}".encode(), hashlib.sha256)


def check(found: bytes, digest: str, kind: str, *, uri: str | None = None) -> None:
    """Hold a signature against the key, where there is one.

    Raises:
        DigestMismatch: Somebody without the key wrote this.
    """
    if key() is not None and not hmac.compare_digest(found, sign(digest, kind)):
        raise DigestMismatch(
            f"the {kind} is {'not signed' if found == UNSIGNED else 'signed with another key'}",
            uri=uri,
            hint="it was written without the signing key; nothing of it was unpickled",
        )


@lru_cache(maxsize=4)
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
            hint="make one with: openssl rand -hex 32",
        )
    hide(found.decode(errors="replace"))
    return found.strip()


def _of_file(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"the signing key cannot be read ({error.strerror})", uri=str(path)) from error
