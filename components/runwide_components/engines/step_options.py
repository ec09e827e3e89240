"""The options of steps that an engine must support: labels, accounts, options of Kubernetes, CustomJobs."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import yaml

from runwide.errors import InputError
from runwide.log import Log
from runwide_components.configuration import ACCOUNT, KUBERNETES, LABELS
from runwide_components.resources import LAUNCHER

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from runwide_components.configuration import Pairs, StepConfiguration

_log = Log("engine")
_DOCUMENTS = re.compile(r"(?m)^---\s*$")
# "Requirements for labels" of Google Cloud
_OF_GOOGLE = re.compile(r"[a-z][a-z0-9_-]{0,62}=[a-z0-9_-]{0,63}")
# "Labels and Selectors" of Kubernetes
_PART = r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?"
_OF_KUBERNETES = re.compile(rf"([a-z0-9]([a-z0-9.-]{{0,251}}[a-z0-9])?/)?{_PART}=({_PART})?")


@dataclass(frozen=True, slots=True)
class StepOptions:
    """The options that the steps of one pipeline request.

    Args:
        accounts: The service account of each container, None for a container without one. CustomJobs are left out: each has
            its own account.
        kubernetes: Names of options of Kubernetes, as users write them.
        platforms: Names of the platforms for which the compiled pipeline has a separate document.
        secrets: True if one of runwide's steps reads secrets of Secret Manager.
    """

    labels: Pairs = ()
    accounts: tuple[str | None, ...] = ()
    kubernetes: tuple[str, ...] = ()
    platforms: tuple[str, ...] = ()
    custom_jobs: bool = False
    secrets: bool = False

    @classmethod
    def of(cls, path: Path, spec: Any) -> StepOptions:
        """Return the options that a compiled pipeline requests."""
        containers = containers_of(spec).values()
        marks = [_env(one) for one in containers]
        return cls(
            labels=tuple(dict.fromkeys(pair for env in marks for pair in labels_of(env))),
            accounts=tuple(_env(one).get(ACCOUNT) for one in containers if not _launches(one)),
            kubernetes=tuple(
                dict.fromkeys(one for env in marks for one in env.get(KUBERNETES, "").split(", ") if one)
            ),
            platforms=tuple(platforms_of(path)),
            custom_jobs=any(map(_launches, containers)),
            secrets=any(map(_reads_secrets, containers)),
        )

    @classmethod
    def of_configuration(cls, configuration: StepConfiguration, *, custom_job: bool) -> StepOptions:
        """Return the options that shards will request, before their pipeline is made."""
        return cls(
            labels=configuration.labels,
            accounts=() if custom_job else (configuration.service_account,),
            kubernetes=configuration.kubernetes,
            platforms=("kubernetes",) if configuration.kubernetes else (),
            custom_jobs=custom_job,
        )

    def account(self, theirs: str | None, engine: str) -> str | None:
        """Return the service account of a run, which all its steps share.

        Args:
            theirs: The account that the engine was given.

        Raises:
            InputError: A step requests another account, or only some steps request one.

        Example:
            >>> StepOptions(accounts=("a", "a")).account(None, "Vertex")
            'a'
            >>> StepOptions(accounts=(None,)).account("b", "Vertex")
            'b'
        """
        wanted = sorted({one for one in self.accounts if one is not None})
        if not wanted or wanted == [theirs]:
            return theirs
        if theirs is None and len(wanted) == 1 and None not in self.accounts:
            return wanted[0]
        others = f"as {theirs}" if theirs else "as other accounts"
        raise InputError(
            f"a step requests service_account={wanted[0]!r}, and others run {others}: {engine} has one account for all "
            "steps of a run",
            hint=f"give the engine service_account={wanted[0]!r}, or leave it out of the fan-out",
        )

    def check_labels(self, engine: str, *, google: bool) -> None:
        """Reject labels that an engine does not accept.

        Args:
            google: True for labels of Google Cloud, False for labels of Kubernetes.
        """
        for name, value in self.labels:
            if not (_OF_GOOGLE if google else _OF_KUBERNETES).fullmatch(f"{name}={value}"):
                words = "lower-case letters, digits, hyphens and underscores, a letter first in the name"
                other = "letters and digits at both ends, between them also hyphens, underscores and dots"
                raise InputError(
                    f"invalid label {name}={value}: {engine} does not accept it",
                    hint=f"use {words if google else other}; 63 at most",
                )
        if google and (twice := [name for name, _ in self.labels if len(_values(self.labels, name)) > 1]):
            values = ", ".join(_values(self.labels, twice[0]))
            raise InputError(
                f"the label {twice[0]} has the values {values}: a run on {engine} has one value for each label",
                hint="give all fan-outs of the pipeline the same value",
            )


def platforms_of(path: Path) -> dict[str, Any]:
    """Return the options of a compiled pipeline for each platform, which are in a second document."""
    _, *rest = [text for text in _DOCUMENTS.split(path.read_text(encoding="utf-8")) if text.strip()] or [""]
    found: dict[str, Any] = {}
    for text in rest:
        about = yaml.safe_load(text)
        found.update((about.get("platforms") or {}) if isinstance(about, dict) else {})
    return found


def with_pod_labels(path: Path, made: Path) -> Path:
    """Write a copy of a compiled pipeline to ``made``, with the labels of pods in its document for Kubernetes."""
    spec, *rest = yaml.safe_load_all(path.read_text(encoding="utf-8"))
    platform: dict[str, Any] = rest[0] if rest else {"platforms": {}}
    kubernetes = platform.setdefault("platforms", {}).setdefault("kubernetes", {})
    executors = kubernetes.setdefault("deploymentSpec", {}).setdefault("executors", {})
    for name, about in spec["deploymentSpec"]["executors"].items():
        env = {one["name"]: one.get("value", "") for one in about.get("container", {}).get("env", [])}
        for label, value in labels_of(env):
            pods = executors.setdefault(name, {}).setdefault("podMetadata", {}).setdefault("labels", {})
            pods[label] = value
    made.write_text(yaml.safe_dump_all([spec, platform]), encoding="utf-8")
    return made


def labels_of(env: Mapping[str, str]) -> Pairs:
    """Return the labels that the variables of a step's container carry.

    Example:
        >>> labels_of({LABELS: "team=shop,stage="})
        (('team', 'shop'), ('stage', ''))
    """
    pairs = (one.partition("=") for one in env.get(LABELS, "").split(",") if one)
    return tuple((name, value) for name, _, value in pairs)


def refuse_kubernetes(requested: Iterable[str], engine: str) -> None:
    """Reject options that only Kubernetes has.

    Example:
        >>> refuse_kubernetes((), "Local")
    """
    if names := ", ".join(requested):
        raise InputError(
            f"{engine} does not support {names}: only Kubernetes does",
            hint="leave them out, or use Kubeflow; for secrets, use Secret Manager",
        )


def refuse_custom_jobs(requested: StepOptions, engine: str) -> None:
    """Reject steps that only Vertex AI can start.

    Example:
        >>> refuse_custom_jobs(StepOptions(), "Local")
    """
    if requested.custom_jobs:
        raise InputError(
            f"steps of this pipeline are CustomJobs of Vertex AI, which {engine} cannot start",
            hint="give cpu= and memory= instead of machine_type= and spot=, or use Vertex",
        )


def check_step_options(engine: Any, requested: StepOptions) -> None:
    """Reject options that an engine does not support, if the engine has a method that checks them.

    Example:
        >>> check_step_options(object(), StepOptions(labels=(("team", "shop"),)))
    """
    check = getattr(engine, "check_steps", None)
    if check is not None:
        check(requested)


def check_here(engine: Any, requested: StepOptions) -> None:
    """Reject options that change steps and are not supported on this machine; log options that it ignores."""
    refuse_custom_jobs(requested, repr(engine))
    refuse_kubernetes(requested.kubernetes, repr(engine))
    if ignored := (
        *(["labels="] * bool(requested.labels)),
        *(["service_account="] * any(requested.accounts)),
    ):
        _log_ignored(ignored)


@cache
def _log_ignored(options: tuple[str, ...]) -> None:
    """Log the ignored options once in a program: options are checked before a run is submitted, and again then."""
    cause = "a run on this machine has no labels and no accounts"
    _log.warning("steps.unheeded", options=list(options), cause=cause)


def _values(labels: Pairs, name: str) -> list[str]:
    return [value for one, value in labels if one == name]


def containers_of(spec: Any) -> dict[str, Any]:
    """Return the containers of a pipeline's steps by the name of their executor."""
    executors = spec.deployment_spec.fields["executors"].struct_value.fields
    return {
        name: one.struct_value.fields["container"].struct_value.fields
        for name, one in executors.items()
        if "container" in one.struct_value.fields
    }


def program_of(container: Any) -> str | None:
    """Return the program that a container starts; None for the one of its image."""
    command = container["command"].list_value.values if "command" in container else ()
    return command[0].string_value if command else None


def _env(container: Any) -> dict[str, str]:
    if "env" not in container:
        return {}
    pairs: Iterator[Any] = (one.struct_value.fields for one in container["env"].list_value.values)
    return {one["name"].string_value: one["value"].string_value for one in pairs}


def _reads_secrets(container: Any) -> bool:
    words = container["args"].list_value.values if "args" in container else ()
    return any(word.string_value in ("--secret", "RUNWIDE_SIGNING_KEY_SECRET") for word in words)


def _launches(container: Any) -> bool:
    return "image" in container and container["image"].string_value.startswith(LAUNCHER)
