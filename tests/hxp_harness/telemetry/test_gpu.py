"""GPU figures through nvidia-ml-py itself, against a driver library that is ours: no GPU was asked."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from hxp_harness.telemetry.gpu import GpuReading, NvmlGpus, open_gpus

PROGRAM = """
import dataclasses, json
from hxp_harness.telemetry.gpu import open_gpus
gpus = open_gpus()
if gpus is None:
    print("null")
else:
    print(json.dumps([gpus.names, *(dataclasses.asdict(gpus.read()) for _ in range(2))]))
    gpus.close()
"""


def asked(driver: Path, behaviour: str = "") -> Any:
    """Return what a process that finds this driver reads."""
    environ = os.environ | {"LD_LIBRARY_PATH": str(driver), "FAKE_NVML": behaviour}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True, timeout=60, env=environ
    )
    return json.loads(done.stdout)


def test_every_figure_comes_in_base_units(driver: Path) -> None:
    """Milliwatts, millijoules, MHz and percent become W, J, Hz and shares; sums, the mean and the lowest clock."""
    names, first, second = asked(driver)

    assert names == ["Fake H200", "Fake H200"]
    assert first == {
        "power_w": 500.75,
        "energy_j": 14.0,
        "memory_bytes": 4 * 2**30,
        "utilisation": 0.75,
        "sm_clock_hz": 1.5e9,
    }
    assert second["energy_j"] - first["energy_j"] == 2.0


def test_what_a_driver_does_not_tell_is_unknown(driver: Path) -> None:
    """A virtual GPU without power figures still tells the rest, and nothing is taken for zero."""
    _, first, _ = asked(driver, "virtual")

    assert first["power_w"] is first["energy_j"] is None
    assert first["memory_bytes"] == 4 * 2**30


@pytest.mark.parametrize("behaviour", ["broken", "none"])
def test_a_driver_without_gpus_is_none(driver: Path, behaviour: str) -> None:
    """A driver that does not start, or has no GPU, is as good as none."""
    assert asked(driver, behaviour) is None


def test_no_driver_is_none(tmp_path: Path) -> None:
    """Where the library is missing or no library, nvidia-ml-py is not even imported."""
    wrong = tmp_path / "libnvidia-ml.so.1"
    wrong.write_text("no library", encoding="utf-8")
    program = "import sys; from hxp_harness.telemetry.gpu import open_gpus; print(open_gpus(sys.argv[1]), "
    program += "'pynvml' in sys.modules)"
    for library in ("libnothing-of-the-kind.so.1", str(wrong)):
        argv = [sys.executable, "-c", program, library]
        done = subprocess.run(argv, capture_output=True, text=True, check=True, timeout=60)
        assert done.stdout.split() == ["None", "False"]
    assert open_gpus("libnothing-of-the-kind.so.1") is None


class _Nvml:
    """A module of pynvml's shape for one GPU; `lacking` is a function that raises."""

    class NVMLError(Exception):
        """As pynvml has it."""

    def __init__(self, lacking: str) -> None:
        self._lacking = lacking
        self.shut = False

    def __getattr__(self, name: str) -> Any:
        values: dict[str, Any] = {
            "nvmlDeviceGetCount": 1,
            "nvmlDeviceGetHandleByIndex": object(),
            "nvmlDeviceGetName": "one",
            "nvmlDeviceGetPowerUsage": 1000,
            "nvmlDeviceGetTotalEnergyConsumption": 2000,
            "nvmlDeviceGetClockInfo": 3,
            "nvmlDeviceGetUtilizationRates": type("Rates", (), {"gpu": 40})(),
            "nvmlDeviceGetMemoryInfo": type("Memory", (), {"used": 5})(),
        }

        def call(*_: object) -> Any:
            if name == self._lacking:
                raise self.NVMLError(name)
            return values[name]

        return call

    def nvmlShutdown(self) -> None:  # noqa: N802 - the library's name
        self.shut = True


@pytest.mark.parametrize(
    ("lacking", "field"),
    [
        ("nvmlDeviceGetPowerUsage", "power_w"),
        ("nvmlDeviceGetTotalEnergyConsumption", "energy_j"),
        ("nvmlDeviceGetMemoryInfo", "memory_bytes"),
        ("nvmlDeviceGetUtilizationRates", "utilisation"),
        ("nvmlDeviceGetClockInfo", "sm_clock_hz"),
    ],
)
def test_one_figure_that_fails_costs_only_itself(lacking: str, field: str) -> None:
    """Whatever single question the driver refuses, the others are answered."""
    nvml = _Nvml(lacking)
    gpus = NvmlGpus(nvml)
    read = gpus.read()
    gpus.close()

    assert [name for name in GpuReading.__dataclass_fields__ if getattr(read, name) is None] == [field]
    assert nvml.shut
