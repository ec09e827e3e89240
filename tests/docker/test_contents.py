"""The image describes itself and its contents truthfully."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import tarfile
import uuid
from pathlib import Path

import pytest

import runwide

pytestmark = pytest.mark.docker

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def inside(engine, image):
    """Run a command in the image, as root and without a network, and return its output."""

    def printed(*command: str) -> str:
        out = engine.containers.run(image, list(command), remove=True, network_mode="none", user="0")
        return out.decode()

    return printed


@pytest.fixture(scope="module")
def file_of(engine, image):
    """Return the bytes of a file of the image. Not by `cat`: an engine's log may lack the end of a container's output."""

    def read(path: str) -> bytes:
        container = engine.containers.create(image)
        try:
            archive = io.BytesIO(b"".join(container.get_archive(path)[0]))
        finally:
            container.remove(force=True)
        with tarfile.open(fileobj=archive) as members:
            return members.extractfile(members.next()).read()

    return read


@pytest.fixture(scope="module")
def bill(file_of) -> dict:
    return json.loads(file_of("/opt/runwide/sbom.cdx.json"))


@pytest.fixture(scope="module")
def licences(file_of) -> list[dict]:
    return json.loads(file_of("/opt/runwide/licenses.json"))


def installed(inside) -> set[tuple[str, str]]:
    listed = json.loads(inside("pip", "list", "--format", "json"))
    return {(re.sub(r"[-_.]+", "-", one["name"]).lower(), one["version"]) for one in listed}


def test_it_names_its_version_revision_python_and_base(engine, image, inside):
    identity = json.loads(inside("cat", "/opt/runwide/image.json"))
    labels = engine.images.get(image).labels
    assert set(identity) == {"version", "revision", "python", "base"}
    assert identity["version"] == runwide.__version__ == labels["org.opencontainers.image.version"]
    assert identity["revision"] == labels["org.opencontainers.image.revision"]
    assert identity["base"].partition("@")[0] == labels["org.opencontainers.image.base.name"]
    assert (
        identity["python"]
        == inside("python3", "-c", "import platform; print(platform.python_version())").strip()
    )


def test_the_doctor_recognises_it(inside):
    checks = {check["name"]: check for check in json.loads(inside("runwide", "doctor", "--json"))["checks"]}
    assert checks["image"]["state"] == "ok"
    assert f"version {runwide.__version__}" in checks["image"]["says"]
    assert "revision " in checks["image"]["says"]


def test_the_bill_of_materials_names_every_package_that_is_installed(inside, bill):
    assert (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", "1.6")
    assert bill["metadata"]["component"] == {
        "type": "container",
        "name": "runwide",
        "version": runwide.__version__,
        "bom-ref": "image",
    }
    named = {component["purl"] for component in bill["components"]}
    assert {f"pkg:pypi/{name}@{version}" for name, version in installed(inside)} <= named
    debian = inside("dpkg-query", "-W", "-f", "${Package}\n").split()
    assert "tini" in debian
    for package in debian:
        assert any(purl.startswith(f"pkg:deb/debian/{package}@") for purl in named), package


def test_the_bill_of_materials_matches_its_schema(bill):
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(json.dumps(bill)) is None


def test_the_list_of_licences_is_complete(inside, licences):
    python = {(row["name"], row["version"]) for row in licences if row["kind"] == "python"}
    assert python == installed(inside)
    debian = [row["name"] for row in licences if row["kind"] == "debian"]
    assert sorted(debian) == sorted(inside("dpkg-query", "-W", "-f", "${Package}\n").split())
    assert all(row["licence"].strip() for row in licences)


def test_every_python_package_has_a_licence_that_allows_shipping_it(licences):
    allowed = re.compile(
        r"Apache|BSD|MIT|MPL|Mozilla Public|PSF|Python Software Foundation|ISC", re.IGNORECASE
    )
    assert [row for row in licences if row["kind"] == "python" and not allowed.search(row["licence"])] == []


@pytest.mark.slow
def test_two_builds_have_the_same_files():
    ran = subprocess.run(
        [ROOT / "docker" / "reproducible"], capture_output=True, text=True, check=False, timeout=900
    )
    assert ran.returncode == 0, ran.stderr
    assert int(ran.stdout.split()[0]) > 1000


@pytest.mark.slow
def test_no_layer_holds_a_secret_of_the_build(engine, tmp_path):
    canary = f"canary-{uuid.uuid4().hex}"
    authorities = (
        os.environ.get("PIP_CERT") or os.environ.get("SSL_CERT_FILE") or "/etc/ssl/certs/ca-certificates.crt"
    )
    certificate, configuration = tmp_path / "ca.pem", tmp_path / "pip.conf"
    certificate.write_text(f"{Path(authorities).read_text()}\n# {canary}\n")
    given = os.environ.get("PIP_CONFIG_FILE")
    configuration.write_text(f"{Path(given).read_text() if given else ''}\n# {canary}\n")
    name = f"runwide-secrets-{os.getpid()}"
    built = subprocess.run(
        [ROOT / "docker" / "build", "--no-cache"],
        env={**os.environ, "NAME": name, "PIP_CERT": str(certificate), "PIP_CONFIG_FILE": str(configuration)},
        capture_output=True,
        text=True,
        check=False,
        timeout=900,
    )
    assert built.returncode == 0, built.stderr[-2000:]
    try:
        saved = tmp_path / "image.tar"
        subprocess.run(["docker", "save", "--output", saved, f"{name}:dev"], check=True, timeout=300)
        assert _holds(saved, b"org.opencontainers.image.version")
        assert not _holds(saved, canary.encode())
    finally:
        for tag in engine.images.get(f"{name}:dev").tags:
            engine.images.remove(tag, force=True)


def _holds(path: Path, text: bytes) -> bool:
    """Return whether an archive, whose layers are uncompressed tar files, contains the bytes."""
    tail = b""
    with path.open("rb") as archive:
        while piece := archive.read(1 << 22):
            if text in tail + piece:
                return True
            tail = piece[-len(text) :]
    return False
