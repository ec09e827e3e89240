"""A machine's files in one text, to be sent and counted again elsewhere."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from runwide.errors import InputError
from runwide.host import cgroup, gpu, hypervisor, memory
from runwide.host.cores import count
from runwide.host.tree import Tree

if TYPE_CHECKING:
    import os

_INDENT = "    "

# Of files with more than a bug report should contain, only the used lines are kept.
_KEPT = {
    "/proc/self/mountinfo": re.compile(r".* - cgroup2? .*"),
    "/proc/self/status": re.compile(r"Cpus_allowed_list:.*"),
    "/proc/cpuinfo": re.compile(r"(processor|physical id|core id|flags)\s*:.*|"),
    "/proc/stat": re.compile(r"cpu .*"),
    "/proc/meminfo": re.compile(r"Mem(Total|Available):.*"),
    "/proc/version": re.compile(r".*Sun Jan 10 15:06:54 PST 2016.*"),
    "/proc/vmstat": re.compile(r"oom_kill .*"),
    "memory.stat": re.compile(r"((total_)?inactive_file|hierarchical_memory_limit) .*"),
}


def record(root: Tree | str | os.PathLike[str] = "/", *, source: str) -> str:
    """Read a machine as `runwide.cores` and ``runwide doctor`` do, and return the files that they read as text.

    Args:
        root: ``/`` for this machine, or the directory of a recorded tree.
        source: A description of the machine, for people.

    Example:
        >>> record(source="my laptop").splitlines()[0]
        '# my laptop'
    """
    tree = Tree.at(root)
    count(tree)
    cgroup.throttling(tree)
    cgroup.pids(tree)
    memory.read(tree)
    hypervisor.steal(tree)
    gpu.devices(tree)
    return pack(tree.seen, source=source)


def pack(files: dict[str, str], *, source: str) -> str:
    r"""Return files as one text: ``path: line``, or the path alone with indented lines below.

    Example:
        >>> print(pack({"/a": "1", "/b": "x\ny"}, source="an example"), end="")
        # an example
        /a: 1
        /b:
            x
            y
    """
    lines = [f"# {line}" for line in source.splitlines()]
    for path, text in sorted(files.items()):
        kept = _kept(path, text)
        if len(kept) == 1:
            lines.append(f"{path}: {kept[0]}")
        elif kept:
            lines += [f"{path}:", *(_INDENT + line if line else "" for line in kept)]
    return "\n".join(lines) + "\n"


def parse(text: str) -> dict[str, str]:
    r"""Return the files in a text that has the form of `pack`.

    Raises:
        InputError: A line is neither a file's name, nor part of a file, nor a comment.

    Example:
        >>> parse("# an example\n/a: 1\n/b:\n    x\n    y\n")
        {'/a': '1', '/b': 'x\ny'}
    """
    files: dict[str, list[str]] = {}
    lines: list[str] | None = None
    for number, line in enumerate(text.splitlines(), 1):
        if line.startswith("/"):
            path, colon, value = line.partition(":")
            if not colon:
                raise InputError(f"line {number} names a file without a colon", hint="write `/path: value`")
            lines = files.setdefault(path, [])
            lines += [value.strip()] if value.strip() else []
        elif lines is not None and (line.startswith(_INDENT) or not line):
            lines.append(line[len(_INDENT) :])
        elif line and not line.startswith("#"):
            raise InputError(f"line {number} belongs to no file", hint="indent it by four spaces")
    return {path: "\n".join(content).strip("\n") for path, content in files.items()}


def unpack(text: str, directory: str | os.PathLike[str]) -> Path:
    r"""Write the files of a recording below a directory, which then serves as a ``root``.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as scratch:
        ...     root = unpack("/proc/self/status: Cpus_allowed_list: 0-3", scratch)
        ...     (root / "proc/self/status").read_text()
        'Cpus_allowed_list: 0-3\n'
    """
    root = Path(directory)
    for path, content in parse(text).items():
        if ".." in Path(path).parts:
            raise InputError(
                f"{path} leaves the directory", hint="take recordings from sources that you trust"
            )
        target = root / path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(content + "\n", encoding="utf-8")
    return root


def _kept(path: str, text: str) -> list[str]:
    lines = text.splitlines()
    kept = _KEPT.get(path) or _KEPT.get(path.rpartition("/")[2])
    if kept:
        lines = [line for line in lines if kept.fullmatch(line)]
    if path == "/proc/cpuinfo":
        lines = [_flags(line) if line.startswith("flags") else line for line in lines]
    while lines and not lines[-1]:
        lines.pop()
    return lines


def _flags(line: str) -> str:
    """Return the line of the CPU's flags, with only the flag for a hypervisor."""
    return "flags\t\t: " + ("hypervisor" if "hypervisor" in line.split() else "none")
