"""Command lines of the engines: the flags that hold a model to its limits, and what is refused first."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

from reference_stack.errors import NotReady, StackError
from reference_stack.services.ai_models import gpu
from reference_stack.services.ai_models.engine import (
    Prepared,
    install_vllm,
    prepare,
    shown,
    sim_program,
    tiny_program,
    vllm_program,
)
from reference_stack.services.ai_models.model_spec import load_spec, model_names
from reference_stack.services.ai_models.physics import find_device
from reference_stack.services.ai_models.vllm_recipe import recipe_for

VLLM = Path("/env/bin/vllm")


def flags(argv: tuple[str, ...]) -> dict[str, str]:
    """Return each --flag with the word after it."""
    return {word: following for word, following in zip(argv, [*argv[1:], ""], strict=True) if word.startswith("--")}


@pytest.mark.parametrize(
    ("name", "fraction"), [("mixtral", "0.597"), ("hermes", "0.099"), ("openchat", "0.053"), ("phi3", "0.027")]
)
def test_gpu_flags_hold_the_limit(name: str, fraction: str) -> None:
    """On an H200 the memory fraction is the limit's share, and weights and KV together stay below the limit."""
    spec = load_spec(name)
    found = flags(vllm_program(spec, VLLM, spec.path, find_device("h200"), dummy=False, port=1234).argv)

    assert found["--gpu-memory-utilization"] == fraction
    assert spec.weight_bytes + int(found["--kv-cache-memory-bytes"]) < spec.memory_limit_bytes
    assert found["--served-model-name"] == name
    assert found["--port"] == "1234"
    assert found["--host"] == "127.0.0.1"
    assert found["--max-model-len"] == str(spec.max_model_len)
    assert found.get("--quantization") == ("fp8" if spec.precision == "fp8" else None)
    assert ("--kv-cache-dtype" in found) == (name == "phi3")
    assert found["--load-format"] == "safetensors"


def test_dummy_weights_need_no_download() -> None:
    """Dummy weights are quantised while they are drawn; 4-bit ones are described as AWQ."""
    h200 = find_device("h200")
    mixtral = flags(vllm_program(load_spec("mixtral"), VLLM, Path("/m"), h200, dummy=True, port=1).argv)
    phi3 = flags(vllm_program(load_spec("phi3"), VLLM, Path("/m"), h200, dummy=True, port=1).argv)

    assert mixtral["--load-format"] == phi3["--load-format"] == "dummy"
    assert mixtral["--quantization"] == "fp8_per_tensor"
    assert json.loads(phi3["--hf-overrides"])["quantization_config"]["bits"] == 4


@pytest.mark.parametrize("name", model_names())
def test_tiny_runs_on_the_cpu(name: str) -> None:
    """A tiny model gets the flags and the environment under which vLLM serves on two cores."""
    program = tiny_program(load_spec(name), VLLM, Path("/tiny"), port=1)

    assert program.argv[:3] == (str(VLLM), "serve", "/tiny")
    assert "--enforce-eager" in program.argv
    assert flags(program.argv)["--kv-cache-memory-bytes"] == "67108864"
    assert program.environment["VLLM_CPU_OMP_THREADS_BIND"] == "nobind"
    assert program.environment["HF_HUB_OFFLINE"] == "1"
    assert program.environment["HXP_DIE_WITH_PARENT"] == "1"
    assert program.environment["VLLM_RPC_BASE_PATH"].startswith("@")  # no socket that a kill leaves in a folder


def test_a_model_for_embeddings_is_told_so() -> None:
    """On a CPU and on a GPU vLLM is started for vectors where the model has them, and then without tools."""
    spec = load_spec("phi3").model_copy(update={"runner": "pooling"})
    tiny = tiny_program(spec, VLLM, Path("/tiny"), port=1)
    whole = vllm_program(spec, VLLM, spec.path, find_device("h200"), dummy=True, port=1)

    for program in (tiny, whole):
        assert flags(program.argv)["--runner"] == "pooling"
        assert flags(program.argv)["--convert"] == "embed"
    assert "--enable-auto-tool-choice" not in tiny.argv
    assert "--runner" not in tiny_program(load_spec("phi3"), VLLM, Path("/tiny"), port=1).argv


def test_shown_can_be_typed() -> None:
    """What is shown is what a shell would run."""
    program = tiny_program(load_spec("phi3"), VLLM, Path("/a folder"), port=1)
    words = shlex.split(shown(program))

    assert words[-len(program.argv) :] == list(program.argv)
    assert "VLLM_NO_USAGE_STATS=1" in words


def test_sim_is_prepared_without_work(tmp_path: Path) -> None:
    """The simulated engine needs nothing made; it says that it is simulated and can take a socket."""
    spec = load_spec("hermes")
    file = tmp_path / "hermes.json"
    made = prepare(spec, "sim", "real", port=7, settings_file=file, cache=tmp_path / "none", device="h100")

    assert made.program == sim_program(spec, file, port=7)
    assert made.takes_fd
    assert made.evidence == "simulated"
    assert "H100" in made.facts["device"]
    assert str(file) in made.shown
    assert not (tmp_path / "none").exists()


def test_a_smaller_gpu_gives_less_than_the_limit() -> None:
    """On a GPU that is smaller than the limit the fraction stays below one, and KV gets what is left."""
    spec, small = load_spec("mixtral"), find_device("h100")
    found = flags(vllm_program(spec, VLLM, spec.path, small, dummy=True, port=1).argv)

    assert found["--gpu-memory-utilization"] == "0.950"
    assert spec.weight_bytes + int(found["--kv-cache-memory-bytes"]) < 0.95 * small.memory_bytes


Smi = Callable[..., None]
ROW = "NVIDIA H200, 580.65.06, 143771, 4"


@pytest.fixture
def smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Smi:
    """Puts a program called nvidia-smi first in PATH that prints a line and exits with a code."""
    folder = tmp_path / "smi"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)
    monkeypatch.setattr(gpu, "PROC", tmp_path / "no driver")

    def write(line: str, code: int = 0) -> None:
        file = folder / "nvidia-smi"
        file.write_text(f"#!/bin/sh\necho '{line}'\nexit {code}\n", encoding="utf-8")
        file.chmod(0o755)

    write("No devices were found", 6)
    return write


def prepared(folder: Path, weights: str, device: str = "", said: list[str] | None = None) -> Prepared:
    return prepare(
        load_spec("mixtral").model_copy(update={"path": folder / "weights"}),
        "vllm",
        weights,  # type: ignore[arg-type]  # a parameter
        port=1,
        settings_file=folder / "s",
        cache=folder,
        device=device,
        say=(said if said is not None else []).append,
    )


@pytest.mark.parametrize(
    ("row", "device", "message"),
    [
        (None, "cpu", "do not run on two CPU cores"),
        (None, "h20", "did you mean 'h200'"),
        (None, "", "--weights dummy needs an NVIDIA GPU, and this machine has none"),
        ("Failed to initialize NVML: Driver/library version mismatch", "", "the NVIDIA driver does not answer: Failed"),
        ("NVIDIA H200, 580.1, [N/A], 4", "", "the NVIDIA driver does not answer: NVIDIA H200"),
        ("NVIDIA H100 80GB HBM3, 580.1, 81559, 4", "h200", "has NVIDIA H100 80GB HBM3, not NVIDIA H200 SXM"),
        ("NVIDIA Rarity, 580.1, 81559, 4", "", "nothing is known of NVIDIA Rarity"),
        ("NVIDIA H200, 570.9, 143771, 4", "", "the NVIDIA driver is 570.9; .* needs 580 or newer"),
        ("NVIDIA H200, 580.1, 143771, 99999", "", "takes 90 GB, and of the 150.8 GB of NVIDIA H200 45.9 GB are free"),
        ("NVIDIA L40S, 580.1, 46068, 4", "", "holds 0 KV tokens, less than one request of 4096"),
    ],
)
def test_what_cannot_run_is_said_first(tmp_path: Path, smi: Smi, row: str | None, device: str, message: str) -> None:
    """A device that is unknown, absent, too old, too small or in use is refused before anything is installed."""
    if row is not None:
        smi(row)
    said: list[str] = []
    with pytest.raises(StackError, match=message) as caught:
        prepared(tmp_path, "dummy", device, said)
    assert caught.value.hint
    assert said == []
    assert not (tmp_path / "vllm-gpu").exists()


def test_a_gpu_without_its_tool_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A driver that lists a GPU, and no nvidia-smi or one that fails, are told apart from no GPU."""
    (tmp_path / "gpus" / "0000:01").mkdir(parents=True)
    monkeypatch.setattr(gpu, "PROC", tmp_path / "gpus")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NotReady, match="no nvidia-smi to ask it"):
        gpu.find_gpus()
    (tmp_path / "nvidia-smi").write_text("#!/no/such/shell\n", encoding="utf-8")
    (tmp_path / "nvidia-smi").chmod(0o755)
    with pytest.raises(NotReady, match="does not answer"):
        gpu.find_gpus()


def make_executable(file: Path) -> None:
    file.parent.mkdir(parents=True)
    file.write_text("#!/bin/sh\n", encoding="utf-8")
    file.chmod(0o755)


@pytest.mark.parametrize("weights", ["dummy", "real"])
def test_a_gpu_is_used_as_it_is_found(tmp_path: Path, smi: Smi, weights: str) -> None:
    """The device is the one that is there, the command is shown, and facts name driver and weights."""
    make_executable(tmp_path / "vllm-gpu" / "bin" / "vllm")
    smi(ROW)
    said: list[str] = []
    made = prepared(tmp_path, weights, said=said)

    assert (made.evidence, made.device) == ("measured", "h200")
    assert made.facts["device"] == "NVIDIA H200"
    assert made.facts["driver"] == "580.65.06"
    assert said == [f"mixtral: {made.shown}"]
    assert flags(made.program.argv)["--gpu-memory-utilization"] == "0.597"


def test_an_environment_for_a_gpu_needs_one(tmp_path: Path, smi: Smi) -> None:
    """`tools --vllm gpu` without a GPU, or with a driver that is too old, downloads nothing."""
    with pytest.raises(NotReady, match="no NVIDIA GPU on this machine"):
        install_vllm("gpu", tmp_path, print)
    smi("NVIDIA H200, 535.1, 143771, 4")
    with pytest.raises(NotReady, match="driver is 535"):
        install_vllm("gpu", tmp_path, print)
    assert not (tmp_path / "vllm-gpu").exists()


def test_tiny_is_made_beside_its_environment(tmp_path: Path) -> None:
    """Where vLLM is installed, preparing makes the tiny model in the cache and names it in the command."""
    make_executable(tmp_path / "vllm-cpu" / "bin" / "vllm")
    (tmp_path / "vllm-cpu" / "bin" / "python").touch()
    (tmp_path / "vllm-cpu" / "lib" / "python3.11" / "site-packages" / "vllm-0.32.0+cpu.dist-info").mkdir(parents=True)
    stamp = {"fingerprint": recipe_for("cpu").fingerprint}
    (tmp_path / "vllm-cpu" / "hxp-stamp.json").write_text(json.dumps(stamp), encoding="utf-8")
    made = prepare(load_spec("phi3"), "vllm", "tiny", port=9, settings_file=tmp_path / "s", cache=tmp_path)

    assert made.evidence == "tiny"
    assert not made.takes_fd
    assert (Path(made.program.argv[2]) / "config.json").exists()
    assert "--enforce-eager" in made.facts["flags"]
