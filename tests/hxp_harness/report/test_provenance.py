"""A record says what the run was made on, and names what is not known of it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hxp_harness.report import words
from hxp_harness.report.hardware import GPU_FACTS, NONE, UNKNOWN, gpu, hardware, read_text
from hxp_harness.report.html import html
from hxp_harness.report.manifest import environment
from hxp_harness.report.markdown import markdown
from hxp_harness.report.provenance import unknown
from hxp_harness.report.record import read_record

KNOWN: dict[str, Any] = {
    "evidence": "measured",
    "environment": {
        "git": "0123abc",
        "kernel": "6.1",
        "processor": "Xeon",
        "cpu_governor": "performance",
        "gpu_driver": "570.1",
        "gpu_clock_sm": "1980 MHz",
    },
    "seeds": {"profile": 1},
    "target": {
        "version": "0.32.0",
        "flags": "vllm serve",
        "device": "H200",
        "model_revision": "a" * 40,
        "weights_sha256": "b" * 64,
    },
}


def without(path: str) -> dict[str, Any]:
    part, name = path.split(".")
    return KNOWN | {part: {key: held for key, held in KNOWN[part].items() if key != name}}


def test_nothing_is_unknown_of_a_whole_manifest() -> None:
    """Where all is told, nothing is complained of."""
    assert unknown(KNOWN) == ()


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("environment.git", "commit of the harness"),
        ("environment.cpu_governor", "clock governor of the processor"),
        ("environment.gpu_clock_sm", "GPU clocks"),
        ("seeds.profile", "seed"),
        ("target.version", "version of the engine"),
        ("target.flags", "flags of the engine"),
        ("target.weights_sha256", "hash of the model's files"),
    ],
)
def test_each_missing_fact_is_named(path: str, name: str) -> None:
    """A fact that is missing, or told as not known, is called by its name."""
    part, key = path.split(".")

    assert unknown(without(path)) == (name,)
    assert unknown(KNOWN | {part: KNOWN[part] | {key: UNKNOWN}}) == (name,)


def test_a_simulation_needs_no_weights_and_no_gpu() -> None:
    """What cannot be there is not asked for: a simulated run has neither, a tiny one has no GPU."""
    bare = KNOWN | {"target": {"version": "sim-1"}, "environment": KNOWN["environment"] | {"gpu_driver": NONE}}

    assert unknown(bare | {"evidence": "simulated"}) == ()
    assert "hash of the model's files" in unknown(bare | {"evidence": "tiny"})
    assert "GPU driver" not in unknown(bare | {"evidence": "tiny"})


def test_reports_name_what_is_not_known(make_run: Callable[..., Path]) -> None:
    """The page and the summary name what the run does not know of its making; a whole one says nothing."""
    record = read_record(make_run()).model_copy(update={"unknown": ("GPU driver", "seed")})

    assert "GPU driver, seed" in html(record, {}, "RUN")
    assert "GPU driver, seed" in markdown(record, "RUN")
    assert words.unknown(record.model_copy(update={"unknown": ()})) == ""


def smi(folder: Path, script: str) -> str:
    """Write a program that stands in the place of nvidia-smi."""
    program = folder / "nvidia-smi"
    program.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    program.chmod(0o755)
    return str(program)


def test_the_gpu_is_described_by_its_own_tool(tmp_path: Path) -> None:
    """Driver and clocks come from nvidia-smi; a field that it does not have is not known."""
    line = "NVIDIA H200, 570.124.06, 143771 MiB, 345 MHz, 1980 MHz, 3201 MHz, [N/A], Enabled"
    found = gpu(smi(tmp_path, f'test "$2" = --format=csv,noheader && echo "{line}"'))

    assert found["gpu"] == "NVIDIA H200"
    assert found["gpu_driver"] == "570.124.06"
    assert found["gpu_clock_sm"] == "345 MHz"
    assert found["gpu_power_limit"] == UNKNOWN
    assert list(found) == list(GPU_FACTS)


@pytest.mark.parametrize("script", ["exit 9", "echo three, cells, only"])
def test_a_broken_tool_is_no_description(tmp_path: Path, script: str) -> None:
    """Where nvidia-smi fails or says something else, its facts are not known, and no run dies of it."""
    assert set(gpu(smi(tmp_path, script)).values()) == {UNKNOWN}


def test_a_machine_without_gpu_says_so(tmp_path: Path) -> None:
    """No tool: no GPU. A tool that cannot be started: not known."""
    assert gpu(None) == {"gpu": NONE}
    assert set(gpu(str(tmp_path / "missing")).values()) == {UNKNOWN}


def test_the_machine_is_described() -> None:
    """Kernel, processor, cores and governor are told, each as a text that is not empty."""
    found = environment()

    assert hardware().keys() <= found.keys()
    assert {"kernel", "processor", "cpu_governor", "git", "packages", "gpu"} <= found.keys()
    assert all(found.values())
    assert read_text(Path("/proc/no/such/file")) == ""
