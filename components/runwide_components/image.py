"""The URI of a release's image. The module does not import kfp, so that a component can use it too."""

from __future__ import annotations

import platform
import re
from typing import Any

from runwide import __version__, settings
from runwide.errors import InputError
from runwide.naming import shown


def checked_image(image: Any) -> str:
    """Return the name of an image, by default of `base_image`; reject any other value.

    Example:
        >>> checked_image("docker.io/shop/steps:1")
        'docker.io/shop/steps:1'
    """
    if image is None:
        return base_image()
    if not isinstance(image, str) or not image or any(map(str.isspace, image)):
        raise InputError(
            f"invalid image={shown(image)}: expected the name of an image",
            hint="give such as docker.io/shop/steps:1, or leave it out",
        )
    return str.__str__(image)  # kfp accepts no member of an enum


def base_image(
    project: str | None = None,
    region: str = "europe-west1",
    *,
    repository: str = "runwide",
    python: str | None = None,
    version: str = __version__,
) -> str:
    """Return the URI of a release's image, as cloudbuild.yaml publishes it; ``RUNWIDE_IMAGE`` overrides it.

    It is the default image of the steps. Give it to a lightweight component as its ``base_image``.

    Args:
        project: Project whose Artifact Registry has the image; None for an image of this machine's Docker engine.
        region: Region of the repository.
        repository: Name of the repository.
        python: Minor version of Python in the image; None for this process's version, since functions travel as bytecode.
        version: The release. Do not give ``latest``: caches never refresh it.

    Raises:
        InputError: There is no image with that Python.

    Example:
        >>> import os
        >>> os.environ.pop("RUNWIDE_IMAGE", None)
        >>> base_image("shop", python="3.12", version="1.2.3")
        'europe-west1-docker.pkg.dev/shop/runwide/runwide:1.2.3-py312'
    """
    given = settings.read().image
    if given:
        return given
    if project is None and python is None:
        return f"runwide:{version}"
    tag = (python or ".".join(platform.python_version_tuple()[:2])).replace(".", "")
    if not re.fullmatch(r"31[0-3]", tag):
        raise InputError(
            f"there is no image with Python {python or platform.python_version()}", hint="give 3.10 to 3.13"
        )
    host = f"{region}-docker.pkg.dev/{project}/{repository}/" if project else ""
    return f"{host}runwide:{version}-py{tag}"
