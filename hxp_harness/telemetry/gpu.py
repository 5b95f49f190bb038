"""What NVIDIA's driver says of the GPUs of this machine, through NVML.

`nvidia-ml-py` is imported only where the driver's library is. Its functions used here, their units and the error
classes are those of NVML's reference (nvmlDeviceGetPowerUsage mW, TotalEnergyConsumption mJ since the driver was
loaded, ClockInfo MHz, UtilizationRates %, MemoryInfo bytes).
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

LIBRARY = "libnvidia-ml.so.1"
_CLOCK_SM = 1  # NVML_CLOCK_SM


@dataclass(frozen=True, slots=True)
class GpuReading:
    """All GPUs of the machine at one moment: sums, but of the clock the lowest and of utilisation the mean.

    None: the driver does not tell it (virtual GPUs, older cards). Whatever else runs on a GPU is in it too.
    """

    power_w: float | None = None
    energy_j: float | None = None  # a counter: since the driver was loaded
    memory_bytes: float | None = None  # in use
    utilisation: float | None = None  # share of time in which a kernel ran, 0 to 1
    sm_clock_hz: float | None = None


class Gpus(Protocol):
    """The GPUs of one machine."""

    names: tuple[str, ...]

    def read(self) -> GpuReading:
        """Return what they say now."""

    def close(self) -> None:
        """Give the driver back."""


class NvmlGpus:
    """GPUs through a module of pynvml's shape, already initialised."""

    def __init__(self, nvml: Any) -> None:
        self._nvml = nvml
        self._handles = [nvml.nvmlDeviceGetHandleByIndex(number) for number in range(nvml.nvmlDeviceGetCount())]
        self.names = tuple(str(nvml.nvmlDeviceGetName(handle)) for handle in self._handles)

    def read(self) -> GpuReading:
        nvml = self._nvml
        clocks = self._each(lambda handle: nvml.nvmlDeviceGetClockInfo(handle, _CLOCK_SM) * 1e6)
        busy = self._each(lambda handle: nvml.nvmlDeviceGetUtilizationRates(handle).gpu / 100)
        return GpuReading(
            power_w=_sum(self._each(lambda handle: nvml.nvmlDeviceGetPowerUsage(handle) / 1e3)),
            energy_j=_sum(self._each(lambda handle: nvml.nvmlDeviceGetTotalEnergyConsumption(handle) / 1e3)),
            memory_bytes=_sum(self._each(lambda handle: float(nvml.nvmlDeviceGetMemoryInfo(handle).used))),
            utilisation=sum(busy) / len(busy) if busy else None,
            sm_clock_hz=min(clocks) if clocks else None,
        )

    def close(self) -> None:
        self._nvml.nvmlShutdown()

    def _each(self, ask: Callable[[Any], float]) -> list[float]:
        """Return one value a GPU, or none where one of them does not tell: a partial sum would look like a whole."""
        try:
            return [float(ask(handle)) for handle in self._handles]
        except self._nvml.NVMLError:
            return []


def _sum(values: list[float]) -> float | None:
    return sum(values) if values else None


def open_gpus(library: str = LIBRARY) -> Gpus | None:
    """Return the GPUs of this machine; None where there is no driver, no GPU, or no permission to ask."""
    try:
        ctypes.CDLL(library)
    except OSError:
        return None
    import pynvml  # type: ignore[import-untyped]  # ships no types

    try:
        pynvml.nvmlInit()
        gpus = NvmlGpus(pynvml)
    except pynvml.NVMLError:
        return None
    return gpus if gpus.names else None
