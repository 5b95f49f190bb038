"""What the machine says of its speed: kernel, clock governor, GPU with driver and clocks, and what it leaves unsaid."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from pathlib import Path

UNKNOWN = "not known"
NONE = "none"
_GOVERNOR = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
_TIMEOUT_S = 10.0

# name of the fact -> what nvidia-smi calls it (`nvidia-smi --help-query-gpu`)
GPU_FACTS = {
    "gpu": "name",
    "gpu_driver": "driver_version",
    "gpu_memory": "memory.total",
    "gpu_clock_sm": "clocks.sm",
    "gpu_clock_sm_most": "clocks.max.sm",
    "gpu_clock_memory": "clocks.mem",
    "gpu_power_limit": "power.limit",
    "gpu_persistence": "persistence_mode",
}


def hardware() -> dict[str, str]:
    """Return facts, each a short text."""
    return {
        "kernel": platform.release(),
        "processor": _processor(),
        "cores": str(len(os.sched_getaffinity(0))),
        "cpu_governor": read_text(_GOVERNOR) or UNKNOWN,
        "memory_gib": _memory_gib(),
        "load_average": " ".join(f"{value:.2f}" for value in os.getloadavg()),
        **gpu(shutil.which("nvidia-smi")),
    }


def gpu(program: str | None) -> dict[str, str]:
    """Return what `program` (nvidia-smi) says of the first GPU; without one there is none."""
    if program is None:
        return {"gpu": NONE}
    argv = [program, f"--query-gpu={','.join(GPU_FACTS.values())}", "--format=csv,noheader", "--id=0"]
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return dict.fromkeys(GPU_FACTS, UNKNOWN)
    cells = [cell.strip() for cell in done.stdout.split(",")]
    if done.returncode != 0 or len(cells) != len(GPU_FACTS):
        return dict.fromkeys(GPU_FACTS, UNKNOWN)
    return {name: UNKNOWN if cell in {"", "[N/A]"} else cell for name, cell in zip(GPU_FACTS, cells, strict=True)}


def read_text(file: Path) -> str:
    """Return what stands in a file of the kernel's, or nothing where it is not there."""
    try:
        return file.read_text(encoding="utf-8").strip()
    except OSError:
        return ""


def _processor() -> str:
    for line in read_text(Path("/proc/cpuinfo")).splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return UNKNOWN


def _memory_gib() -> str:
    for line in read_text(Path("/proc/meminfo")).splitlines():
        if line.startswith("MemTotal"):
            return f"{int(line.split()[1]) / 2**20:.1f}"
    return UNKNOWN
