"""Command lines of the engines: the flags that hold a model to its limits, and what is refused first."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest

from reference_stack.errors import SettingsError
from reference_stack.services.ai_models.engine import prepare, shown, sim_program, tiny_program, vllm_program
from reference_stack.services.ai_models.model_spec import load_spec, model_names
from reference_stack.services.ai_models.physics import find_device
from reference_stack.services.ai_models.vllm_environment import default_recipe

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
    assert "--load-format" not in found


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
    prepared = prepare(spec, "sim", "real", port=7, settings_file=file, cache=tmp_path / "none", device="h100")

    assert prepared.program == sim_program(spec, file, port=7)
    assert prepared.takes_fd
    assert prepared.evidence == "simulated"
    assert "H100" in prepared.facts["device"]
    assert str(file) in prepared.shown
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("weights", "device", "message"),
    [
        ("real", "cpu", "do not run on two CPU cores"),
        ("dummy", "h200", "there is no .*vllm-gpu/bin/vllm"),
        ("dummy", "h20", "did you mean 'h200'"),
    ],
)
def test_what_cannot_run_is_said_first(tmp_path: Path, weights: str, device: str, message: str) -> None:
    """A device that cannot, or an environment that is not there, is refused with what to do."""
    with pytest.raises(SettingsError, match=message):
        prepare(
            load_spec("mixtral"),
            "vllm",
            weights,  # type: ignore[arg-type]  # a parameter
            port=1,
            settings_file=tmp_path / "s",
            cache=tmp_path,
            device=device,
        )


def make_executable(file: Path) -> None:
    file.parent.mkdir(parents=True)
    file.write_text("#!/bin/sh\n", encoding="utf-8")
    file.chmod(0o755)


def test_real_weights_must_be_there(tmp_path: Path) -> None:
    """Real weights that are not at their path are refused before vLLM is started; dummy ones need none."""
    make_executable(tmp_path / "vllm-gpu" / "bin" / "vllm")
    spec = load_spec("mixtral").model_copy(update={"path": tmp_path / "weights"})

    def prepared(weights: str) -> str:
        return prepare(
            spec,
            "vllm",
            weights,  # type: ignore[arg-type]  # a parameter
            port=1,
            settings_file=tmp_path / "s",
            cache=tmp_path,
        ).evidence

    with pytest.raises(SettingsError, match="no weights in"):
        prepared("real")
    assert prepared("dummy") == "measured"
    (tmp_path / "weights").mkdir()
    assert prepared("real") == "measured"


def test_tiny_is_made_beside_its_environment(tmp_path: Path) -> None:
    """Where vLLM is installed, preparing makes the tiny model in the cache and names it in the command."""
    make_executable(tmp_path / "vllm-cpu" / "bin" / "vllm")
    stamp = {"fingerprint": default_recipe().fingerprint}
    (tmp_path / "vllm-cpu" / "hxp-stamp.json").write_text(json.dumps(stamp), encoding="utf-8")
    prepared = prepare(load_spec("phi3"), "vllm", "tiny", port=9, settings_file=tmp_path / "s", cache=tmp_path)

    assert prepared.evidence == "tiny"
    assert not prepared.takes_fd
    assert (Path(prepared.program.argv[2]) / "config.json").exists()
    assert "--enforce-eager" in prepared.facts["flags"]
