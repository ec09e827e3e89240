"""Read a cloudbuild.yaml as Cloud Build does: apply its rules for substitutions, and refuse what Cloud Build refuses."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

BUILT_IN = (
    *("PROJECT_ID", "PROJECT_NUMBER", "BUILD_ID", "LOCATION"),
    *("COMMIT_SHA", "SHORT_SHA", "REVISION_ID", "REPO_NAME", "REPO_FULL_NAME"),
    *("BRANCH_NAME", "TAG_NAME", "REF_NAME", "TRIGGER_NAME"),
)
STEP_KEYS = {"id", "name", "entrypoint", "args", "env", "dir"}
BUILD_KEYS = {"substitutions", "steps", "images", "timeout", "options"}
_VARIABLE = re.compile(r"\$(?:\$|\{(\w+)\}|([A-Z_][A-Z0-9_]*))")


class BuildError(Exception):
    """The build cannot be run, or one of its steps failed."""


@dataclass(frozen=True, slots=True)
class Step:
    """A step, after all substitutions."""

    id: str
    image: str
    entrypoint: str | None
    args: list[str]
    env: list[str]
    folder: str


@dataclass(frozen=True, slots=True)
class Plan:
    """A build, after all substitutions."""

    steps: list[Step]
    images: list[str]
    seconds: float
    substitutions: dict[str, str]


def plan(build: dict[str, Any], given: Mapping[str, str], built_in: Mapping[str, str]) -> Plan:
    """Read a build.

    Args:
        build: The content of cloudbuild.yaml.
        given: The substitutions of ``--substitutions``.
        built_in: The substitutions that Cloud Build sets itself; a missing one is empty.

    Raises:
        BuildError: A key is not supported here, or Cloud Build would refuse a substitution.

    Example:
        >>> build = {"substitutions": {"_A": "x"}, "steps": [{"name": "image:${_A}", "args": ["$$HOME"]}]}
        >>> plan(build, {"_A": "y"}, {}).steps[0].image
        'image:y'
    """
    if unknown := set(build) - BUILD_KEYS:
        raise BuildError(f"keys that are not supported here: {', '.join(sorted(unknown))}")
    values = _values(build, given, built_in)
    steps = [_step(number, step, values) for number, step in enumerate(build["steps"])]
    images = [substituted(image, values) for image in build.get("images", [])]
    return Plan(steps, images, float(str(build.get("timeout", "600s")).removesuffix("s")), values)


def _values(build: dict[str, Any], given: Mapping[str, str], built_in: Mapping[str, str]) -> dict[str, str]:
    declared = {name: str(value) for name, value in build.get("substitutions", {}).items()}
    if unknown := [name for name in given if name.startswith("_") and name not in declared]:
        raise BuildError(f"substitutions that the file does not name: {', '.join(sorted(unknown))}")
    used = set(_names(json.dumps(build)))
    if unused := set(declared) - used:
        raise BuildError(f"unused substitutions: {', '.join(sorted(unused))}")
    values = {**dict.fromkeys(BUILT_IN, ""), **built_in, **declared, **given}
    if missing := used - set(values):
        raise BuildError(f"substitutions without a value: {', '.join(sorted(missing))}")
    if build.get("options", {}).get("dynamicSubstitutions"):
        return _resolved(values)
    return values


def _names(text: str) -> Iterator[str]:
    return (name for match in _VARIABLE.finditer(text) if (name := match[1] or match[2]))


def _resolved(values: dict[str, str]) -> dict[str, str]:
    """Resolve substitutions inside substitutions, until none is left."""
    for _ in values:
        after = {name: substituted(value, values) for name, value in values.items()}
        if after == values:
            return after
        values = after
    raise BuildError("substitutions that name each other in a circle")


def substituted(text: str, values: Mapping[str, str]) -> str:
    """Return a text with its variables replaced; ``$$`` becomes a dollar.

    Example:
        >>> substituted("${_A}-$_B $$HOME", {"_A": "x", "_B": "y"})
        'x-y $HOME'
    """
    return _VARIABLE.sub(lambda match: values[name] if (name := match[1] or match[2]) else "$", text)


def _step(number: int, step: dict[str, Any], values: Mapping[str, str]) -> Step:
    if unknown := set(step) - STEP_KEYS:
        raise BuildError(f"step {number}: keys that are not supported here: {', '.join(sorted(unknown))}")
    return Step(
        id=step.get("id", str(number)),
        image=substituted(step["name"], values),
        entrypoint=step.get("entrypoint"),
        args=[substituted(str(word), values) for word in step.get("args", [])],
        env=[substituted(word, values) for word in step.get("env", [])],
        folder=step.get("dir", ""),
    )
