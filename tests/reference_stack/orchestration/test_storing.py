"""`hxp-stack storage`: what a person types, and what it says."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from reference_stack.__main__ import main
from reference_stack.orchestration.storing import _Told, spec_of
from reference_stack.services.ai_models.model_spec import load_spec

Ask = Callable[..., tuple[int, str]]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """What the model phi3 looks like: its published config.json, quantised, with a tokenizer and a small shard."""
    a = load_spec("phi3").architecture
    config = {
        "architectures": [a.family],
        "num_hidden_layers": a.layers,
        "hidden_size": a.hidden,
        "intermediate_size": a.intermediate,
        "num_attention_heads": a.heads,
        "num_key_value_heads": a.kv_heads,
        "vocab_size": a.vocab,
        "quantization_config": {"quant_method": "awq"},
    }
    folder = tmp_path / "download"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "tokenizer.model").write_text("pieces")
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", 2) + b"{}")
    return folder


@pytest.fixture
def storage(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Ask:
    """Types `hxp-stack storage`, with folders of the test's own."""

    def ask(action: str, *words: str) -> tuple[int, str]:
        where = ("--models", str(tmp_path / "models"), "--runs", str(tmp_path / "runs"))
        code = main(["storage", action, *words, *where])
        told = capsys.readouterr()
        return code, told.out + told.err

    return ask


def test_a_model_is_imported_listed_and_verified(storage: Ask, model: Path, tmp_path: Path) -> None:
    """A model goes where its service looks for it, under the name that the service knows."""
    assert storage("list")[1].startswith("no models in")
    assert storage("import", str(model), "--name", "phi3") == (0, f"{tmp_path}/models/phi-3-mini: imported\n")
    code, told = storage("list")
    assert (code, told.split()[:2], told.strip()[-4:]) == (0, ["model", "phi-3-mini"], "safe")
    assert json.loads(storage("list", "--json")[1])["models"][0]["manifest"] is True
    assert storage("verify") == (0, "phi-3-mini: whole\n")
    assert "did you mean 'phi-3-mini'?" in storage("verify", "phi3-mini")[1]

    (tmp_path / "models" / "phi-3-mini" / "config.json").write_text('{"vocab_size": 1}')
    code, told = storage("verify", "phi-3-mini")
    assert code == 1
    assert "config.json differs from its SHA-256" in told
    assert "config.json is of no architecture, and phi3 is Phi3ForCausalLM" in told


def test_another_model_is_not_taken_for_ours(storage: Ask, model: Path) -> None:
    """A checkpoint of another architecture is refused, and says what it is; under a name of its own it may come in."""
    code, told = storage("import", str(model), "--name", "mixtral")
    assert code == 2
    assert "config.json is of Phi3ForCausalLM, and mixtral is MixtralForCausalLM" in told
    code, told = storage("import", str(model), "--name", "other")
    assert (code, "compared with nothing" in told) == (0, True)


def test_a_run_is_put_exported_and_cleared(storage: Ask, tmp_path: Path) -> None:
    """put, list, verify, export and gc do what they say, on one run."""
    run = tmp_path / "run-1"
    run.mkdir()
    (run / "run.json").write_text("{}")
    assert storage("put", str(run)) == (0, "run-1: 1 files, 2 B\n")
    assert storage("list")[1] == "run    run-1  2 B  1 files\n"
    assert storage("verify", "run-1") == (0, "run-1: whole\n")
    assert storage("export", "run-1", "--to", str(tmp_path / "out")) == (0, f"{tmp_path}/out/run-1\n")
    assert (tmp_path / "out" / "run-1" / "run.json").read_text() == "{}"
    assert storage("gc", "--days", "1") == (0, "freed 0 B, 0 files\n")
    (tmp_path / "models" / ".part-x").mkdir(parents=True)
    code, told = storage("gc", "--keep", "0")
    assert code == 0
    assert "forgot run-1\nfreed 2 B, 1 files\n" in told
    assert "import that was not finished" in told


@pytest.mark.parametrize(
    ("words", "match"),
    [
        (("import",), "import takes a model's folder"),
        (("export", "x"), "where to is not said"),
        (("verify", "x"), "no model 'x' in "),
        (("put", "/no/such/folder"), "no run.json"),
    ],
)
def test_a_wrong_question_is_refused(storage: Ask, words: tuple[str, ...], match: str) -> None:
    """What cannot be done is said, with exit code 2."""
    code, told = storage(*words)

    assert (code, match in told) == (2, True)


def test_a_model_is_known_by_its_service_and_by_its_folder() -> None:
    """Both names of a model lead to it; another leads nowhere."""
    assert spec_of("mixtral") == spec_of("mixtral-8x7b") == load_spec("mixtral")
    assert spec_of("llama") is None


def test_what_takes_long_is_told(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Progress is a line with both sizes, as often as its interval says, and none before."""
    told = _Told("importing")
    told(1, 2)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr("reference_stack.orchestration.storing._TOLD_EVERY_S", 0.0)
    told(3_200_000_000, 46_700_000_000)
    assert capsys.readouterr().err == "importing: 3.2 GB of 46.7 GB\n"
