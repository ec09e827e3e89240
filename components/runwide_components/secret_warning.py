"""A warning of what looks like a secret in a pipeline that is compiled now."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from runwide.log import Log
from runwide.redaction import redacted_fields
from runwide_components.channels import is_channel

_log = Log("components")
_LEVELS = 50  # of values in values, as far as secrets are looked for


def warn_of_secrets(what: str, values: Mapping[str, Any]) -> None:
    """Say which values of a pipeline look like secrets: all who may see the pipeline can read them.

    Args:
        what: What the values are.
        values: The values by name.
    """
    for name, value in values.items():
        plain = {name: _shown(value)}
        if redacted_fields(plain) != plain:
            _log.warning(
                "secret.compiled",
                **{what: name},
                cause="it looks like a secret, and stands in the compiled pipeline in clear",
                hint="name it in secrets=, as Secret Manager does (projects/P/secrets/S/versions/V): the steps read it, "
                "and the function has it as a variable of its environment",
            )


def _shown(value: Any, inside: tuple[int, ...] = ()) -> Any:
    """A value as far as it may hold a secret: texts, and what holds them; a parameter has none yet."""
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
