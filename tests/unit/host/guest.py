"""Boots a virtual machine with a chosen CPU topology and runs a Python program in it."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import NoReturn

import pytest

ROOT = Path(__file__).parents[3]
CACHE = ROOT / ".cache" / "guest"
BEGIN, END = "<<<answer", "answer>>>"
# Tables of pages that are changed at each system call cost software emulation half of its speed.
BOOT = "console=ttyS0 quiet panic=-1 mitigations=off"
# One virtual CPU at a time. With a thread for each, QEMU 7.2 may run its translation of a breakpoint that the kernel has
# taken back: the kernel patches its code under running CPUs, and they then loop in the handler of a breakpoint that is
# no longer there, with interrupts off. The test that switches a limit on and off shows it within seconds.
EMULATION = "tcg,thread=single"
SECONDS = 280
"""For software emulation on a busy machine; an idle one takes about 10. pytest's own patience ends at 300."""

INIT = f"""#!/bin/busybox sh
/bin/busybox mkdir -p /proc /sys /tmp /dev
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t sysfs sysfs /sys
/bin/busybox mount -t devtmpfs dev /dev
/bin/busybox mkdir /dev/shm
/bin/busybox mount -t tmpfs shm /dev/shm
/bin/busybox mount -t cgroup2 cgroup2 /sys/fs/cgroup
export PATH=/bin PYTHONHOME=/python PYTHONPATH=/app LD_LIBRARY_PATH=/lib
echo '{BEGIN}'
/bin/python /app/program.py 2>&1
echo '{END}'
/bin/busybox poweroff -f
"""

# Of the standard library, what no program here wants.
HEAVY = (
    "test",
    "idlelib",
    "lib2to3",
    "ensurepip",
    "site-packages",
    "tkinter",
    "turtledemo",
    "config-*",
)


def run(
    program: str,
    *,
    smp: str,
    cpu: str = "Haswell-noTSX",
    packages: tuple[str, ...] = (),
    more: tuple[str, ...] = (),
) -> str:
    """Run a program in a guest, and return its output.

    Args:
        program: Python source; ``runwide`` can be imported.
        smp: QEMU's ``-smp``, such as ``4,sockets=1,cores=2,threads=2``.
        cpu: QEMU's ``-cpu``; in software emulation only Intel models show threads.
        packages: Packages of this environment that can be imported as well, of Python code alone.
        more: Further arguments of QEMU.
    """
    kernel = _kernel()
    initramfs = _initramfs(program, packages)
    command = [
        "qemu-system-x86_64",
        *("-accel", EMULATION, "-cpu", cpu, "-smp", smp, "-m", "1024"),
        *("-kernel", str(kernel), "-initrd", str(initramfs)),
        *("-append", BOOT, "-display", "none", "-serial", "stdio", "-no-reboot"),
        *("-nic", "none", "-monitor", "none", *more),
    ]
    try:
        said = _said(command)
    finally:
        initramfs.unlink()
    found = re.search(f"{BEGIN}\r?\n(.*){END}", said, re.DOTALL)
    assert found, f"the guest gave no answer: {said[-4000:]}"
    return found[1].replace("\r\n", "\n")


def _said(command: list[str]) -> str:
    """Return what the guest and QEMU said until they ended, or ran out of time."""
    try:
        ended = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        return f"{(error.stdout or b'').decode(errors='replace')}\n… and nothing more within {SECONDS} s"
    return ended.stdout.decode(errors="replace")


def _kernel() -> Path:
    """Debian's kernel for virtual machines, unpacked without being installed."""
    missing = [tool for tool in ("qemu-system-x86_64", "busybox", "cpio") if not shutil.which(tool)]
    if missing or not list(CACHE.glob("boot/vmlinuz-*")):
        if os.geteuid() != 0 or not shutil.which("apt-get"):
            _give_up(f"needs {', '.join(missing) or 'a kernel'}, and only root can install packages")
        _install(missing)
    return next(CACHE.glob("boot/vmlinuz-*"))


def _give_up(reason: str) -> NoReturn:
    """A test without its machine is skipped, but where nothing may be left out."""
    if os.environ.get("RUNWIDE_REQUIRE_DOCKER") == "1":
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


def _install(missing: list[str]) -> None:
    apt = ["apt-get", "-qq", "-y", "-o", "Dpkg::Use-Pty=0"]
    subprocess.run([*apt, "update"], check=True, capture_output=True)
    if missing:
        wanted = ["qemu-system-x86", "seabios", "busybox-static", "cpio"]
        subprocess.run([*apt, "install", "--no-install-recommends", *wanted], check=True, capture_output=True)
    shown = subprocess.run(
        ["apt-cache", "depends", "--important", "linux-image-cloud-amd64"],
        check=True,
        capture_output=True,
        text=True,
    )
    name = re.search(r"Depends: (linux-image-\S+)", shown.stdout)[1]
    CACHE.mkdir(parents=True, exist_ok=True)
    # The sandbox user of apt cannot write here, and root needs none to fetch one file.
    subprocess.run(
        [*apt, "-o", "APT::Sandbox::User=root", "download", name], check=True, cwd=CACHE, capture_output=True
    )
    package = next(CACHE.glob("*.deb"))
    subprocess.run(["dpkg-deb", "-x", str(package), str(CACHE)], check=True)
    package.unlink()
    shutil.rmtree(CACHE / "lib", ignore_errors=True)  # modules: the guest needs none


def _initramfs(program: str, packages: tuple[str, ...]) -> Path:
    tree = CACHE / f"root-{os.getpid()}"
    shutil.rmtree(tree, ignore_errors=True)
    (tree / "bin").mkdir(parents=True)
    shutil.copy(shutil.which("busybox"), tree / "bin/busybox")
    (tree / "init").write_text(INIT)
    (tree / "init").chmod(0o755)
    _copy_python(tree)
    wanted = [importlib.util.find_spec(name).submodule_search_locations[0] for name in packages]
    for package in (ROOT / "runtime" / "runwide", *map(Path, wanted)):
        shutil.copytree(package, tree / "app" / package.name)
    (tree / "app/program.py").write_text(program)
    names = "\n".join(str(path.relative_to(tree)) for path in sorted(tree.rglob("*")))
    packed = subprocess.run(
        ["cpio", "-o", "-H", "newc", "--quiet"],
        input=names.encode(),
        cwd=tree,
        check=True,
        capture_output=True,
    )
    shutil.rmtree(tree)
    target = CACHE / f"initramfs-{os.getpid()}"
    target.write_bytes(packed.stdout)  # to inflate it takes the guest longer than to read it
    return target


def _copy_python(tree: Path) -> None:
    """This interpreter, its standard library, and the shared libraries of both."""
    interpreter = Path(sys.executable).resolve()
    shutil.copy(interpreter, tree / "bin/python")
    library = Path(
        sysconfig.get_path("stdlib", vars={"base": sys.base_prefix, "installed_base": sys.base_prefix})
    )
    home = tree / "python/lib" / library.name
    shutil.copytree(library, home, ignore=shutil.ignore_patterns(*HEAVY), symlinks=False)
    loader = None
    (tree / "lib").mkdir(exist_ok=True)
    for binary in (interpreter, *home.rglob("*.so")):
        shown = subprocess.run(["ldd", str(binary)], capture_output=True, text=True, check=False)
        for path in re.findall(r"(?:=>\s*)?(/\S+) \(0x", shown.stdout):
            for library in (Path(path), Path(path).with_name("libgcc_s.so.1")):  # which threads load to end
                target = tree / "lib" / library.name
                if library.exists() and not target.exists():
                    shutil.copy(library, target)
            loader = path if "ld-linux" in path else loader
    if loader:
        where = tree / loader.lstrip("/")
        where.parent.mkdir(parents=True, exist_ok=True)
        if not where.exists():
            shutil.copy(loader, where)
