"""Recognize files that look like keys. They are only sent if asked for: all who can see the pipeline can read them."""

from __future__ import annotations

import re

_SECRET = re.compile(
    r"""
    ^\.                                                              # hidden, such as .env
    | \.(pem|key|p12|pfx|jks|keystore|kdbx|env)(\.(bak|old|orig|local))?$
    | ^id_(rsa|dsa|ecdsa|ed25519)(\.(?!pub$).*)?$
    | ^token\.json$
    | (credential|client[-_]?secret|service[-_]?account).*\.(json|ya?ml)$
    | ^(secret|password)s?([-_.].*)?\.(json|ya?ml|toml|ini|cfg|txt)$
    """,
    re.IGNORECASE | re.VERBOSE,
)


def is_secret(name: str) -> bool:
    """Return whether a file is hidden, or has a name that files with keys have.

    Args:
        name: Its name, without folders.

    Example:
        >>> is_secret("client_secret_123.json"), is_secret("special_tokens_map.json")
        (True, False)
    """
    return _SECRET.search(name) is not None
