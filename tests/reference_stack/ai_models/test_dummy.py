"""Folders of true size without weights: sizes that are published, and a text for every number of the vocabulary."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from reference_stack.services.ai_models.checkpoint import mismatches
from reference_stack.services.ai_models.dummy import make
from reference_stack.services.ai_models.model_spec import load_spec, model_names


@pytest.mark.parametrize("name", model_names())
def test_the_sizes_are_the_published_ones(name: str, tmp_path: Path) -> None:
    """But for its weights, which are missing and not quantised, the folder passes for a checkpoint of the model."""
    spec = load_spec(name)
    folder = make(spec, tmp_path)

    about_weights = ("there is no .safetensors file", "config.json: its weights are not quantised")
    assert [flaw for flaw in mismatches(folder, spec) if not flaw.startswith(about_weights)] == []
    assert {file.name for file in folder.iterdir()} == {
        "config.json",
        "generation_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
    }


@pytest.mark.parametrize("name", model_names())
def test_every_number_has_a_text_of_its_own(name: str, tmp_path: Path) -> None:
    """Random weights may sample any number of the vocabulary, and each is a token that a client sees."""
    spec = load_spec(name)
    tokenizer = json.loads((make(spec, tmp_path) / "tokenizer.json").read_text(encoding="utf-8"))
    words = tokenizer["model"]["vocab"]

    assert sorted(words.values()) == list(range(spec.architecture.vocab))
    assert all(words)
    merged = {left + right for left, right in tokenizer["model"]["merges"]}
    beyond = {word for word, number in words.items() if number >= 2048}
    assert not merged & beyond  # no prompt is encoded as one of them


def test_the_same_folder_is_not_made_twice(tmp_path: Path) -> None:
    """A second maker finds the first one's folder, and another length limit makes another."""
    spec = load_spec("phi3")
    folder = make(spec, tmp_path)
    stamp = (folder / "config.json").stat().st_mtime_ns

    assert make(spec, tmp_path) == folder
    assert (folder / "config.json").stat().st_mtime_ns == stamp
    assert make(spec.model_copy(update={"max_model_len": 512}), tmp_path) != folder
