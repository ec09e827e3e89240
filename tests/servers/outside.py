"""The environment of a program that runs outside of every cloud, and is told nothing about logs."""

from __future__ import annotations

import os

OURS = ("CLOUD_ML_JOB_ID", "KUBERNETES_SERVICE_HOST", "RUNWIDE_LOG", "RUNWIDE_LOG_LEVEL")


def environment(**variables: str) -> dict[str, str]:
    """This process's environment without what concerns logs, and with these variables."""
    return {**{key: value for key, value in os.environ.items() if key not in OURS}, **variables}
