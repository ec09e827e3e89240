"""NVIDIA devices: from the driver's files, NVML or the user's variable."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest

from runwide import settings
from runwide.host import gpu

DRIVER = "/proc/driver/nvidia/gpus"
FILES = {
    f"{DRIVER}/0000:00:04.0/information": "Model: \t\t NVIDIA L4\nIRQ:   \t\t 24\nGPU UUID: \t GPU-1b2c3d4e-0001\n",
    f"{DRIVER}/0000:00:05.0/information": "Model: \t\t NVIDIA L4\nGPU UUID: \t GPU-????????-????\n",
}


@pytest.fixture(autouse=True)
def _nothing_visible(monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


def test_the_drivers_files_name_each_device(tree):
    first, second = gpu.devices(tree(FILES))
    assert (first.device, first.name) == ("GPU-1b2c3d4e-0001", "NVIDIA L4")
    assert second.device == "1"  # its UUID is hidden from unprivileged containers: its number serves


def test_each_worker_gets_one_device(tree):
    assert gpu.per_gpu(tree(FILES)) == (
        {"CUDA_VISIBLE_DEVICES": "GPU-1b2c3d4e-0001"},
        {"CUDA_VISIBLE_DEVICES": "1"},
    )


def test_no_driver_is_no_device_and_loads_nothing(tree):
    assert gpu.devices(tree({})) == ()
    code = (
        "import sys; from runwide.host import gpu; gpu.devices('/nowhere'); sys.exit('pynvml' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("wanted", "devices"),
    [
        ("2,0", ["2", "0"]),
        ("GPU-aa11, MIG-bb22", ["GPU-aa11", "MIG-bb22"]),
        ("", []),
        ("-1", []),
        ("0,banana,1", ["0"]),
        ("NoDevFiles", []),
    ],
)
def test_the_users_own_choice_is_the_list(wanted, devices, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", wanted)
    assert [device.device for device in gpu.devices()] == devices


LIBRARY = """
#include <string.h>
typedef struct { unsigned long long total, free, used; } memory_t;
int nvmlInitWithFlags(unsigned flags) { return %(init)d; }
int nvmlInit_v2(void) { return %(init)d; }
int nvmlShutdown(void) { return 0; }
int nvmlDeviceGetCount_v2(unsigned *count) { *count = 2; return 0; }
int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **device) { *device = (void *)(long)(index + 1); return 0; }
int nvmlDeviceGetUUID(void *device, char *text, unsigned size) {
    strcpy(text, device == (void *)1 ? "GPU-one" : "GPU-two"); return 0; }
int nvmlDeviceGetName(void *device, char *text, unsigned size) { strcpy(text, "NVIDIA T4"); return 0; }
int nvmlDeviceGetMemoryInfo(void *device, memory_t *memory) { memory->total = 16ull << 30; return 0; }
const char *nvmlErrorString(int code) { return "driver not loaded"; }
"""

PROGRAM = """
import json, sys
from runwide.host import gpu, tree

class Here(tree.Tree):  # this machine, were there a driver
    def names(self, path):
        return ["0000:00:04.0"]

here = Here("/")
found = [[device.device, device.name, device.memory, device.source] for device in gpu.devices(here)]
print(json.dumps([found, [problem.reason for problem in here.problems]]))
"""


@pytest.mark.parametrize(
    ("init", "expected"),
    [
        (0, [[["GPU-one", "NVIDIA T4", 16 << 30, "NVML"], ["GPU-two", "NVIDIA T4", 16 << 30, "NVML"]], []]),
        (9, [[["0", "", None, f"{DRIVER}/0000:00:04.0/information"]], ["Driver Not Loaded"]]),
    ],
    ids=["works", "fails"],
)
def test_nvml_names_the_devices_where_it_works(init, expected, tmp_path):
    """The real `pynvml` over a library with NVML's C interface, compiled here: no device is needed."""
    import json
    import shutil

    if not shutil.which("cc"):
        pytest.skip("no C compiler to make a library with NVML's interface")
    source = tmp_path / "nvml.c"
    source.write_text(LIBRARY % {"init": init})
    subprocess.run(["cc", "-shared", "-fPIC", "-w", "-o", tmp_path / "libnvidia-ml.so.1", source], check=True)
    ran = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(PROGRAM)],
        env=settings.with_variables({"LD_LIBRARY_PATH": str(tmp_path)}),
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(ran.stdout) == expected
