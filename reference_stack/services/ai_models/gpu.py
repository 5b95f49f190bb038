"""The NVIDIA GPUs of this machine, as their driver tells, and whether a model may be put on one."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from reference_stack.errors import NotReady, SettingsError
from reference_stack.services.ai_models.physics import DEVICES, Device, find_device

PROC = Path("/proc/driver/nvidia/gpus")
LEAST_DRIVER = 580  # CUDA 13.0, for which vLLM's wheel is built
_ANSWER_S = 30.0  # a driver that is not held in memory takes seconds to wake
_FIELDS = "name,driver_version,memory.total,memory.used"
_MIB = 2**20


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU: its name and its driver's version as the vendor writes them, its memory and what is free of it now."""

    title: str
    driver: str
    memory_bytes: int
    free_bytes: int

    @property
    def device(self) -> Device | None:
        """The device whose physics we know, None where we do not."""
        words = self.title.lower().replace("-", " ").split()
        return next((device for name, device in DEVICES.items() if name in words), None)


def find_gpus() -> tuple[Gpu, ...]:
    """Return the GPUs of this machine, none where it has none; raise NotReady when the driver does not answer."""
    tool = shutil.which("nvidia-smi")
    listed = PROC.is_dir() and any(PROC.iterdir())
    if tool is None:
        if listed:
            raise NotReady("there is an NVIDIA GPU, and no nvidia-smi to ask it", hint="install the driver's utilities")
        return ()
    try:
        asked = [tool, f"--query-gpu={_FIELDS}", "--format=csv,noheader,nounits"]
        result = subprocess.run(asked, capture_output=True, text=True, timeout=_ANSWER_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NotReady(f"the NVIDIA driver does not answer: {error}", hint="run nvidia-smi and see") from None
    if result.returncode and not listed:
        return ()  # the tool is there, a GPU is not
    rows = [[word.strip() for word in line.split(",")] for line in result.stdout.splitlines()]
    try:
        return tuple(_gpu(*row) for row in rows)
    except (TypeError, ValueError):
        said = (result.stderr or result.stdout).strip()[-200:]
        raise NotReady(f"the NVIDIA driver does not answer: {said}", hint="run nvidia-smi and see") from None


def _gpu(title: str, driver: str, total_mib: str, used_mib: str) -> Gpu:
    total = int(total_mib) * _MIB
    return Gpu(title, driver, total, total - int(used_mib) * _MIB)


def choose(model: str, weights: str, device: str) -> tuple[Gpu, Device]:
    """Return the GPU of this machine and what we know of it; `device` names it, or is empty.

    Raises SettingsError where there is none or it is another one than named.
    """
    wanted = find_device(device) if device else None
    if wanted is not None and wanted.name in ("cpu", "ideal"):
        raise SettingsError(
            f"{model}: weights of true size do not run on {wanted.title}",
            hint="use --weights tiny, or name the GPU: --set device=h200",
        )
    gpus = find_gpus()
    if not gpus:
        raise SettingsError(
            f"{model}: --weights {weights} needs an NVIDIA GPU, and this machine has none (nvidia-smi lists none)",
            hint="use --weights tiny, which runs on the CPU; or --engine sim",
        )
    gpu = gpus[0]
    found = wanted or gpu.device
    if found is None:
        raise SettingsError(
            f"{model}: nothing is known of {gpu.title}",
            hint=f"name the nearest one: --set device=NAME, of {', '.join(sorted(set(DEVICES) - {'cpu', 'ideal'}))}",
        )
    if gpu.device is not None and found is not gpu.device:
        raise SettingsError(
            f"{model}: this machine has {gpu.title}, not {found.title}", hint=f"--set device={gpu.device.name}"
        )
    return gpu, found


def check_driver(gpu: Gpu) -> None:
    """Raise NotReady when the driver is too old for the environment that our command makes."""
    if int(gpu.driver.split(".")[0]) < LEAST_DRIVER:
        raise NotReady(
            f"the NVIDIA driver is {gpu.driver}; vLLM's wheel is for CUDA 13.0, which needs {LEAST_DRIVER} or newer",
            hint="update the driver, or make .hxp/cache/vllm-gpu by hand with a vLLM for an older CUDA: "
            "docs/how-to/gpu-server.md",
        )


def check_room(model: str, gpu: Gpu, memory_bytes: float) -> None:
    """Raise NotReady when what is free on `gpu` is less than the model's limit."""
    if gpu.free_bytes < memory_bytes:
        raise NotReady(
            f"{model} takes {memory_bytes / 1e9:.3g} GB, and of the {gpu.memory_bytes / 1e9:.1f} GB of "
            f"{gpu.title} {gpu.free_bytes / 1e9:.1f} GB are free",
            hint="see who has the rest: nvidia-smi; a stack of ours is stopped by: hxp-stack down",
        )
