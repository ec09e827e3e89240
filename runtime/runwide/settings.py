"""The only reader of the environment."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from runwide.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping


_JSON_DEPTH = 200
_FUNCTION_BYTES = 256 << 20
_TABLE_BYTES = 1 << 30


@dataclass(frozen=True, slots=True)
class Settings:
    """The parsed variables of the environment.

    Args:
        workers: ``RUNWIDE_WORKERS``: number of workers, instead of the number of cores.
        store: ``RUNWIDE_STORE``: default store of jobs.
        scratch: ``RUNWIDE_SCRATCH``: directory for large payloads between processes.
        image: ``RUNWIDE_IMAGE``: image of the components; in a component, its own image.
        store_deadline: ``RUNWIDE_STORE_DEADLINE``: seconds for which a store that has answered before may be unreachable.
        store_timeout: ``RUNWIDE_STORE_TIMEOUT``: seconds for which a connection may be silent before it is closed.
        compression: ``RUNWIDE_COMPRESSION``: ``zstd`` to compress values if a sample shows that it pays.
        user_project: ``RUNWIDE_USER_PROJECT``: the project that pays for requests to buckets where the requester pays.
        storage_emulator: ``STORAGE_EMULATOR_HOST``: a Cloud Storage emulator, instead of Google's.
        signing_key: ``RUNWIDE_SIGNING_KEY``: signs objects of a store and verifies them.
        signing_key_file: ``RUNWIDE_SIGNING_KEY_FILE``: a file with the key.
        signing_key_secret: ``RUNWIDE_SIGNING_KEY_SECRET``: the key's name in Secret Manager,
            ``projects/P/secrets/S/versions/V``.
        secret_endpoint: ``CLOUDSDK_API_ENDPOINT_OVERRIDES_SECRETMANAGER``: endpoint, as for gcloud.
        vertex_endpoint: ``CLOUDSDK_API_ENDPOINT_OVERRIDES_AIPLATFORM``: endpoint, as for gcloud.
        storage_endpoint: ``CLOUDSDK_API_ENDPOINT_OVERRIDES_STORAGE``: endpoint, such as one of Private Service Connect.
        universe_domain: ``GOOGLE_CLOUD_UNIVERSE_DOMAIN``: the cloud of Google's that the credentials must belong to.
        memory_guard: ``RUNWIDE_MEMORY_GUARD``: whether the largest worker is stopped near the memory limit: ``always``,
            ``never``, or ``auto`` if one OOM kill would end the whole container.
        otel: ``RUNWIDE_OTEL``: ``1`` for OpenTelemetry spans and metrics.
        idle_seconds: ``RUNWIDE_IDLE_SECONDS``: seconds for which idle workers are kept for the next call.
        log_format: ``RUNWIDE_LOG``: ``json``, ``text``, or empty to choose by the output.
        max_json_depth: ``RUNWIDE_MAX_JSON_DEPTH``: the largest number of nested lists and objects in given JSON.
        max_function_bytes: ``RUNWIDE_MAX_FUNCTION_BYTES``: the largest size of a given function, in bytes.
        max_table_bytes: ``RUNWIDE_MAX_TABLE_BYTES``: the largest decompressed size of a table of items, in bytes.
        prices: ``RUNWIDE_PRICES``: a JSON file with prices of machines, for estimates of costs.
        log_level: ``RUNWIDE_LOG_LEVEL``: ``debug``, ``info``, ``warning`` or ``error``.
    """

    workers: int | None = None
    store: str | None = None
    scratch: str | None = None
    image: str | None = None
    store_deadline: int = 900
    store_timeout: int = 60
    compression: str = "none"
    user_project: str | None = None
    storage_emulator: str | None = None
    signing_key: str | None = field(default=None, repr=False)
    signing_key_file: str | None = None
    signing_key_secret: str | None = None
    secret_endpoint: str | None = None
    vertex_endpoint: str | None = None
    storage_endpoint: str | None = None
    universe_domain: str | None = None
    memory_guard: str = "auto"
    otel: bool = False
    idle_seconds: float = 60.0
    max_json_depth: int = _JSON_DEPTH
    max_function_bytes: int = _FUNCTION_BYTES
    max_table_bytes: int = _TABLE_BYTES
    log_format: str = ""
    prices: str | None = None
    log_level: str = "info"


def read() -> Settings:
    """Read the environment now.

    Example:
        >>> read().log_level
        'info'
    """
    env = os.environ
    deadline, timeout = store_patience()
    return Settings(
        workers=_positive("RUNWIDE_WORKERS"),
        store=env.get("RUNWIDE_STORE") or None,
        scratch=env.get("RUNWIDE_SCRATCH") or None,
        image=env.get("RUNWIDE_IMAGE") or None,
        store_deadline=deadline,
        store_timeout=timeout,
        compression=_one_of("RUNWIDE_COMPRESSION", ("none", "zstd")),
        user_project=env.get("RUNWIDE_USER_PROJECT") or None,
        storage_emulator=env.get("STORAGE_EMULATOR_HOST") or None,
        signing_key=signing_key(),
        signing_key_file=env.get("RUNWIDE_SIGNING_KEY_FILE") or None,
        signing_key_secret=env.get("RUNWIDE_SIGNING_KEY_SECRET") or None,
        vertex_endpoint=env.get("CLOUDSDK_API_ENDPOINT_OVERRIDES_AIPLATFORM") or None,
        storage_endpoint=env.get("CLOUDSDK_API_ENDPOINT_OVERRIDES_STORAGE") or None,
        universe_domain=env.get("GOOGLE_CLOUD_UNIVERSE_DOMAIN") or None,
        secret_endpoint=env.get("CLOUDSDK_API_ENDPOINT_OVERRIDES_SECRETMANAGER") or None,
        memory_guard=_one_of("RUNWIDE_MEMORY_GUARD", ("auto", "always", "never")),
        otel=_one_of("RUNWIDE_OTEL", ("", "0", "1")) == "1",
        idle_seconds=idle_seconds(),
        max_json_depth=max_json_depth(),
        max_function_bytes=max_function_bytes(),
        max_table_bytes=max_table_bytes(),
        log_format=log_format(),
        prices=prices(),
        log_level=log_level() or "info",
    )


def store_patience() -> tuple[int, int]:
    """Read only ``store_deadline`` and ``store_timeout``: reading all takes a tenth of the time of a small request."""
    return _positive("RUNWIDE_STORE_DEADLINE") or 900, _positive("RUNWIDE_STORE_TIMEOUT") or 60


def idle_seconds() -> float:
    """Read only ``idle_seconds``."""
    text = os.environ.get("RUNWIDE_IDLE_SECONDS") or "60"
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < float("inf"):
        raise InputError(
            f"RUNWIDE_IDLE_SECONDS={text!r} is not a number of seconds",
            hint="set it to 0 or more: with 0, no worker is kept",
        )
    return seconds


def max_json_depth() -> int:
    """Read only ``max_json_depth``."""
    return _positive("RUNWIDE_MAX_JSON_DEPTH") or _JSON_DEPTH


def max_function_bytes() -> int:
    """Read only ``max_function_bytes``."""
    return _positive("RUNWIDE_MAX_FUNCTION_BYTES") or _FUNCTION_BYTES


def max_table_bytes() -> int:
    """Read only ``max_table_bytes``."""
    return _positive("RUNWIDE_MAX_TABLE_BYTES") or _TABLE_BYTES


def log_format() -> str:
    """Read only ``log_format``, for each line."""
    return _one_of("RUNWIDE_LOG", ("", "json", "text"))


def log_level() -> str:
    """Read only ``log_level``, for each line; empty if it is not set."""
    return _one_of("RUNWIDE_LOG_LEVEL", ("", "debug", "info", "warning", "error", "critical"))


def prices() -> str | None:
    """Read only ``prices``, the path of a file; None if it is not set."""
    return os.environ.get("RUNWIDE_PRICES") or None


SIGNING_KEY = "RUNWIDE_SIGNING_KEY"
_handed_key: str | None = None


def signing_key() -> str | None:
    """Read only ``signing_key``: the variable's value, or the argument of `hand_signing_key`."""
    return os.environ.get(SIGNING_KEY) or _handed_key


def hand_signing_key(text: str | None) -> None:
    """Set the key of this process without the environment, so that programs that it starts do not get it.

    Args:
        text: The result of `signing_key` in the parent process.
    """
    global _handed_key  # noqa: PLW0603 - one process, one key
    _handed_key = text


_CLOUD = ("CLOUD_ML_PROJECT_ID", "CLOUD_ML_JOB_ID", "KUBERNETES_SERVICE_HOST")
"""Variables that Vertex AI sets in the containers of a custom job, and Kubernetes in those of a pod."""


def in_cloud() -> bool:
    """Return whether this process runs on Vertex or Kubernetes, where a log collector reads its output."""
    return any(name in os.environ for name in _CLOUD)


# Variables of Cloud Run (whose sandbox shows no firmware), functions, App Engine, and Vertex AI's training and prediction.
_SERVICES = (
    "K_SERVICE",
    "K_REVISION",
    "CLOUD_RUN_JOB",
    "CLOUD_RUN_WORKER_POOL",
    "FUNCTION_TARGET",
    "GAE_SERVICE",
)
_VERTEX = "AIP_"


def in_service_of_googles() -> bool:
    """Return whether a service of Google's has started this process, according to the variables that it sets."""
    return any(name in os.environ for name in _SERVICES) or any(
        name.startswith(_VERTEX) for name in os.environ
    )


def trace() -> str | None:
    """Return the trace of this process, as Cloud Logging names it; None if there is none.

    It is made of the W3C's ``TRACEPARENT`` and the project's name.
    """
    parts = os.environ.get("TRACEPARENT", "").split("-")
    if len(parts) != 4 or not _project():  # noqa: PLR2004 - version, trace, span, flags
        return None
    return trace_name(parts[1])


def trace_name(trace_id: str) -> str:
    """Return a trace as Cloud Logging names it, with the project's name if that is known.

    Example:
        >>> trace_name("0af7651916cd43dd8448eb211c80319c")
        '0af7651916cd43dd8448eb211c80319c'
    """
    project = _project()
    return f"projects/{project}/traces/{trace_id}" if project else trace_id


def _project() -> str | None:
    return os.environ.get("GOOGLE_CLOUD_PROJECT") or os.environ.get("CLOUD_ML_PROJECT_ID")


def is_set(name: str) -> bool:
    """Return whether the user has set a variable, to any value, which then takes precedence."""
    return name in os.environ


def value(name: str) -> str | None:
    """Return the user's value of another program's variable; None if it is not set."""
    return os.environ.get(name)


def set_default(name: str, value: str) -> None:
    """Set a variable for a library that reads it, unless the user has set it."""
    os.environ.setdefault(name, value)


def set_value(name: str, value: str) -> None:
    """Set a variable for the user's function, which this process or its workers run."""
    os.environ[name] = value


def with_variables(variables: Mapping[str, str]) -> dict[str, str]:
    """Return the environment for a child process: this one's without the signing key, and with more variables.

    Example:
        >>> with_variables({"RUNWIDE_LOG": "json"})["RUNWIDE_LOG"]
        'json'
    """
    return {**{name: value for name, value in os.environ.items() if name != SIGNING_KEY}, **variables}


def _positive(name: str) -> int | None:
    text = os.environ.get(name)
    if not text:
        return None
    if not text.strip().isdigit() or int(text) < 1:
        raise InputError(
            f"{name}={text!r} is not a positive whole number", hint=f"set {name} to 1 or more, or unset it"
        )
    return int(text)


def _one_of(name: str, allowed: tuple[str, ...]) -> str:
    text = os.environ.get(name, "").lower() or allowed[0]
    if text not in allowed:
        names = ", ".join(value for value in allowed if value)
        raise InputError(
            f"{name}={text!r} is not one of {names}", hint=f"set {name} to one of them, or unset it"
        )
    return text
