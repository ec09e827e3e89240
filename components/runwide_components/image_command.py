"""The command `runwide image`, which builds an image with more packages on the base image."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from collections import deque
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import click

from runwide import settings
from runwide.cli.installing import reason_of
from runwide.cli.requirements import CONSTRAINT, text_of
from runwide.errors import EngineError, InputError
from runwide.host import space
from runwide.streams import write
from runwide_components.image import base_image

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


_DOCKERFILE = """\
# Packages on the base image of runwide, for all of its users; made by `runwide image`.
FROM {base}
USER root
# - The constraints of the base keep pip from changing packages that runwide needs.
# - Certificates, pip's configuration and indexes are secrets of the build, and are in no layer.
RUN --mount=type=bind,target=/run/runwide-image \\
    --mount=type=secret,id=ca --mount=type=secret,id=pip --mount=type=secret,id=index --mount=type=secret,id=extra \\
    if [ -s /run/secrets/ca ]; then export PIP_CERT=/run/secrets/ca; fi; \\
    if [ -s /run/secrets/pip ]; then export PIP_CONFIG_FILE=/run/secrets/pip; fi; \\
    if [ -s /run/secrets/index ]; then PIP_INDEX_URL=$(cat /run/secrets/index); export PIP_INDEX_URL; fi; \\
    if [ -s /run/secrets/extra ]; then PIP_EXTRA_INDEX_URL=$(cat /run/secrets/extra); export PIP_EXTRA_INDEX_URL; fi; \\
    if [ -s /opt/runwide/constraints.txt ]; then set -- -c /opt/runwide/constraints.txt; fi; \\
    python3 -m pip install --no-cache-dir --progress-bar off "$@" \\
        -c /run/runwide-image/constraints.txt -r /run/runwide-image/requirements.txt
USER 1000
"""
_CLOUD_BUILD = """\
# Builds and pushes the image of the Dockerfile beside it; made by `runwide image`.
steps:
  - name: gcr.io/cloud-builders/docker
    env: [DOCKER_BUILDKIT=1]
    args: [build, --tag, "{tag}", .]
images: ["{tag}"]
"""
OFTEN_AT = ("/usr/bin/docker",)
"""Further clients to try: a standalone one earlier on PATH may lack BuildKit."""
_PROXIES = ("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")
_NAME = r"[a-z0-9][a-z0-9._-]*(:[0-9]+)?(/[a-z0-9._-]+)*(:\w[\w.-]{0,127})?"
_DIGEST = r"(@sha256:[0-9a-f]{64})?"
_BEFORE_PLUGIN = 23  # docker clients before this version have BuildKit built in
_STEP = re.compile(r"^#\d+ (\d+\.\d+ )?")
_OF_DOCKER = ("ERROR: process", "ERROR: executor", "ERROR: failed to")
_LINES = 60


@dataclass(frozen=True, slots=True)
class Image:
    """An image to build.

    Args:
        requirements: Text of `runwide.cli.requirements.text_of`.
        tag: Its name; None for a name from its contents.
    """

    base: str
    requirements: str
    tag: str | None = None

    def __post_init__(self) -> None:
        if not self.requirements:
            raise InputError("there are no requirements", hint="give --requirements requirements.txt")
        for name, form in ((self.base, f"{_NAME}{_DIGEST}"), (self.tag, _NAME)):
            if name is not None and not re.fullmatch(form, name):
                raise InputError(
                    f"invalid name {name!r} of an image", hint="give one such as shop/packages:1"
                )

    @property
    def name(self) -> str:
        """The name with a tag."""
        mark = sha256(f"{self.base}\n{self.requirements}".encode()).hexdigest()[:12]
        name = self.tag or "runwide-packages"
        return name if ":" in name.rpartition("/")[2] else f"{name}:{mark}"

    def files(self) -> dict[str, str]:
        """Return the files of the build's folder by name."""
        lines = self.requirements.splitlines()
        limits = [line.removeprefix(CONSTRAINT) for line in lines if line.startswith(CONSTRAINT)]
        return {
            "Dockerfile": _DOCKERFILE.format(base=self.base),
            "cloudbuild.yaml": _CLOUD_BUILD.format(tag=self.name),
            "constraints.txt": "".join(f"{line}\n" for line in limits),
            "requirements.txt": "".join(f"{line}\n" for line in lines if not line.startswith(CONSTRAINT)),
        }

    def write(self, folder: Path) -> None:
        """Write the files of the build's folder."""
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for name, text in self.files().items():
                (folder / name).write_text(text, encoding="utf-8")
        except OSError as error:
            raise InputError(
                f"cannot write the folder of the build ({error.strerror})", uri=str(folder)
            ) from error


def docker_client() -> str | None:
    """Return a docker client with BuildKit and an engine that answers, chosen like in `docker/build`; None without one."""
    given = settings.value("DOCKER") or shutil.which("docker")
    for client in dict.fromkeys(filter(None, (given, *OFTEN_AT))):
        if _has_buildkit(client) and _succeeds(client, "info"):
            return client
    return None


def _has_buildkit(client: str) -> bool:
    if _succeeds(client, "buildx", "version"):
        return True
    try:
        version = subprocess.run([client, "--version"], capture_output=True, text=True, check=False).stdout
    except OSError:
        return False
    found = re.match(r"Docker version (\d+)", version)
    return found is not None and int(found[1]) < _BEFORE_PLUGIN


def _succeeds(*words: str) -> bool:
    try:
        return subprocess.run(words, capture_output=True, check=False).returncode == 0
    except OSError:
        return False


def build(client: str, image: Image, folder: Path) -> str:
    """Build an image, with its progress on standard error; return its name."""
    image.write(folder)
    network = settings.value("RUNWIDE_BUILD_NETWORK") or "host"
    words = [
        "build",
        "--progress",
        "plain",
        "--network",
        network,
        *_secrets(),
        "--tag",
        image.name,
        str(folder),
    ]
    code, said = _shown([client, *words], {"DOCKER_BUILDKIT": "1"})
    if code != 0:
        raise EngineError(
            f"cannot build the image {image.name} on {image.base}: {_reason(said)}",
            hint="read the output above; --base names another image, PIP_INDEX_URL another index",
        )
    return image.name


def push(client: str, name: str) -> str:
    """Push an image, and return its URI with its digest."""
    code, said = _shown([client, "push", name])
    repository = name.rpartition(":")[0]
    digest = next(
        (found[1] for line in said if (found := re.search(r"digest: (sha256:[0-9a-f]{64})", line))), None
    )
    if code != 0 or digest is None:
        raise EngineError(
            f"cannot push the image: {_reason(said)}",
            uri=name,
            hint="log in first, such as gcloud auth configure-docker europe-west1-docker.pkg.dev",
        )
    return f"{repository}@{digest}"


def settings_of_pip() -> list[str]:
    """Return the names of variables that a build on this machine gets as secrets."""
    files = (name for name in ("PIP_CERT", "PIP_CONFIG_FILE") if Path(settings.value(name) or "").is_file())
    return [*files, *(name for name in ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL") if settings.value(name))]


def _secrets() -> list[str]:
    """Return the options of a build with the settings of pip as secrets, and with proxies as arguments."""
    files = {
        "ca": settings.value("PIP_CERT") or settings.value("SSL_CERT_FILE"),
        "pip": settings.value("PIP_CONFIG_FILE"),
    }
    words = [f"id={name},src={file}" for name, file in files.items() if file and Path(file).is_file()]
    variables = {"index": "PIP_INDEX_URL", "extra": "PIP_EXTRA_INDEX_URL"}
    words += [f"id={name},env={variable}" for name, variable in variables.items() if settings.value(variable)]
    proxies = [word for name in _PROXIES if settings.value(name) for word in ("--build-arg", name)]
    return [*(word for secret in words for word in ("--secret", secret)), *proxies]


def _shown(words: Sequence[str], variables: Mapping[str, str] | None = None) -> tuple[int, list[str]]:
    """Run a command with its output on our standard error; return its exit code and its last lines."""
    kept: deque[str] = deque(maxlen=_LINES)
    try:
        with subprocess.Popen(
            words,
            env=settings.with_variables(variables or {}),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        ) as process:
            for line in process.stdout or ():
                write(sys.stderr, line)
                kept.append(_STEP.sub("", line.rstrip()))
            code = process.wait()
    except OSError as error:
        raise EngineError(
            f"cannot start {words[0]}: {error}", hint="set DOCKER to a docker client"
        ) from error
    return code, list(kept)


def _reason(lines: Sequence[str]) -> str:
    """Return the reason of a failed build: the error of pip, or else the last lines."""
    own = [line for line in lines if line.startswith("ERROR: ") and not line.startswith(_OF_DOCKER)]
    return reason_of("\n".join(own or [line for line in lines if line][-2:]))


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
