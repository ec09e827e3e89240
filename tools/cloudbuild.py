"""Run the steps of cloudbuild.yaml on this machine, with its Docker engine and a temporary registry.

    cloudbuild.py FILE [--project ID] [--substitutions KEY=VALUE,…] [--advisories FILE]

As in Cloud Build: the substitutions and their rules, the order of the steps, one container for each step with the user of
its image, ``/workspace`` and ``HOME`` that belong to root, the engine's socket, and images pushed after the last step.
Different, and printed: builder images that cannot be pulled are replaced by local ones; containers use this machine's
network, certificate authorities and pip index; ``_HOST`` is a registry that this program starts and stops; ``_OSV_URL``
is a service that knows the advisories of one file.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from build_file import BuildError, Plan, Step, plan

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[1]
_DOCKER_BUILDER = "gcr.io/cloud-builders/docker"
_SECONDS_TO_PULL = 60
_SECONDS_TO_START = 20.0
_SECONDS_TO_FORGET = 30.0


# replacements for services of the cloud


@contextlib.contextmanager
def registry() -> Iterator[str]:
    """Start a registry on a free port of 127.0.0.1, yield its host name, and stop it."""
    program = shutil.which("docker-registry")
    if not program:
        raise BuildError("there is no docker-registry: apt-get install docker-registry")
    with tempfile.TemporaryDirectory(prefix="runwide-registry-") as folder:
        host = f"127.0.0.1:{_free_port()}"
        config = Path(folder, "config.yml")
        config.write_text(
            yaml.safe_dump(
                {
                    "version": 0.1,
                    "log": {"level": "error", "accesslog": {"disabled": True}},
                    "storage": {"filesystem": {"rootdirectory": f"{folder}/data"}},
                    "http": {"addr": host},
                }
            )
        )
        with Path(folder, "log").open("wb") as log:
            process = subprocess.Popen([program, "serve", str(config)], stdout=log, stderr=log)
        try:
            _wait_for(host, process, Path(folder, "log"))
            yield host
        finally:
            process.terminate()
            process.wait(timeout=10)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_for(host: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _SECONDS_TO_START
    while time.monotonic() < deadline and process.poll() is None:
        connection = http.client.HTTPConnection(host, timeout=2)
        with contextlib.closing(connection), contextlib.suppress(OSError):
            connection.request("GET", "/v2/")
            connection.getresponse().read()
            return
        time.sleep(0.05)
    raise BuildError(f"the registry did not start: {log.read_text(errors='replace')[-500:]}")


@contextlib.contextmanager
def advisories(path: Path | None) -> Iterator[str]:
    """Start a vulnerability service like OSV's ``/v1/query`` with a JSON list of advisories, and yield its address.

    Without a file, the address is empty, and the gate asks the real service.
    """
    if path is None:
        yield ""
        return
    known = json.loads(path.read_text(encoding="utf-8"))

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            answer = json.dumps({"vulns": [one for one in known if _concerns(one, asked)]}).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: Any) -> None:
            """Write no log: the client sees the answer."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/v1/query"
        finally:
            server.shutdown()
            thread.join()


def _concerns(advisory: dict[str, Any], asked: dict[str, Any]) -> bool:
    return any(
        affected["package"]["name"] == asked["package"]["name"]
        and asked["version"] in affected.get("versions", [])
        for affected in advisory["affected"]
    )


# running the build


class Machine:
    """The Docker engine of this machine, with the folder of one build."""

    def __init__(self, docker: str) -> None:
        self.docker = docker
        self.stand_ins: dict[str, str] = {}
        self.work = Path(tempfile.mkdtemp(prefix="runwide-cloudbuild-"))
        self.work.chmod(0o755)

    def output(self, *words: str) -> str:
        """Run a docker command, and return its output; an empty text if it fails."""
        ran = subprocess.run([self.docker, *words], capture_output=True, text=True, check=False)
        return ran.stdout.strip() if ran.returncode == 0 else ""

    def upload(self) -> None:
        """Copy the files that ``gcloud builds submit`` would upload: the checkout without ``.git`` and ignored files."""
        workspace = self.work / "workspace"
        workspace.mkdir(mode=0o755)
        (self.work / "home").mkdir(mode=0o755)
        listed = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=ROOT,
            check=True,
            capture_output=True,
        )
        for name in filter(None, listed.stdout.decode().split("\0")):
            source, target = ROOT / name, workspace / name
            if source.is_file():  # git also lists files whose deletion is not committed
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(source, target)

    def image(self, name: str) -> str:
        """Return the image for a step: the named one, or its replacement."""
        if self.output("image", "inspect", name):
            return name
        if name not in self.stand_ins:
            self.stand_ins[name] = name if self._pull(name) else self._stand_in(name)
        return self.stand_ins[name]

    def _pull(self, name: str) -> bool:
        with contextlib.suppress(subprocess.TimeoutExpired):
            command = [self.docker, "pull", "--quiet", name]
            return (
                subprocess.run(command, capture_output=True, check=False, timeout=_SECONDS_TO_PULL).returncode
                == 0
            )
        return False

    def _stand_in(self, name: str) -> str:
        python = re.fullmatch(r"python:(3\.\d+)-slim-bookworm", name)
        if not python and name != _DOCKER_BUILDER:
            raise BuildError(f"{name} cannot be pulled, and there is no replacement for it")
        version = python[1] if python else "3.11"
        base = f"runwide-local-base:py{version.replace('.', '')}"
        subprocess.run([ROOT / "docker" / "local-base", version, base], check=True)
        chosen = base if python else self._with_client(base)
        say(f"{name} cannot be pulled here: using {chosen} instead")
        return chosen

    def _with_client(self, base: str) -> str:
        """Build a builder image of a base and this machine's docker client, which needs only the C library."""
        tag = "runwide-local-builder:docker"
        with tempfile.TemporaryDirectory() as context:
            shutil.copy2(self.docker, Path(context, "docker"))
            recipe = f"FROM {base}\nCOPY docker /usr/bin/docker\n"
            subprocess.run(
                [self.docker, "build", "--quiet", "--tag", tag, "--file", "-", context],
                input=recipe.encode(),
                check=True,
                stdout=subprocess.DEVNULL,
                env={**os.environ, "DOCKER_BUILDKIT": "0"},
            )
        return tag

    def run(self, step: Step, seconds: float) -> None:
        """Run one step to its end.

        Raises:
            BuildError: The step failed, or the time of the build is over.
        """
        name = f"runwide-step-{uuid.uuid4().hex[:12]}"
        command = [self.docker, "run", "--rm", "--name", name, "--network", "host"]
        command += [
            "--volume",
            f"{self.work}/workspace:/workspace",
            "--volume",
            f"{self.work}/home:/builder/home",
        ]
        command += ["--volume", "/var/run/docker.sock:/var/run/docker.sock"]
        command += ["--workdir", f"/workspace/{step.folder}".rstrip("/"), "--env", "HOME=/builder/home"]
        command += _of_this_machine()
        command += [word for pair in step.env for word in ("--env", pair)]
        command += ["--entrypoint", step.entrypoint] if step.entrypoint else []
        command += [self.image(step.image), *step.args]
        try:
            ran = subprocess.run(command, check=False, timeout=seconds)
        except subprocess.TimeoutExpired:
            raise BuildError(f"step {step.id}: the build's time is over") from None
        finally:
            self.output("rm", "--force", name)
        if ran.returncode:
            raise BuildError(f"step {step.id} failed with {ran.returncode}")

    def push(self, image: str) -> str:
        """Push an image, and return its name with its digest in the registry."""
        subprocess.run([self.docker, "push", "--quiet", image], check=True, stdout=subprocess.DEVNULL)
        repository = image.rpartition(":")[0]
        known = json.loads(self.output("image", "inspect", "--format", "{{json .RepoDigests}}", image))
        return next(one for one in known if one.startswith(f"{repository}@"))

    def forget(self, host: str) -> None:
        """Remove all tags and digests of a registry from the engine.

        Raises:
            BuildError: Some are still there after a while.
        """
        deadline = time.monotonic() + _SECONDS_TO_FORGET
        while (names := self._known_of(host)) != []:
            if time.monotonic() > deadline:
                raise BuildError(f"the engine keeps {', '.join(names or ['images that it cannot list'])}")
            for name in names or []:
                self.output("image", "rm", "--force", name)  # fails while a container still uses the image

    def _known_of(self, host: str) -> list[str] | None:
        """Return the tags and digests of a registry in the engine; None if listing fails, as during another removal."""
        form = "{{.Repository}}\t{{.Tag}}\t{{.Digest}}"
        listed = subprocess.run(
            [self.docker, "images", "--digests", "--format", form],
            capture_output=True,
            text=True,
            check=False,
        )
        if listed.returncode:
            return None
        rows = [line.split("\t") for line in listed.stdout.splitlines() if line.startswith(f"{host}/")]
        return [f"{name}:{tag}" if tag != "<none>" else f"{name}@{digest}" for name, tag, digest in rows]

    def tidy(self) -> None:
        """Remove the workspace."""
        shutil.rmtree(self.work, ignore_errors=True)


def _of_this_machine() -> list[str]:
    """Return the options with which the steps reach package indexes from this machine."""
    words = []
    authorities = os.environ.get("PIP_CERT") or os.environ.get("SSL_CERT_FILE") or ""
    if Path(authorities).is_file():
        words += ["--volume", f"{authorities}:/builder/authorities.pem:ro"]
        words += ["--env", "PIP_CERT=/builder/authorities.pem"]
    for name in ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "http_proxy", "https_proxy", "no_proxy"):
        words += ["--env", name] if os.environ.get(name) else []
    return words


def say(text: str) -> None:
    """Print a line to standard error, unbuffered."""
    print(f"cloudbuild: {text}", file=sys.stderr, flush=True)


def carry_out(machine: Machine, build: Plan) -> dict[str, str]:
    """Run the steps, push the images, and return the name with digest of each.

    Raises:
        BuildError: A step failed, or no step has made one of the images; then no image is pushed.
    """
    deadline = time.monotonic() + build.seconds
    machine.upload()
    for number, step in enumerate(build.steps, start=1):
        say(f"step {number} of {len(build.steps)}: {step.id} in {step.image}")
        begin = time.monotonic()
        machine.run(step, deadline - begin)
        say(f"step {step.id} done in {time.monotonic() - begin:.0f} s")
    for image in build.images:
        if not machine.output("image", "inspect", image):
            raise BuildError(f"no step has made {image}")
    return {image: machine.push(image) for image in build.images}


def try_pushed(machine: Machine, host: str, pushed: str) -> None:
    """Run a pipeline in a pushed image, which is pulled by its digest."""
    machine.forget(host)
    if machine.output("image", "inspect", pushed):
        raise BuildError(f"{pushed} is still in the engine, so a pull would not test the registry")
    subprocess.run([machine.docker, "pull", "--quiet", pushed], check=True, stdout=subprocess.DEVNULL)
    ran = subprocess.run([sys.executable, ROOT / "tools" / "try_pipeline.py", pushed], check=False)
    if ran.returncode:
        raise BuildError(f"the pipeline in {pushed} failed")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("file", nargs="?", type=Path, default=ROOT / "cloudbuild.yaml")
    parser.add_argument("--project", default="runwide-local")
    parser.add_argument("--substitutions", default="", metavar="KEY=VALUE,…")
    parser.add_argument("--advisories", type=Path, help="a JSON list of advisories for the gate")
    parser.add_argument("--docker", default="docker", help="the client")
    return parser.parse_args()


def main() -> int:
    """Run the build, and print the pushed images."""
    asked = _arguments()
    given = dict(pair.split("=", 1) for pair in asked.substitutions.split(",") if pair)
    built_in = {"PROJECT_ID": asked.project, "BUILD_ID": str(uuid.uuid4()), "LOCATION": "local"}
    machine = Machine(shutil.which(asked.docker) or asked.docker)
    try:
        with registry() as host, advisories(asked.advisories) as osv:
            local = {"_HOST": host, "_BUILD_NETWORK": "host", **({"_OSV_URL": osv} if osv else {})}
            build = yaml.safe_load(asked.file.read_text(encoding="utf-8"))
            try:
                pushed = carry_out(machine, plan(build, {**local, **given}, built_in))
                for image, digest in pushed.items():
                    say(f"pushed {image} as {digest}")
                try_pushed(machine, host, next(iter(pushed.values())))
            finally:
                machine.forget(host)
    except BuildError as error:
        say(str(error))
        return 1
    finally:
        machine.tidy()
    if asked.advisories:
        say(
            f"the gate asked a service that knows {asked.advisories} only: this tests the gate, and not the packages"
        )
    say("every step passed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
