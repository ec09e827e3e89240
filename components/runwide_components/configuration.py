"""The configuration of a fan-out's steps: variables, secrets, labels, nodes and service account."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from runwide import settings
from runwide.cli.variables import HIDDEN, check_env, check_variable, full_name, variables_text
from runwide.errors import InputError
from runwide.naming import kind_of

LABELS = "RUNWIDE_STEP_LABELS"
"""A variable of a step's container with the labels for the engine: pipeline specs have no field for labels."""

ACCOUNT = "RUNWIDE_STEP_SERVICE_ACCOUNT"
"""The same for the service account."""

KUBERNETES = "RUNWIDE_STEP_KUBERNETES"
"""The same for options of Kubernetes, which are also in a second document after the spec."""

# settings of this process that change results, or that steps need to read each other's objects
_TRAVELLING = (
    "RUNWIDE_COMPRESSION",
    "RUNWIDE_MAX_FUNCTION_BYTES",
    "RUNWIDE_MAX_JSON_DEPTH",
    "RUNWIDE_MAX_TABLE_BYTES",
    "RUNWIDE_SIGNING_KEY_SECRET",
    "RUNWIDE_USER_PROJECT",
)
# Linux starts a program with arguments of at most 128 KiB; quoting needs a part of that
_VALUE_BYTES = 64 * 1024
# "Labels and Selectors" of Kubernetes, which allow all names of Google; engines check their own rules
_NAME = re.compile(r"([a-z0-9A-Z.-]{1,253}/)?[A-Za-z0-9_.-]{1,63}")
_LABEL = re.compile(r"[A-Za-z0-9_.-]{0,63}")
_SECRET = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?")
_KEY = re.compile(r"[A-Za-z0-9._-]{1,253}")
MARKED = ("{{", '{"Concat": ', '{"IfPresent": ')
"""Texts that engines replace or evaluate."""

_EFFECTS = ("NoSchedule", "PreferNoSchedule", "NoExecute")
_TOLERATION = ("key", "operator", "value", "effect", "toleration_seconds")

Pairs = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class StepConfiguration:
    """The configuration of scatter, shards and gather; see `fan_out` for the meanings.

    Args:
        secrets: Variables and the full names of their secrets in Secret Manager.
        kubernetes_secrets: Variables, names of Kubernetes secrets, and keys in these.
        tolerations: Taints that a node may have, each as pairs.
        composed: True if the scatter step passes on further variables, whose values are known when the pipeline runs.

    Example:
        >>> StepConfiguration.of(env={"TZ": "UTC"}, secrets={"KEY": "projects/p/secrets/k"}).words()
        ('--env', 'TZ', 'UTC', '--secret', 'KEY', 'projects/p/secrets/k/versions/latest')
    """

    env: Pairs = ()
    secrets: Pairs = ()
    kubernetes_secrets: tuple[tuple[str, str, str], ...] = ()
    labels: Pairs = ()
    node_selector: Pairs = ()
    tolerations: tuple[tuple[tuple[str, Any], ...], ...] = ()
    service_account: str | None = None
    composed: bool = False

    @classmethod
    def of(
        cls,
        *,
        env: Mapping[str, Any] | None = None,
        secrets: Mapping[str, Any] | None = None,
        labels: Mapping[str, str] | None = None,
        node_selector: Mapping[str, str] | None = None,
        tolerations: Iterable[Mapping[str, Any]] | None = None,
        service_account: str | None = None,
        composed: bool = False,
    ) -> StepConfiguration:
        """Return the configuration from options of `fan_out`, without variables whose values are parameters."""
        named = check_names(env, secrets)
        theirs = {name: one for name, one in (secrets or {}).items() if not isinstance(one, str)}
        found = cls(
            env=tuple((name, _value(name, named[name])) for name in (env or {})),
            secrets=tuple(
                (name, full_name(name, one)) for name, one in (secrets or {}).items() if name not in theirs
            ),
            kubernetes_secrets=tuple((name, *_kubernetes_secret(name, one)) for name, one in theirs.items()),
            labels=_labels("labels", labels),
            node_selector=_labels("node_selector", node_selector),
            tolerations=tuple(_toleration(one) for one in _listed(tolerations)),
            service_account=_account(service_account),
            composed=composed,
        )
        if found.kubernetes:
            _kubernetes()  # a missing package is an error now, not when a pipeline is compiled
        return found

    @classmethod
    def of_record(cls, about: Mapping[str, Any]) -> StepConfiguration:
        """Return the configuration that `about` described."""
        given = {name: _frozen(value) for name, value in about.items()}
        return cls(**given)

    def about(self) -> dict[str, Any]:
        """Return JSON from which `of_record` makes the same configuration."""
        return asdict(self)

    @property
    def given(self) -> tuple[str, ...]:
        """Names of the given options, without variables that travel automatically."""
        own = tuple(name for name, _ in self.env if name not in _TRAVELLING)
        others = (
            "secrets",
            "kubernetes_secrets",
            "labels",
            "node_selector",
            "tolerations",
            "service_account",
        )
        names = ["env"] * bool(own) + [name for name in others if getattr(self, name)]
        return tuple(dict.fromkeys("secrets" if name == "kubernetes_secrets" else name for name in names))

    def __str__(self) -> str:
        """Return the configuration for people: names of variables without their values."""
        parts = {
            "env": [name for name, _ in self.env],
            "secrets": [name for name, *_ in (*self.secrets, *self.kubernetes_secrets)],
            "labels": ["=".join(pair) for pair in self.labels],
            "nodes": ["=".join(pair) for pair in self.node_selector],
            "tolerations": [str(dict(one).get("key", "all")) for one in self.tolerations],
            "account": [self.service_account] if self.service_account else [],
        }
        return (
            "; ".join(f"{name} {', '.join(values)}" for name, values in parts.items() if values)
            or "as they are"
        )

    @property
    def kubernetes(self) -> tuple[str, ...]:
        """Options that only Kubernetes has, as users write them."""
        found = {
            "Kubernetes secrets": self.kubernetes_secrets,
            "node_selector=": self.node_selector,
            "tolerations=": self.tolerations,
        }
        return tuple(name for name, value in found.items() if value)

    def travelling(self, taken: Iterable[str] = ()) -> StepConfiguration:
        """Return the configuration with those variables of this process that steps need.

        Args:
            taken: Names of variables that the steps get in another way.
        """
        known = {*taken, *(name for name, *_ in (*self.env, *self.secrets, *self.kubernetes_secrets))}
        ours = [(name, text) for name in _TRAVELLING if name not in known and (text := settings.value(name))]
        return replace(self, env=(*ours, *self.env))

    def words(self) -> tuple[str, ...]:
        """Return the options that each of the three commands gets."""
        plain = [one for one in self.env if not any(mark in one[1] for mark in MARKED)]
        quoted = [one for one in self.env if one not in plain]
        return (
            *(word for pair in plain for word in ("--env", *pair)),
            *(("--env-text", variables_text(quoted)) if quoted else ()),
            *(word for pair in self.secrets for word in ("--secret", *pair)),
        )

    def ask(self, task: Any) -> Any:
        """Set the parts of the configuration that are not options of the command on a task, and return it."""
        if self.labels:
            task.set_env_variable(LABELS, ",".join(f"{name}={value}" for name, value in self.labels))
        if self.service_account:
            task.set_env_variable(ACCOUNT, self.service_account)
        if not self.kubernetes:
            return task
        task.set_env_variable(KUBERNETES, ", ".join(self.kubernetes))
        kubernetes = _kubernetes()
        if self.kubernetes_secrets:
            task.set_env_variable(HIDDEN, ",".join(name for name, *_ in self.kubernetes_secrets))
        for name, secret, key in self.kubernetes_secrets:
            kubernetes.use_secret_as_env(task, secret_name=secret, secret_key_to_env={key: name})
        for name, value in self.node_selector:
            kubernetes.add_node_selector(task, name, value)
        for toleration in self.tolerations:
            kubernetes.add_toleration(task, **dict(toleration))
        for name, value in self.labels:
            kubernetes.add_pod_label(task, name, value)
        return task


def check_names(env: Mapping[str, Any] | None, secrets: Mapping[str, Any] | None) -> dict[str, Any]:
    """Check the names of variables and secrets, and return the variables by name.

    Example:
        >>> check_names({"TZ": "UTC"}, {})
        {'TZ': 'UTC'}
    """
    for what, given in (("env", env), ("secrets", secrets)):
        if given is not None and not isinstance(given, Mapping):
            raise InputError(
                f"{what}= is {kind_of(given)}, not a dict of variables",
                hint='give one such as {"TZ": "UTC"}; parameters of the pipeline are values in it',
            )
        for name in given or {}:
            if not isinstance(name, str):
                raise InputError(
                    f"invalid name {name!r} in {what}=: expected a text", hint='give one such as "TZ"'
                )
            (check_env if what == "env" else check_variable)(name)
    if both := [name for name in env or {} if name in (secrets or {})]:
        raise InputError(f"{both[0]} is in env= and in secrets=", hint="give it in one of them")
    return dict(env or {})


def _value(name: str, value: Any) -> str:
    """Return the value of a variable as text, as Python writes it."""
    if not isinstance(value, (str, int, float)):
        raise InputError(
            f"env={name!r} is {kind_of(value)}, not a text",
            hint="give a text or a number; in fan_out a parameter of the pipeline, or a text with parameters in it",
        )
    text = str.__str__(value) if isinstance(value, str) else str(value)
    data = text.encode(errors="surrogatepass")
    if "\0" in text or len(data) > _VALUE_BYTES or data.decode(errors="replace") != text:
        raise InputError(
            f"invalid value of env={name!r}: it has null characters, is not Unicode, or is too long",
            hint=f"give a text of at most {_VALUE_BYTES} bytes without null characters",
        )
    return text


def _kubernetes_secret(name: str, given: Any) -> tuple[str, str]:
    pair = tuple(given) if isinstance(given, (tuple, list)) else ()
    named = len(pair) == 2 and all(isinstance(one, str) for one in pair)  # noqa: PLR2004 - a secret and a key in it
    if named and _SECRET.fullmatch(pair[0]) and _KEY.fullmatch(pair[1]):
        return pair[0], pair[1]
    raise InputError(
        f"invalid secret of {name}: it names no secret of Secret Manager and none of Kubernetes",
        hint='give "projects/P/secrets/S/versions/V", or ("name-of-the-secret", "key")',
    )


def _labels(what: str, given: Mapping[str, str] | None) -> Pairs:
    if given is None:
        return ()
    if not isinstance(given, Mapping):
        raise InputError(f"{what}= is {kind_of(given)}, not a dict", hint='give {"team": "shop"}')
    for name, value in given.items():
        if not (
            isinstance(name, str)
            and isinstance(value, str)
            and _NAME.fullmatch(name)
            and _LABEL.fullmatch(value)
        ):
            raise InputError(
                f"invalid label {what}={{{name!r}: {value!r}}}",
                hint="use texts of at most 63 letters, digits, hyphens, underscores and dots as names and values",
            )
    return tuple(given.items())


def _listed(given: Any) -> Sequence[Any]:
    if isinstance(given, (Mapping, str)) or not isinstance(given, (Iterable, type(None))):
        raise InputError(
            f"tolerations= is {kind_of(given)}, not a list of dicts",
            hint='give [{"key": "gpu", "operator": "Exists", "effect": "NoSchedule"}]',
        )
    return list(given or ())


def _toleration(given: Any) -> tuple[tuple[str, Any], ...]:
    """Return one toleration, also in the spelling of Kubernetes, as pairs in a fixed order."""
    about = dict(given) if isinstance(given, Mapping) else {"": None}
    if "tolerationSeconds" in about:
        about["toleration_seconds"] = about.pop("tolerationSeconds")
    operator, seconds = about.get("operator", "Equal"), about.get("toleration_seconds")
    valid = (
        about.keys() <= set(_TOLERATION)
        and all(isinstance(about.get(name, ""), str) for name in _TOLERATION[:4])
        and operator in ("Equal", "Exists")
        and about.get("effect", _EFFECTS[0]) in _EFFECTS
        and (operator == "Exists" or bool(about.get("key")))
        and not (operator == "Exists" and about.get("value"))
        and (seconds is None or (type(seconds) is int and about.get("effect") == "NoExecute"))
    )
    if not valid:
        raise InputError(
            f"invalid toleration {given!r}",
            hint='give {"key": "gpu", "operator": "Equal", "value": "yes", "effect": "NoSchedule"}; operators are Equal '
            f"and Exists (without a value), effects {', '.join(_EFFECTS)}, toleration_seconds goes with NoExecute",
        )
    return tuple((name, about[name]) for name in _TOLERATION if about.get(name) is not None)


def _account(given: Any) -> str | None:
    if given is not None and not (
        isinstance(given, str) and re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9@.:_-]*", given)
    ):
        raise InputError(
            f"invalid service_account={given!r}",
            hint="give an account such as steps@shop.iam.gserviceaccount.com, or the name of a Kubernetes service account",
        )
    return given


def _frozen(value: Any) -> Any:
    """Return a value of JSON with tuples instead of lists."""
    return tuple(_frozen(one) for one in value) if isinstance(value, list) else value


def _kubernetes() -> Any:
    """Return the package that writes options of Kubernetes; raise an `InputError` if it is not installed."""
    try:
        from kfp import kubernetes
    except ImportError as error:
        raise InputError(
            "secrets of Kubernetes, node_selector= and tolerations= need kfp-kubernetes, which is not installed",
            hint="pip install 'runwide[kubernetes]'",
        ) from error
    return kubernetes


NOTHING = StepConfiguration()
