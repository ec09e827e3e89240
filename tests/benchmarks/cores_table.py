"""Counts the recorded machines with runwide and its peers, and writes the table of ``docs/cores.md``.

Each machine is counted in a process of its own, in a mount namespace of its own, in which the machine's
``/sys`` and ``/proc`` are mounted over the real ones: every peer reads its usual paths, unchanged, and whatever
it starts (joblib starts ``lscpu``) does too. Mounts do not suffice in two cases:

- ``os.sched_getaffinity`` is a system call, which no mount reaches: in these processes, the Python function is
  replaced by one that gives the ``Cpus_allowed_list`` of the machine, less the CPUs that are offline, as the kernel does.
  All counters, runwide included, call that function.
- The trees hold what runwide reads. What peers read beyond it is derived from the same facts: the ``cpuN`` lines of
  ``/proc/stat``, the lists of possible and present CPUs, the hexadecimal forms of the lists of siblings, and in
  ``/proc/cpuinfo`` the numbers of cores and siblings and the CPU's model.

Peers are asked the question in their own words for "how many workers for CPU-bound work": loky and joblib for
``cpu_count(only_physical_cores=True)``, psutil for ``cpu_count(logical=False)``.

    python tests/benchmarks/cores_table.py            # prints the table; needs loky, joblib and psutil
    python tests/benchmarks/cores_table.py --write    # writes it into docs/cores.md

Needs ``unshare`` and ``mount`` of util-linux, and root or unprivileged user namespaces. Python 3.13 or newer has
``os.process_cpu_count``; with an older one its column is computed as CPython 3.13 does, from the affinity.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).parents[2]
TREES = ROOT / "tests" / "fixtures" / "host"
PAGE = ROOT / "docs" / "cores.md"
MARKS = "<!-- written by tests/benchmarks/cores_table.py -->", "<!-- end -->"
COUNTERS = ("runwide", "loky", "joblib", "psutil", "os.cpu_count", "os.process_cpu_count")

# tree, what it is, the right number of workers for CPU-bound work
ROWS = (
    ("gce-e2-standard-4", "e2-standard-4: 4 vCPUs, 2 cores", 2),
    ("gce-n2-standard-8", "n2-standard-8: 8 vCPUs, 4 cores", 4),
    ("gce-c3-standard-22", "c3-standard-22: 22 vCPUs, 11 cores", 11),
    ("gce-t2d-standard-8", "t2d-standard-8: 8 vCPUs, 8 cores", 8),
    ("gce-c2-standard-60-one-thread", "c2-standard-60, `threadsPerCore=1`: 30 cores", 30),
    ("two-socket-numa", "2 sockets x 8 cores x 2 threads", 16),
    ("hybrid-laptop", "4 performance cores x 2 threads, 8 efficiency cores", 12),
    ("arm-server", "Arm server, 16 cores", 16),
    ("offline-cpus", "4 cores x 2 threads, 2 CPUs offline", 4),
    ("gke-pod-7.5-of-8", "4 cores x 2 threads, quota 7.5 (GKE pod)", 4),
    ("quota-7.0", "4 cores x 2 threads, quota 7.0", 4),
    ("quota-2.5", "4 cores x 2 threads, quota 2.5", 3),
    ("docker-cpus-1.5", "4 cores x 2 threads, v1 quota 1.5", 2),
    ("docker-cpuset-cpus-0", "4 cores x 2 threads, cpuset of one CPU", 1),
    ("affinity-one-core", "affinity to the 2 threads of one core", 1),
    ("affinity-two-cores-quota-3", "affinity to 2 cores, quota 3", 2),
    ("leaf-max-parent-2", "4 cores, leaf cgroup without a limit, parent 2", 2),
    ("cgroup-v2-nested", "4 cores, limits at two levels above, 6 and 2", 2),
    ("host-namespace-quota-3", "4 cores, host's cgroup namespace, own quota 3", 3),
    ("v1-cpu-cpuacct-quota-3", "4 cores, v1 mounted at `cpu,cpuacct`, quota 3", 3),
    ("cgroup-v1-nested", "4 cores, v1, nested containers, quota 3 above", 3),
    ("lxcfs", "lxcfs, CPUs 8, 9, 24 and 25 of 32: 2 cores", 2),
    ("no-sysfs", "4 cores x 2 threads, no /sys", 4),
    ("recorded-qemu-smt", "QEMU guest, 2 cores x 2 threads (recorded)", 2),
    ("recorded-docker-cpus-1.5", "Docker, v1 quota 1.5 on 2 cores (recorded)", 2),
    ("recorded-firecracker", "Firecracker guest, 2 vCPUs (recorded)", 2),
)


def main() -> None:
    """Print the table, or write it."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--write", action="store_true", help="write the table into docs/cores.md")
    parser.add_argument("--count", metavar="DIRECTORY", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.count:
        print(json.dumps(count_here(Path(arguments.count))))
        return
    text = table({name: count(name) for name, _, _ in ROWS})
    if arguments.write:
        write(text)
    else:
        print(text)


def write(text: str) -> None:
    """Put the table into its page."""
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(MARKS[0])
    after = rest.partition(MARKS[1])[2]
    PAGE.write_text(f"{before}{MARKS[0]}\n\n{text}\n{MARKS[1]}{after}", encoding="utf-8")


def count(name: str) -> dict[str, int | None]:
    """Return the result of each counter on a recorded machine."""
    sys.path.insert(0, str(ROOT / "runtime"))
    from runwide.host.measuring import recording

    with tempfile.TemporaryDirectory() as directory:
        root = recording.unpack((TREES / f"{name}.tree").read_text(encoding="utf-8"), directory)
        complete(root)
        as_root = [] if os.geteuid() == 0 else ["--map-root-user"]
        ran = subprocess.run(
            ["unshare", "--mount", *as_root, sys.executable, __file__, "--count", str(root)],
            env={**os.environ, "PYTHONPATH": str(ROOT / "runtime"), "RUNWIDE_WORKERS": ""},
            capture_output=True,
            text=True,
            check=False,
        )
    if ran.returncode:
        sys.exit(f"{name}: {ran.stderr}")
    return json.loads(ran.stdout.splitlines()[-1])


def complete(root: Path) -> None:
    """Add what only the peers read."""
    from runwide.host.topology import format_cpulist, parse_cpulist

    cpu = root / "sys/devices/system/cpu"
    processors = re.findall(r"^processor\s*:\s*(\d+)", (root / "proc/cpuinfo").read_text(), re.MULTILINE)
    online = cpu / "online"
    cpus = parse_cpulist(online.read_text()) if online.exists() else frozenset(map(int, processors))
    stat = root / "proc/stat"
    stat.write_text(stat.read_text() if stat.exists() else "cpu  0 0 0 0 0 0 0 0 0 0\n")
    with stat.open("a") as file:
        file.writelines(f"cpu{number} 0 0 0 0 0 0 0 0 0 0\n" for number in sorted(cpus))
    _complete_cpuinfo(root / "proc/cpuinfo")
    directories = {
        int(path.name[3:]): path / "topology"
        for path in cpu.glob("cpu[0-9]*")
        if (path / "topology").is_dir()
    }
    siblings = {number: parse_cpulist(_cores_list(path)) for number, path in directories.items()}
    # A recording keeps each core once; the other threads' files say the same.
    for number, threads in list(siblings.items()):
        for other in threads - siblings.keys():
            siblings[other] = threads
            directories[other] = cpu / f"cpu{other}" / "topology"
            directories[other].mkdir(parents=True)
            (directories[other] / "core_cpus_list").write_text(format_cpulist(threads))
            (directories[other] / "physical_package_id").write_text(
                _text(directories[number] / "physical_package_id")
            )
    if not siblings:
        return
    packages = {number: _text(path / "physical_package_id") for number, path in directories.items()}
    for number, path in directories.items():
        package = {other for other in packages if packages[other] == packages[number]}
        for name in ("core_cpus", "thread_siblings"):
            (path / name).write_text(_mask(siblings[number]))
        for name in ("package_cpus", "core_siblings"):
            (path / name).write_text(_mask(package))
    for name in ("possible", "present"):
        (cpu / name).write_text(format_cpulist(range(max(siblings) + 1)))


def _complete_cpuinfo(path: Path) -> None:
    """psutil reads the number of cores here; lscpu takes a CPU without a model for none."""
    blocks = path.read_text().strip().split("\n\n")
    places = [re.findall(r"^(?:physical|core) id\s*: (\d+)", block, re.MULTILINE) for block in blocks]
    for number, (block, place) in enumerate(zip(blocks, places, strict=True)):
        if not place:
            arm = "CPU implementer\t: 0x41\nCPU architecture: 8\nCPU variant\t: 0x3\nCPU part\t: 0xd0c\nCPU revision\t: 1"
            blocks[number] = f"{block}\n{arm}"
            continue
        package = [other for other in places if other and other[0] == place[0]]
        cores = len({other[1] for other in package})
        model = "vendor_id\t: GenuineIntel\ncpu family\t: 6\nmodel\t\t: 85\nmodel name\t: CPU\nstepping\t: 7"
        blocks[number] = f"{block}\n{model}\nsiblings\t: {len(package)}\ncpu cores\t: {cores}"
    path.write_text("\n\n".join(blocks) + "\n")


def _text(path: Path) -> str:
    return path.read_text() if path.exists() else "0"


def _cores_list(path: Path) -> str:
    for name in ("core_cpus_list", "thread_siblings_list"):
        if (path / name).exists():
            return (path / name).read_text()
    return ""


def _mask(cpus) -> str:
    digits = f"{sum(1 << cpu for cpu in cpus):x}"
    digits = digits.zfill(-(-len(digits) // 8) * 8)
    return ",".join(digits[start : start + 8] for start in range(0, len(digits), 8))


def count_here(root: Path) -> dict[str, int | None]:
    """In a mount namespace of its own: become the machine, and ask each counter."""
    import warnings

    import joblib
    import loky
    import psutil

    from runwide.host import cores
    from runwide.host.topology import parse_cpulist

    status = (root / "proc/self/status").read_text()
    allowed = set(parse_cpulist(re.search(r"Cpus_allowed_list:\s*(\S+)", status)[1]))
    topology = {int(path.name[3:]) for path in (root / "sys/devices/system/cpu").glob("cpu[0-9]*")}
    running = allowed & topology if topology else allowed
    (root / "sys").mkdir(exist_ok=True)
    for name in ("sys", "proc"):
        subprocess.run(["mount", "--bind", str(root / name), f"/{name}"], check=True)
    os.sched_getaffinity = lambda _pid: set(running)
    warnings.simplefilter("ignore")
    process_cpu_count = getattr(os, "process_cpu_count", lambda: len(os.sched_getaffinity(0)))
    return {
        "runwide": cores().count,
        "loky": loky.cpu_count(only_physical_cores=True),
        "joblib": joblib.cpu_count(only_physical_cores=True),
        "psutil": psutil.cpu_count(logical=False),
        "os.cpu_count": os.cpu_count(),
        "os.process_cpu_count": process_cpu_count(),
    }


def table(counts: dict[str, dict[str, int | None]]) -> str:
    """Return the table in Markdown, with wrong numbers in bold."""
    lines = [f"| machine | right | {' | '.join(COUNTERS)} |", "|---|" + "---|" * (len(COUNTERS) + 1)]
    for name, title, right in ROWS:
        said = (counts[name][counter] for counter in COUNTERS)
        cells = (str(number) if number == right else f"**{number}**" for number in said)
        lines.append(f"| {title} | {right} | {' | '.join(cells)} |")
    hits = [sum(counts[name][counter] == right for name, _, right in ROWS) for counter in COUNTERS]
    lines.append(f"| right in | of {len(ROWS)} | {' | '.join(map(str, hits))} |")
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in ("loky", "joblib", "psutil"))
    return "\n".join(lines) + f"\n\nBold is wrong. {versions}, CPython {platform.python_version()}.\n"


if __name__ == "__main__":
    main()
