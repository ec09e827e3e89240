"""Runs of the program in ``own_code``, for each way to compile it and for each engine."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import subprocess
import sysconfig
import venv
from importlib.metadata import entry_points
from itertools import count
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import nbformat

if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextlib import ExitStack

HERE = Path(__file__).parents[1] / "pipelines" / "own_code"
MODULES = "asked|beside|bulk|chain|farm|space"
CODE = {"asked-for": ["--code", "extra"]}
ITEMS = {"classes": [0, 1, 2, 3], "classes-in-program": [0, 1, 2, 3]}
TARGETS = {
    "beside": "beside:triple", "package": "farm.deep.deeper.work:scaled", "namespace": "space.inner.part:parted",
    "editable": "toolbox:used", "editable-by-hook": "gadgets.made:made",
    "second-helper": "chain:chained", "in-program": "pipe:of_program",
    "lambda": "pipe:by_lambda", "partial": "pipe:by_partial", "bound-method": "pipe:by_method",
    "decorated": "pipe:decorated", "decorated-in-module": "chain:doubled", "callable": "pipe:by_object",
    "attribute": "pipe:with_attribute", "classes": "farm.kinds:mirrored", "classes-in-program": "pipe:mirrored_here",
    "import-inside": "pipe:imports_inside", "data-file": "farm.files:looked_up", "large": "bulk.sizes:measured",
    "classmethod": "farm.kinds:Plain.made", "staticmethod": "farm.kinds:Plain.coloured",
    "constant": "pipe:by_constant", "asked-for": "asked:labelled",
}  # fmt: skip
"""The functions by the names that commands know them by."""


REGISTRY = (
    "europe-west1-docker.pkg.dev/shop/runwide/runwide:0.1.0-py311"  # the local servers run no containers
)
FINDER = """
import sys
from importlib.util import spec_from_file_location

class Finder:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name == "gadgets":
            return spec_from_file_location(name, {folder!r} + "/__init__.py")

sys.meta_path.append(Finder)
"""
"""What setuptools installs for an editable package whose folder is not to be searched: a finder of that package alone."""


class Failed(Exception):
    """A program has failed; the message is its output."""


class Client:
    """A user's machine: an interpreter with runwide and a package that is installed editable, and empty folders.

    Args:
        folder: The folder for all files.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self._numbers = folder, count()
        self.source = folder / "installed" / "src"
        shutil.copytree(HERE / "src", self.source)
        shutil.copytree(HERE / "hooked", folder / "hooked")
        venv.EnvBuilder(symlinks=True).create(folder / "venv")
        self.bin = folder / "venv" / "bin"
        site = Path(sysconfig.get_path("purelib", vars={"base": str(folder / "venv")}))
        (site / "here.pth").write_text(f"import site; site.addsitedir({sysconfig.get_path('purelib')!r})\n")
        self._install_editable(site)
        for name in ("kfp", "runwide"):
            self._command(name)

    def _install_editable(self, site: Path) -> None:
        """Install two editable packages as installers do: one by a path file, one by an import hook."""
        (site / "toolbox.pth").write_text(f"{self.source}\n")
        (site / "_gadgets_finder.py").write_text(
            FINDER.format(folder=str(self.folder / "hooked" / "gadgets"))
        )
        (site / "gadgets.pth").write_text("import _gadgets_finder\n")
        about = site / "toolbox-1.0.dist-info"
        about.mkdir()
        (about / "METADATA").write_text("Metadata-Version: 2.1\nName: toolbox\nVersion: 1.0\n")
        (about / "RECORD").write_text("toolbox.pth,,\n")
        came_from = {"url": self.source.parent.as_uri(), "dir_info": {"editable": True}}
        (about / "direct_url.json").write_text(json.dumps(came_from))

    def _command(self, name: str) -> None:
        (point,) = entry_points(group="console_scripts", name=name)
        path = self.bin / name
        path.write_text(
            f"#!{self.bin}/python\nimport sys\nfrom {point.module} import {point.attr}\nsys.exit({point.attr}())\n"
        )
        path.chmod(0o755)

    def empty(self, name: str = "empty") -> Path:
        """Make an empty folder."""
        folder = self.folder / f"{name}-{next(self._numbers)}"
        folder.mkdir()
        return folder

    def project(self) -> Path:
        """Make a folder with the program and its modules beside it."""
        folder = self.empty("project")
        for path in HERE.iterdir():
            if path.is_dir() and path.name not in ("src", "hooked", "__pycache__"):
                shutil.copytree(path, folder / path.name, ignore=shutil.ignore_patterns("__pycache__"))
            elif path.suffix == ".py" and path.name not in ("submit.py", "build.py", "notebook.py"):
                shutil.copy(path, folder)
        noise = random.Random(17).randbytes(150_000)  # the same bytes each time, which do not compress
        (folder / "bulk" / "noise.bin").write_bytes(noise)
        return folder

    def packaged(self) -> Path:
        """Make a folder with a package of the program and its modules, which import each other relatively."""
        folder = self.empty("packaged")
        package = folder / "shop"
        self.project().rename(package)
        (package / "__init__.py").write_text('"""A package with a pipeline."""\n')
        for path in package.glob("*.py"):
            text = re.sub(rf"^( *)from ({MODULES})\b", r"\1from .\2", path.read_text(), flags=re.MULTILINE)
            text = re.sub(rf"^( *)import ({MODULES})$", r"\1from . import \2", text, flags=re.MULTILINE)
            path.write_text(text)
        shutil.copy(HERE / "build.py", folder)
        return folder

    def run(self, command: list[str], where: Path, **variables: str) -> str:
        """Run a program with only these variables, and return its output.

        Raises:
            Failed: The program has failed.
        """
        done = subprocess.run(
            command, cwd=where, env=variables, capture_output=True, text=True, check=False, timeout=600
        )
        if done.returncode:
            raise Failed(f"{command} failed in {where}:\n{done.stdout[-6000:]}\n{done.stderr[-6000:]}")
        return done.stdout


class Engines:
    """The engines of a client, in programs and on the command line, and their stores.

    Args:
        request: pytest's request of the test.
        emulator: The emulator with the store of the engines in the cloud.
    """

    def __init__(self, request: Any, emulator: Any, stack: ExitStack) -> None:
        self._request, self._emulator, self._stack = request, emulator, stack
        self._servers: dict[str, Any] = {}

    def server(self, name: str) -> Any:
        """Return the server of an engine in the cloud."""
        if name not in self._servers:
            if name == "vertex":
                from vertex_server import VertexServer as Server
            else:
                from kubeflow_server import KubeflowServer as Server
            self._servers[name] = self._stack.enter_context(Server())
        return self._servers[name]

    def made_by(self, name: str) -> list[Any]:
        """Return the class, arguments and options with which a program makes an engine."""
        if name in ("subprocess", "docker"):
            return ["Local", [name], {}]
        if name == "kubeflow":
            return ["Kubeflow", [self.server(name).url], {"poll": [0.1, 0.5], "token": "secret"}]
        options = {"pipeline_root": self.root(), "poll": [0.1, 0.5]}
        return ["Vertex", ["shop", "europe-west1"], options]

    def options(self, name: str) -> list[str]:
        """Return the engine's options on the command line."""
        if name == "kubeflow":
            return ["--engine", name, "--host", self.server(name).url]
        if name == "vertex":
            project = ["--project", "shop", "--location", "europe-west1"]
            return ["--engine", name, *project, "--pipeline-root", self.root()]
        return ["--engine", name]

    def variables(self, name: str) -> dict[str, str]:
        """Return the variables with which the client finds the servers and the image."""
        if name == "docker":
            engine = {key: value for key, value in os.environ.items() if key.startswith("DOCKER_")}
            return {"RUNWIDE_IMAGE": self._request.getfixturevalue("image_of_this_python"), **engine}
        if name == "subprocess":
            return {}
        found = {"STORAGE_EMULATOR_HOST": self._emulator.url, "RUNWIDE_IMAGE": REGISTRY}
        if name == "vertex":
            found["CLOUDSDK_API_ENDPOINT_OVERRIDES_AIPLATFORM"] = self.server(name).url
        return found

    def root(self) -> str:
        return f"gs://{self._emulator.bucket}/matrix-root"

    def store(self, name: str, way: str, folder: Path) -> str:
        """Return an empty store that the engine's steps can use."""
        return (
            f"gs://{self._emulator.bucket}/matrix-{os.getpid()}-{name}-{way}-{folder.name}"
            if name in ("vertex", "kubeflow")
            else str(folder)
        )


class Ways:
    """The ways to run the program, by name; each returns the result of each shape.

    Args:
        client: The user's machine.
        engines: The engines.
    """

    def __init__(self, client: Client, engines: Engines) -> None:
        self.client, self.engines = client, engines
        self._found: dict[tuple[str, str], dict[str, Any]] = {}
        self.python = str(client.bin / "python")

    def verdict(self, way: str, engine: str, shape: str, together: list[str]) -> dict[str, Any]:
        """Run some shapes once in one program, and return the result of one; if that fails, run this shape alone.

        Raises:
            Failed: The program fails also with this shape alone.
        """
        key = way, engine
        if key not in self._found:
            try:
                self._found[key] = self._run(way, engine, together)
            except Failed:
                if together == [shape]:
                    raise
                self._found[key] = {}
        known = self._found[key]
        if shape not in known:
            known |= self._run(way, engine, [shape])
        return known[shape]

    def _run(self, way: str, engine: str, shapes: list[str]) -> dict[str, Any]:
        store = self.engines.store(engine, way, self.client.empty("store"))
        tasks = {"shapes": shapes, "store": store, "engine": self.engines.made_by(engine), "do": "pipeline"}
        said = getattr(self, f"_{way.replace('-', '_')}")(tasks, engine)
        (line,) = [line for line in said.splitlines() if line.startswith("VERDICTS ")]
        return json.loads(line.removeprefix("VERDICTS "))

    def _python(
        self, words: list[str], where: Path, tasks: dict[str, Any], engine: str, *, do: str | None = None,
        variables: Mapping[str, str] = MappingProxyType({}),
    ) -> str:  # fmt: skip
        asked = json.dumps({**tasks, "do": do or tasks["do"]})
        given = {"MATRIX": asked, **self.engines.variables(engine), **variables}
        return self.client.run([self.python, *words], where, **given)

    def _script(self, tasks: dict[str, Any], engine: str) -> str:
        return self._python(["pipe.py"], self.client.project(), tasks, engine)

    def _script_elsewhere(self, tasks: dict[str, Any], engine: str) -> str:
        path = self.client.project() / "pipe.py"
        return self._python([str(path)], self.client.empty(), tasks, engine)

    def _kfp_compile(self, tasks: dict[str, Any], engine: str) -> str:
        project, other = self.client.project(), self.client.empty()
        out = other / "pipeline.yaml"
        words = ["dsl", "compile", "--py", "pipe.py", "--output", str(out), "--function", "shapes"]
        self._python([str(self.client.bin / "kfp"), *words], project, tasks, engine)
        shutil.copy(HERE / "submit.py", other)
        self._python(["submit.py", out.name], other, tasks, engine)
        return self._python(["read.py"], project, tasks, engine, do="commands")

    def _module(self, tasks: dict[str, Any], engine: str) -> str:
        return self._python(["-m", "shop.pipe"], self.client.packaged(), tasks, engine)

    def _build_script(self, tasks: dict[str, Any], engine: str) -> str:
        return self._python(["build.py"], self.client.packaged(), tasks, engine)

    def _command_text(self, tasks: dict[str, Any], engine: str) -> str:
        project = self.client.project()
        return self._python(["-c", (project / "pipe.py").read_text()], project, tasks, engine)

    def _components(self, tasks: dict[str, Any], engine: str) -> str:
        return self._python(["pipe.py"], self.client.project(), tasks, engine, do="components")

    def _notebook(self, tasks: dict[str, Any], engine: str) -> str:
        project = self.client.project()
        text = (project / "pipe.py").read_text()
        cells = [nbformat.v4.new_code_cell(cell) for cell in re.split(r"\n\n\n(?=@dsl|class Shape)", text)]
        nbformat.write(nbformat.v4.new_notebook(cells=cells), project / "pipe.ipynb")
        (project / "pipe.py").unlink()
        program, home = str(HERE / "notebook.py"), str(self.client.empty("home"))
        variables = {"HOME": home, "IPYTHONDIR": home, "JUPYTER_RUNTIME_DIR": home}
        return self._python([program, "pipe.ipynb"], project, tasks, engine, variables=variables)

    def _submit(self, tasks: dict[str, Any], engine: str) -> str:
        project = self.client.project()
        for shape in tasks["shapes"]:
            items = project / f"{shape}.json"
            items.write_text(json.dumps(ITEMS.get(shape, [1, 2])))
            words = [TARGETS[shape], items.name, "--store", f"{tasks['store']}/{shape}"]
            wait = [] if engine in ("subprocess", "docker") else ["--wait"]
            words += ["--components", "1", *wait, *self.engines.options(engine), *CODE.get(shape, [])]
            self._python([str(self.client.bin / "runwide"), "submit", *words], project, tasks, engine)
        return self._python(["read.py"], project, tasks, engine, do="commands")

    def _map(self, tasks: dict[str, Any], engine: str) -> str:
        project = self.client.project()
        jobs = json.loads(self._python(["pipe.py"], project, tasks, engine, do="begin").splitlines()[-1])
        for job in jobs:
            self._shard(job, tasks["store"], engine)
        return self._python(["pipe.py"], project, tasks, engine, do="map")

    def _shard(self, job: str, store: str, engine: str) -> None:
        if engine == "subprocess":
            runwide = [str(self.client.bin / "runwide"), "shard", job, "0"]
            self.client.run(runwide, self.client.empty())
            return
        user = f"{os.getuid()}:{os.getgid()}"
        words = ["run", "--rm", "--network", "none", "--user", user, "-v", f"{store}:{store}"]
        image = self.engines.variables(engine)["RUNWIDE_IMAGE"]
        command = ["docker", *words, image, "runwide", "shard", job, "0"]
        self.client.run(command, self.client.empty(), PATH=os.environ["PATH"])
