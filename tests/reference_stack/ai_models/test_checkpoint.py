"""Promises about real weights: a folder that is not the model of its row is refused, in words, in milliseconds."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from reference_stack.errors import SettingsError
from reference_stack.orchestration.deployment.weights import check
from reference_stack.services.ai_models.checkpoint import INDEX, mismatches
from reference_stack.services.ai_models.model_spec import ModelSpec, load_spec, model_names, read_spec
from reference_stack.services.ai_models.tiny import make, shrink

Break = Callable[[Path], object]


def row(name: str, folder: Path) -> ModelSpec:
    """The row of a tiny model, as if its weights were the real ones."""
    spec = load_spec(name)
    return spec.model_copy(update={"architecture": shrink(spec.architecture), "path": folder, "precision": "fp8"})


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """A whole checkpoint of Mixtral's architecture."""
    return make(load_spec("mixtral"), tmp_path)


@pytest.mark.parametrize("name", model_names())
def test_a_whole_checkpoint_is_taken(tmp_path: Path, name: str) -> None:
    """A checkpoint of each of the four architectures passes."""
    check(row(name, make(load_spec(name), tmp_path)))


def change(file: str, **values: object) -> Break:
    """Put other values into a JSON file of the folder."""

    def put(folder: Path) -> None:
        content: dict[str, Any] = json.loads((folder / file).read_text(encoding="utf-8"))
        (folder / file).write_text(json.dumps(content | values), encoding="utf-8")

    return put


def put(file: str, text: str) -> Break:
    return lambda folder: (folder / file).write_text(text, encoding="utf-8")


def drop(file: str) -> Break:
    return lambda folder: (folder / file).unlink()


def sharded(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "model-00001-of-00003.safetensors")
    names = {f"layer.{i}": f"model-0000{i}-of-00003.safetensors" for i in (1, 2, 3)}
    (folder / INDEX).write_text(json.dumps({"weight_map": names}), encoding="utf-8")


def only_pickles(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(b"\x80\x02}q\x00.")


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (drop("config.json"), r"config\.json cannot be read: No such file"),
        (put("config.json", "{"), r"config\.json is not JSON"),
        (put("config.json", "[]"), r"config\.json is not an object"),
        (change("config.json", architectures=["LlamaForCausalLM"]), "is of LlamaForCausalLM, and mixtral is Mixtral"),
        (change("config.json", architectures=None), "is of no architecture, and mixtral is"),
        (change("config.json", num_hidden_layers=3), "num_hidden_layers is 3, and mixtral has 2"),
        (change("config.json", num_local_experts=4), "num_local_experts is 4, and mixtral has 8"),
        (change("config.json", vocab_size=32000), "has 1226 tokens, and the model 32000: it is another model's"),
        (change("config.json", vocab_size=1000), "has 1226 tokens, and the model 1000: it is another model's"),
        (change("config.json", vocab_size=None), "says no vocab_size"),
        (drop("tokenizer.json"), r"there is no tokenizer: tokenizer\.json or tokenizer\.model"),
        (change("tokenizer.json", model={}), r"tokenizer\.json is no tokenizer"),
        (drop("model.safetensors"), r"there is no \.safetensors file$"),
        (only_pickles, r"pytorch_model\.bin is of a format that can run code"),
        (only_pickles, r"there is no \.safetensors file; pytorch_model\.bin is of a format that is not loaded"),
        (put("model.safetensors", "truncated"), r"its safetensors header is longer than the file"),
        (sharded, r"model-00002-of-00003\.safetensors is missing, 2 of the 3 files that .*index\.json lists"),
        (put(INDEX, "{}"), "index.json lists no weights"),
        (put(INDEX, "none"), "index.json is not JSON"),
    ],
)
def test_a_wrong_checkpoint_is_refused(weights: Path, broken: Break, message: str) -> None:
    """What is missing, of another model, in pieces or able to run code is named with its file, and what to do."""
    broken(weights)
    with pytest.raises(SettingsError) as caught:
        check(row("mixtral", weights))
    assert caught.value.message.startswith(f"mixtral: what is in {weights} cannot be served:")
    assert any(re.search(message, line) for line in caught.value.message.splitlines())
    assert "--weights dummy" in caught.value.hint


def test_weights_that_are_not_there_are_said(tmp_path: Path) -> None:
    """A folder that does not exist is named."""
    with pytest.raises(SettingsError, match="there are no weights in"):
        check(row("phi3", tmp_path / "none"))


def test_many_flaws_are_counted(weights: Path) -> None:
    """Five are shown, the others counted."""
    for i in range(8):
        (weights / f"{i}.pt").touch()
    with pytest.raises(SettingsError, match="and 3 more"):
        check(row("mixtral", weights))


@pytest.mark.parametrize(("method", "words"), [(None, "not quantised"), ("fp8", "quantised by fp8"), ("awq", "")])
def test_a_four_bit_row_needs_four_bit_weights(weights: Path, method: str | None, words: str) -> None:
    """Where the limit asks for INT4 a checkpoint of more bits is refused: it would not fit."""
    change("config.json", quantization_config=method and {"quant_method": method, "bits": 4})(weights)
    spec = row("mixtral", weights).model_copy(update={"precision": "int4"})
    found = list(mismatches(weights, spec))
    assert len(found) == bool(words)
    assert all(f"its weights are {words}; in 90 GB mixtral needs 4-bit ones" in each for each in found)


def test_a_sentencepiece_tokenizer_is_left_to_vllm(weights: Path) -> None:
    """A tokenizer.model alone is taken as it is; a list of pieces is counted."""
    (weights / "tokenizer.json").rename(weights / "tokenizer.model")
    check(row("mixtral", weights))
    pieces = {"model": {"vocab": [["a", 0.0]] * 2048}}
    (weights / "tokenizer.json").write_text(json.dumps(pieces), encoding="utf-8")
    check(row("mixtral", weights))


@pytest.mark.parametrize(
    ("old", "new", "message", "hint"),
    [
        ("precision: int4", "precision: int3", "precision is 'int3'", "did you mean 'int4'"),
        ("max_model_len: 1024", "max_model_len: 0", "max_model_len is 0", ""),
        ("layers: 32", "layer: 32", "architecture.layers", ""),
    ],
)
def test_a_wrong_row_is_refused(tmp_path: Path, old: str, new: str, message: str, hint: str) -> None:
    """A model's file with an unknown precision, size or key is refused with its name and the nearest spelling."""
    text = Path("reference_stack/services/ai_models/phi3.yaml").read_text(encoding="utf-8")
    (tmp_path / "phi3.yaml").write_text(re.sub(rf"{old}\b", new, text), encoding="utf-8")
    with pytest.raises(SettingsError, match=message) as caught:
        read_spec("phi3", tmp_path / "phi3.yaml")
    assert caught.value.message.startswith("phi3.yaml: ")
    assert hint in caught.value.hint
