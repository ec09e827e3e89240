"""The options that the steps of a pipeline ask of an engine: labels, accounts, and those of Kubernetes."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import yaml

from runwide.errors import InputError
from runwide.log import Log
from runwide_components.configuration import ACCOUNT, KUBERNETES, LABELS
from runwide_components.custom_job import LAUNCHER

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
class Asked:
    """Options that the steps of one pipeline ask for.

    Args:
        labels: Labels that any step asks for.
        accounts: The account of each step in a container, None for one that asks for none; CustomJobs have their own.
        kubernetes: Options of Kubernetes, as users spell them.
        platforms: Names of the platforms for which the compiled pipeline has a document of its own.
        custom_jobs: Whether there are steps that start CustomJobs of Vertex AI.
        secrets: Whether steps of ours read secrets of Secret Manager.
    """

    labels: Pairs = ()
    accounts: tuple[str | None, ...] = ()
    kubernetes: tuple[str, ...] = ()
    platforms: tuple[str, ...] = ()
    custom_jobs: bool = False
    secrets: bool = False

    @classmethod
    def of(cls, path: Path, spec: Any) -> Asked:
        """Return what a compiled pipeline asks for.

        Args:
            path: Its file.
            spec: Its spec, as kfp's loader reads it.
        """
        containers = _containers(spec)
        marks = [_env(one) for one in containers.values()]
        return cls(
            labels=tuple(dict.fromkeys(pair for env in marks for pair in labels_of(env))),
            accounts=tuple(_env(one).get(ACCOUNT) for one in containers.values() if not _launches(one)),
            kubernetes=tuple(dict.fromkeys(one for env in marks for one in _kubernetes(env))),
            platforms=tuple(platforms_of(path)),
            custom_jobs=any(_launches(one) for one in containers.values()),
            secrets=any(_reads_secrets(one) for one in containers.values()),
        )

    @classmethod
    def of_configuration(cls, configuration: StepConfiguration, *, custom_job: bool) -> Asked:
        """Return what shards of this configuration will ask for, before there is a pipeline.

        Args:
            configuration: Of the shards.
            custom_job: Whether each is a CustomJob.
        """
        return cls(
            labels=configuration.labels,
            accounts=() if custom_job else (configuration.service_account,),
            kubernetes=configuration.kubernetes,
            platforms=("kubernetes",) if configuration.kubernetes else (),
            custom_jobs=custom_job,
        )

    def account(self, theirs: str | None, engine: str) -> str | None:
        """Return the account of the run, which is that of all its steps.

        Args:
            theirs: The engine's option.
            engine: The engine, for errors.

        Raises:
            InputError: Steps ask for another one, or only some of them for one.

        Example:
            >>> Asked(accounts=("a", "a")).account(None, "Vertex"), Asked(accounts=(None,)).account("b", "Vertex")
            ('a', 'b')
        """
        wanted = sorted({one for one in self.accounts if one is not None})
        if not wanted or wanted == [theirs]:
            return theirs
        if theirs is None and len(wanted) == 1 and None not in self.accounts:
            return wanted[0]
        others = f"as {theirs}" if theirs else "as other accounts"
        raise InputError(
            f"service_account={wanted[0]!r} is asked for, and {engine} has one account for all steps of a run, and some "
            f"run {others}",
            hint=f"give the engine service_account={wanted[0]!r}, or leave it out of the fan-out",
        )

    def check_labels(self, engine: str, *, google: bool) -> None:
        """Reject labels that an engine does not take.

        Args:
            engine: The engine, for errors.
            google: Whether they are labels of Google Cloud; otherwise of Kubernetes.

        Raises:
            InputError: One is not spelled as that has them, or has two values on a run that takes one.
        """
        for name, value in self.labels:
            if not (_OF_GOOGLE if google else _OF_KUBERNETES).fullmatch(f"{name}={value}"):
                words = "lower-case letters, digits, hyphens and underscores, a letter first in the name"
                other = "letters and digits at both ends, between them also hyphens, underscores and dots"
                raise InputError(
                    f"{engine} takes no label {name}={value}",
                    hint=f"use {words if google else other}; 63 at most",
                )
        if google and (twice := [name for name, _ in self.labels if len(_values(self.labels, name)) > 1]):
            raise InputError(
                f"the label {twice[0]} has the values {', '.join(_values(self.labels, twice[0]))}, and {engine} has one for "
                "each run",
                hint="give all fan-outs of the pipeline the same",
            )


def platforms_of(path: Path) -> dict[str, Any]:
    """Return what a compiled pipeline has for each platform, in a document of its own.

    Args:
        path: Its file.
    """
    _, *rest = [text for text in _DOCUMENTS.split(path.read_text(encoding="utf-8")) if text.strip()] or [""]
    found: dict[str, Any] = {}
    for text in rest:
        about = yaml.safe_load(text)
        found.update((about.get("platforms") or {}) if isinstance(about, dict) else {})
    return found


def with_pod_labels(path: Path, made: Path) -> Path:
    """Return a copy of a compiled pipeline with the labels of each step's pods in its document for Kubernetes.

    Args:
        path: Its file.
        made: Where the copy goes.
    """
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
    """Return the labels that the variables of a step's container tell.

    Args:
        env: The variables.

    Example:
        >>> labels_of({LABELS: "team=shop,stage="})
        (('team', 'shop'), ('stage', ''))
    """
    pairs = (one.partition("=") for one in env.get(LABELS, "").split(",") if one)
    return tuple((name, value) for name, _, value in pairs)


def refuse_kubernetes(asked: Iterable[str], engine: str) -> None:
    """Reject what only Kubernetes has.

    Args:
        asked: What steps ask for.
        engine: The engine, for errors.

    Raises:
        InputError: There is something.

    Example:
        >>> refuse_kubernetes((), "Local")
    """
    if names := ", ".join(asked):
        raise InputError(
            f"{engine} has no {names}: only Kubernetes has these",
            hint="leave them out, or use Kubeflow; of secrets, those of Secret Manager can be given",
        )


def refuse_custom_jobs(asked: Asked, engine: str) -> None:
    """Reject steps that only Vertex AI can start.

    Args:
        asked: What the steps ask for.
        engine: The engine, for errors.

    Raises:
        InputError: There are some.

    Example:
        >>> refuse_custom_jobs(Asked(), "Local")
    """
    if asked.custom_jobs:
        raise InputError(
            f"steps of this pipeline are CustomJobs of Vertex AI, which {engine} cannot start",
            hint="leave out machine_type= and spot=, and say cpu= and memory=; or use Vertex",
        )


def check_asked(engine: Any, asked: Asked) -> None:
    """Reject what an engine does not have; one of the user's own need not say.

    Args:
        engine: The engine.
        asked: What the steps ask for.

    Raises:
        InputError: There is something.

    Example:
        >>> check_asked(object(), Asked(labels=(("team", "shop"),)))
    """
    check = getattr(engine, "check_steps", None)
    if check is not None:
        check(asked)


def check_here(engine: Any, asked: Asked) -> None:
    """Reject what steps cannot have on this machine, and say what it does not heed.

    Args:
        engine: The engine of this machine, whose method this is.
        asked: What the steps ask for.

    Raises:
        InputError: They ask for something without which they would not be the same.
    """
    refuse_custom_jobs(asked, repr(engine))
    refuse_kubernetes(asked.kubernetes, repr(engine))
    if ignored := (*(["labels="] * bool(asked.labels)), *(["service_account="] * any(asked.accounts))):
        _say_unheeded(ignored)


@cache
def _say_unheeded(options: tuple[str, ...]) -> None:
    """Say it once in a program, which may check what it asks for before it submits it."""
    cause = "a run on this machine has no labels and no accounts"
    _log.warning("steps.unheeded", options=list(options), cause=cause)


def _values(labels: Pairs, name: str) -> list[str]:
    return [value for one, value in labels if one == name]


def _containers(spec: Any) -> dict[str, Any]:
    executors = spec.deployment_spec.fields["executors"].struct_value.fields
    return {
        name: one.struct_value.fields["container"].struct_value.fields
        for name, one in executors.items()
        if "container" in one.struct_value.fields
    }


def _kubernetes(env: Mapping[str, str]) -> list[str]:
    return [one for one in env.get(KUBERNETES, "").split(", ") if one]


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
