"""Warn of values that look like secrets in a pipeline that is being compiled."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from runwide.log import Log
from runwide.redaction import redacted_fields
from runwide_components.channels import is_channel

_log = Log("components")
_LEVELS = 50  # of nested values in which secrets are looked for


def warn_of_secrets(what: str, values: Mapping[str, Any]) -> None:
    """Log which values of a pipeline look like secrets: everyone who can see the pipeline can read them."""
    for name, value in values.items():
        plain = {name: _shown(value)}
        if redacted_fields(plain) != plain:
            _log.warning(
                "secret.compiled",
                **{what: name},
                cause="it looks like a secret, and is in the compiled pipeline in clear text",
                hint="give a secret of Secret Manager in secrets=, such as projects/P/secrets/S/versions/V: the steps "
                "read it, and the function gets it as a variable",
            )


def _shown(value: Any, inside: tuple[int, ...] = ()) -> Any:
    """Return the texts in a value, which may be secrets; parameters have no value yet."""
    if is_channel(value) or id(value) in inside or len(inside) > _LEVELS:
        return None
    around = (*inside, id(value))
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = {field.name: getattr(value, field.name, None) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(name): _shown(one, around) for name, one in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_shown(one, around) for one in value]
    return (
        value if value is None or isinstance(value, (str, bool, int, float)) else f"a {type(value).__name__}"
    )
