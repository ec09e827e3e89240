"""Measure the time from the start of a container to the first line of the user's code, and the size of the image.

    measure.py [--image runwide:dev] [--base IMAGE] [--runs 15] [--write]

This needs a Docker engine and, for the row that installs kfp at each start, a package index. The ways to start take turns,
so that a busy moment affects all of them. The table has medians and quartiles; ``--write`` puts it into docs/start.md.

The goal: in a running container, `runwide shard` reaches the function's first line no later than kfp's own lightweight
component with its pip step, if kfp is in the image and there is no network.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

PAGE = Path(__file__).parents[1] / "docs" / "start.md"
BEGIN, END = "<!-- measured by docker/measure.py -->", "<!-- end of what was measured -->"
PIP_STEP = "lightweight component, kfp's pip step"
FIRST_LINE = "import time; print(time.time(), flush=True)"


# A program that compiles a lightweight component in the image, and prints the command that an engine would start.
_COMPILE = """
import json, yaml
from kfp import compiler, dsl

def first_line():
    import time
    print(time.time(), flush=True)

found = {}
for name, install in (("with", True), ("without", False)):
    component = dsl.component(first_line, base_image="image", install_kfp_package=install)
    compiler.Compiler().compile(component, "/tmp/c.yaml")
    spec = next(yaml.safe_load_all(open("/tmp/c.yaml")))
    container = next(iter(spec["deploymentSpec"]["executors"].values()))["container"]
    found[name] = container["command"] + container["args"]
print(json.dumps(found))
"""
_EXECUTOR_INPUT = json.dumps({"inputs": {}, "outputs": {"outputFile": "/tmp/output.json"}})  # noqa: S108 - in the container
_SHARD_FUNCTION = """
import time

def first_line(item):
    with open(f"/store/first-{item}", "w") as file:
        file.write(str(time.time()))
"""
# A program that starts each way in turn in one running container, and prints the medians in milliseconds.
_STARTED = f"""
import json, statistics, subprocess, sys, time
from pathlib import Path

job, runs, lightweight = sys.argv[1], int(sys.argv[2]), json.loads(Path("/store/lightweight.json").read_text())
found = {{"bare": [], "shard": [], "kfp": []}}

def printed(command):
    begin = time.time()
    words = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    return next(float(word) for word in words if word.replace(".", "", 1).isdigit()) - begin

for run in range(runs + 1):
    found["bare"].append(printed(["python3", "-c", {FIRST_LINE!r}]))
    begin = time.time()
    subprocess.run(["runwide", "shard", job, str(run), "--workers", "1"], check=True, capture_output=True)
    found["shard"].append(float(Path(f"/store/first-{{run}}").read_text()) - begin)
    found["kfp"].append(printed(lightweight))
print(json.dumps({{name: 1000 * statistics.median(seconds[1:]) for name, seconds in found.items()}}))
"""


@dataclass(frozen=True, slots=True)
class Way:
    """One way to start a component.

    Args:
        name: What the table calls it.
        image: The image.
        command: The words of its command; ``{run}`` is the number of the run.
        options: Further options of ``docker create``.
        file: The file in the store that gets the time of the first line; None if the time is printed.
    """

    name: str
    image: str
    command: list[str]
    options: list[str] = field(default_factory=list)
    file: str | None = None


def docker(*words: str, check: bool = True) -> str:
    """Run a docker command, and return its output."""
    ran = subprocess.run(["docker", *words], capture_output=True, text=True, check=False)
    if check and ran.returncode:
        sys.exit(f"docker {' '.join(words)[:200]}: {ran.stderr.strip()[-500:]}")
    return ran.stdout.strip()


def seconds(way: Way, run: int, store: Path) -> float:
    """Return the seconds from the start of a container to the user's first line in it."""
    command = [word.replace("{run}", str(run)) for word in way.command]
    container = docker("create", *way.options, way.image, *command)
    try:
        begin = time.time()
        printed = docker("start", "--attach", container)
        moment = (store / way.file.replace("{run}", str(run))).read_text() if way.file else printed
        numbers = [word for word in moment.split() if word.replace(".", "", 1).isdigit()]
        if not numbers:
            sys.exit(f"{way.name}: {docker('logs', container)[-500:]} {moment[-500:]}")
        return float(numbers[-1]) - begin
    finally:
        docker("rm", "--force", container)


def compiled(image: str, store: Path) -> dict[str, list[str]]:
    """Return the commands of a lightweight component, with and without kfp's pip step."""
    (store / "compile.py").write_text(_COMPILE)
    mounted = ["run", "--rm", "--network", "none", "--volume", f"{store}:/store:ro"]
    found = json.loads(docker(*mounted, image, "python3", "/store/compile.py"))
    return {name: [word.replace("{{$}}", _EXECUTOR_INPUT) for word in words] for name, words in found.items()}


def ways(image: str, base: str, origin: str, job: str, store: Path) -> list[Way]:
    """Return the ways to start that are compared, bare Python first."""
    lightweight = compiled(image, store)
    # All containers mount the store's folder, although only one needs it, since mounting takes time.
    alone = ["--network", "none", "--volume", f"{store}:/store", "--user", f"{os.getuid()}:{os.getgid()}"]
    bare = ["python3", "-c", FIRST_LINE]
    return [
        Way("bare `python3 -c`, on the base alone", base, bare, alone),
        Way("bare `python3 -c`", image, bare, alone),
        Way(
            "container component, a program that imports runwide",
            image,
            ["python3", "-c", f"import runwide\n{FIRST_LINE}"],
            alone,
        ),
        Way(
            "container component, `runwide shard`: the function in its worker",
            image,
            ["runwide", "shard", job, "{run}", "--workers", "1"],
            alone,
            "first-{run}",
        ),
        Way("lightweight component, `install_kfp_package=False`", image, lightweight["without"], alone),
        Way(PIP_STEP, image, lightweight["with"], alone),
        Way(
            "the same on a base without kfp: kfp is installed at each start",
            origin,
            lightweight["with"],
            _networked(),
        ),
    ]


def _networked() -> list[str]:
    words = ["--network", "host"]
    authorities = os.environ.get("PIP_CERT") or os.environ.get("SSL_CERT_FILE") or ""
    if Path(authorities).is_file():
        words += ["--volume", f"{authorities}:/authorities.pem:ro", "--env", "PIP_CERT=/authorities.pem"]
    for name in ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "http_proxy", "https_proxy", "no_proxy"):
        words += ["--env", name] if os.environ.get(name) else []
    return words


def make_origin(base: str) -> str:
    """Build an image that users start from: a base with pip, and without kfp."""
    tag = "runwide-measure:origin"
    recipe = f"FROM {base}\nRUN python3 -m venv /venv\nENV PATH=/venv/bin:/usr/local/bin:/usr/bin:/bin\n"
    with tempfile.TemporaryDirectory() as context:
        command = ["docker", "build", "--quiet", "--tag", tag, "--file", "-", context]
        environment = {**os.environ, "DOCKER_BUILDKIT": "0"}
        subprocess.run(command, input=recipe.encode(), check=True, capture_output=True, env=environment)
    return tag


def in_image(image: str, store: Path, *command: str, limits: tuple[str, ...] = ()) -> str:
    """Run a command in a new container, as the calling user and without a network, and return its output."""
    options = ["--network", "none", "--user", f"{os.getuid()}:{os.getgid()}", "--workdir", "/store", *limits]
    return docker("run", "--rm", *options, "--volume", f"{store}:/store", image, *command)


def make_job(image: str, store: Path, runs: int) -> str:
    """Make a job with one item for each run, each item in its own shard."""
    (store / "starts.py").write_text(_SHARD_FUNCTION)
    items = ["--items-json", json.dumps(list(range(runs))), "--shards", str(runs)]
    where = ["--function", "starts:first_line", "--store", "/store/jobs"]
    return in_image(image, store, "runwide", "scatter", *where, *items).splitlines()[-1]


@dataclass(frozen=True, slots=True)
class Started:
    """Median milliseconds to the first line in a running container.

    Args:
        bare: Of ``python3 -c``.
        shard: Of the function that `runwide shard` runs.
        kfp: Of kfp's lightweight component with its pip step.
    """

    bare: float
    shard: float
    kfp: float

    def __str__(self) -> str:
        return (
            f"bare Python {self.bare:.0f} ms, `runwide shard` {self.shard:.0f} ms, "
            f"kfp's lightweight component with its pip step {self.kfp:.0f} ms"
        )

    def verdict(self) -> str:
        """Return a sentence that says whether the goal is met."""
        word = "met" if self.shard <= self.kfp else "MISSED"
        return f"The goal that `runwide shard` is no slower than that is {word} ({self.shard / self.kfp:.2f} times)"


def started(image: str, store: Path, runs: int, *limits: str) -> Started:
    """Measure in one container."""
    (store / "started.py").write_text(_STARTED)
    (store / "lightweight.json").write_text(json.dumps(compiled(image, store)["with"]))
    job = make_job(image, store, runs + 1)
    command = ["python3", "/store/started.py", job, str(runs)]
    return Started(**json.loads(in_image(image, store, *command, limits=limits)))


def table(measured: dict[str, list[float]], listed: list[Way]) -> str:
    """Return the table in Markdown."""
    pip_step = statistics.median(measured[PIP_STEP])
    lines = [
        "| start | seconds: median (quartiles) | times kfp's pip step | image, MB |",
        "|---|---|---|---|",
    ]
    for way in listed:
        low, middle, high = statistics.quantiles(measured[way.name], n=4)
        size = int(docker("image", "inspect", "--format", "{{.Size}}", way.image)) / 1e6
        lines.append(
            f"| {way.name} | {middle:.2f} ({low:.2f} to {high:.2f}) | {middle / pip_step:.2f} | {size:.0f} |"
        )
    return "\n".join(lines)


def write(text: str) -> None:
    """Put the table into its page."""
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    PAGE.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}", encoding="utf-8")


def main() -> int:
    """Measure, and print the table and whether the goal is met."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--image", default=os.environ.get("RUNWIDE_IMAGE") or "runwide:dev")
    parser.add_argument("--base", help="default: the base image in the labels of the image")
    parser.add_argument("--runs", type=int, default=15)
    parser.add_argument("--write", action="store_true", help="into docs/start.md")
    asked = parser.parse_args()
    label = '{{index .Config.Labels "org.opencontainers.image.base.name"}}'
    base = asked.base or docker("image", "inspect", "--format", label, asked.image)
    origin = make_origin(base)
    with tempfile.TemporaryDirectory(prefix="runwide-measure-") as folder:
        store = Path(folder)
        store.chmod(0o755)  # the user of the image reads programs there
        listed = ways(asked.image, base, origin, make_job(asked.image, store, asked.runs + 1), store)
        measured: dict[str, list[float]] = {way.name: [] for way in listed}
        for run in range(asked.runs + 1):
            for way in listed:
                measured[way.name].append(seconds(way, run, store))
        for found in measured.values():
            del found[0]  # the first start reads the image from disk
        wide = started(asked.image, store, asked.runs)
        narrow = started(asked.image, store, asked.runs, "--cpuset-cpus", str(min(os.sched_getaffinity(0))))
        listing = table(measured, listed)
    docker("image", "rm", origin, check=False)
    engine = docker("version", "--format", "{{.Server.Version}}")
    text = (
        f"{listing}\n\n{asked.runs} starts of each, in turn; {os.cpu_count()} CPUs, Docker {engine}, "
        f"Linux {platform.release().split('-')[0]}, base `{base}`; "
        f"on average {os.getloadavg()[1]:.1f} processes wanted a CPU meanwhile.\n\n"
        f"In a container that runs already, to the first line: {wide}. {wide.verdict()}. On one CPU: {narrow}."
    )
    print(text)
    if asked.write:
        write(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
