"""The environment of a program that runs outside of every cloud, without variables for logs."""

from __future__ import annotations

import os

OURS = ("CLOUD_ML_JOB_ID", "KUBERNETES_SERVICE_HOST", "RUNWIDE_LOG", "RUNWIDE_LOG_LEVEL")


def environment(**variables: str) -> dict[str, str]:
    """Return this process's environment without the variables for logs, and with the given ones."""
    return {**{key: value for key, value in os.environ.items() if key not in OURS}, **variables}
