"""The command ``runwide image``, which builds an image with more packages."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import click

from runwide.cli.requirements import text_of
from runwide.errors import InputError
from runwide.host import space
from runwide_components.image import base_image
from runwide_components.image_build import Image, build, docker_client, push, settings_of_pip


@click.command("image")
@click.option("--requirements", metavar="FILE", required=True, help="A requirements file of pip.")
@click.option("--push", "registry", metavar="URI", help="Push it there, and print its URI with its digest.")
@click.option(
    "--tag", metavar="NAME", help="Name of the image on this machine; by default from its contents."
)
@click.option("--base", metavar="IMAGE", help="Image to build on; by default the image of this release.")
@click.option("--python", metavar="VERSION", help="Python of the base, such as 3.12; by default this one.")
@click.option("--cloud-build", is_flag=True, help="Do not build here; print the command for Cloud Build.")
def image_command(
    *,
    requirements: str,
    registry: str | None,
    tag: str | None,
    base: str | None,
    python: str | None,
    cloud_build: bool,
) -> None:
    """Build an image with the packages of a requirements file on the base image, and print its name.

    Packages that runwide needs keep their versions. Without a Docker engine, the command writes the folder runwide-image and
    prints the command that builds it with Cloud Build; the exit code is 1, since there is no image yet.

    \b
    Example:
        runwide image --requirements requirements.txt
        runwide image --requirements requirements.txt --push europe-west1-docker.pkg.dev/shop/images/packages
    """  # noqa: D301 - \b is click's mark for a paragraph that keeps its lines
    if base and python:
        raise InputError("--base has a Python already", hint="leave out --python")
    if registry and tag:
        raise InputError("--push and --tag both name the image", hint="give one of them")
    wanted = Image(base or base_image(python=python), text_of(requirements), registry or tag)
    client = None if cloud_build else docker_client()
    if client is None:
        click.echo(_for_cloud_build(wanted, registry))
        if not cloud_build:
            click.echo("runwide: no Docker engine answers, and no image was built: use Cloud Build", err=True)
            sys.exit(1)
        return
    with TemporaryDirectory(prefix="runwide-image-", dir=space.scratch()) as folder:
        name = build(client, wanted, Path(folder))
    click.echo(push(client, name) if registry else name)


def _for_cloud_build(image: Image, registry: str | None) -> str:
    """Write the folder of a build, and return the command that builds it with Cloud Build."""
    if registry is None:
        raise InputError(
            "there is no Docker engine here, and Cloud Build keeps only images that it pushes",
            hint="give --push europe-west1-docker.pkg.dev/PROJECT/REPOSITORY/NAME",
        )
    from runwide_components.engines.fitting import has_registry  # loads kfp

    if not has_registry(registry):
        raise InputError(
            f"--push {registry} names no registry to which Cloud Build can push",
            hint="give --push europe-west1-docker.pkg.dev/PROJECT/REPOSITORY/NAME",
        )
    if "/" not in image.base:
        raise InputError(
            f"Cloud Build cannot pull {image.base}, an image of this machine",
            hint="give the URI of the base image in a registry as --base",
        )
    folder = Path("runwide-image")
    image.write(folder)
    if left_out := settings_of_pip():
        click.echo(
            f"runwide: Cloud Build does not get {', '.join(left_out)} of this environment; name an index in the "
            "requirements file, or add secrets to cloudbuild.yaml",
            err=True,
        )
    config = shlex.quote(str(folder / "cloudbuild.yaml"))
    return f"gcloud builds submit {shlex.quote(str(folder))} --config {config}"
