"""Tiny models: folders that any reader of checkpoints takes, templates of the right family, replies that end."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import jinja2
import numpy as np
import pytest

from reference_stack.services.ai_models.bpe import byte_letters, split, train
from reference_stack.services.ai_models.model_spec import load_spec, model_names
from reference_stack.services.ai_models.reply import TEXT
from reference_stack.services.ai_models.tiny import CONTROLS, chat_template, make, shrink, vocabulary
from reference_stack.services.ai_models.tiny_weights import Matrix, from_bf16, to_bf16

CONVERSATION = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Hi"},
    {"role": "assistant", "content": "Hello"},
    {"role": "user", "content": "Bye"},
]
RENDERED = {
    "mixtral": "<s>[INST] Be brief.\n\nHi [/INST] Hello</s>[INST] Bye [/INST]",
    "hermes": "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nHello"
    "<|im_end|>\n<|im_start|>user\nBye<|im_end|>\n<|im_start|>assistant\n",
    "openchat": "<s>GPT4 Correct System: Be brief.<|end_of_turn|>GPT4 Correct User: Hi<|end_of_turn|>"
    "GPT4 Correct Assistant: Hello<|end_of_turn|>GPT4 Correct User: Bye<|end_of_turn|>GPT4 Correct Assistant:",
    "phi3": "<|system|>\nBe brief.<|end|>\n<|user|>\nHi<|end|>\n<|assistant|>\nHello<|end|>\n<|user|>\nBye<|end|>\n"
    "<|assistant|>\n",
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("tiny")
    return {name: make(load_spec(name), root) for name in model_names()}


@pytest.mark.parametrize("name", model_names())
def test_chat_template_is_the_models_own(name: str) -> None:
    """A conversation is rendered with the control tokens that the model was trained with."""
    # As transformers does it: the newline after a block goes, and so does white space before one.
    environment = jinja2.Environment(trim_blocks=True, lstrip_blocks=True, autoescape=False)
    family = load_spec(name).template.family
    template = environment.from_string(chat_template(family))
    text = template.render(
        messages=CONVERSATION, add_generation_prompt=True, bos_token="<s>", eos_token=CONTROLS[family].eos
    )

    assert text == RENDERED[name]


def tensors(file: Path) -> dict[str, Matrix]:
    """Read safetensors as its description says, without the writer."""
    raw = file.read_bytes()
    size = int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8 : 8 + size])
    assert header.pop("__metadata__") == {"format": "pt"}
    found = {}
    end = 0
    for name, entry in header.items():
        begin, end = entry["data_offsets"]
        bits = np.frombuffer(raw[8 + size + begin : 8 + size + end], dtype="<u2")
        found[name] = from_bf16(bits.reshape(entry["shape"]))
    assert 8 + size + end == len(raw)
    return found


@pytest.mark.parametrize("name", model_names())
def test_weights_have_the_shapes_of_the_config(folders: dict[str, Path], name: str) -> None:
    """As many parameters lie in the file as the tiny architecture has, under the names of its family."""
    found = tensors(folders[name] / "model.safetensors")
    config = json.loads((folders[name] / "config.json").read_text(encoding="utf-8"))
    a = shrink(load_spec(name).architecture)

    assert sum(tensor.size for tensor in found.values()) == a.params_total
    assert config["architectures"] == [load_spec(name).architecture.family]
    assert found["lm_head.weight"].shape == (config["vocab_size"], config["hidden_size"])
    assert ("model.layers.1.block_sparse_moe.experts.7.w2.weight" in found) == (name == "mixtral")
    assert ("model.layers.0.self_attn.qkv_proj.weight" in found) == (name == "phi3")


@pytest.mark.parametrize("name", model_names())
def test_the_reply_is_a_sentence_that_ends(folders: dict[str, Path], name: str) -> None:
    """Following the last layer from what a prompt ends with gives a sentence of our words, then the end token."""
    found = tensors(folders[name] / "model.safetensors")
    family = load_spec(name).template.family
    numbers = vocabulary(family).numbers
    words = {number: token for token, number in numbers.items()}
    following = (found["model.embed_tokens.weight"] @ found["lm_head.weight"].T).argmax(axis=1)
    token = numbers[{"mistral": "[/INST]", "openchat": ":"}.get(family, "Ċ")]
    reply = []
    while (token := int(following[token])) != numbers[CONTROLS[family].eos]:
        reply.append(words[token])
        assert len(reply) < 500
    sentence = "".join(reply).replace("Ġ", " ")

    assert len(reply) >= 12
    assert sentence.endswith(".")
    assert set(sentence.rstrip(".").split()) <= set(TEXT.replace(".", " ").split()) | {"it"}


@pytest.mark.parametrize("name", model_names())
def test_tokenizer_and_config_agree(folders: dict[str, Path], name: str) -> None:
    """Control tokens have the numbers that the config names, and every token fits the embedding."""
    folder = folders[name]
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    tokenizer = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    settings = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    numbers = tokenizer["model"]["vocab"]

    assert numbers[settings["eos_token"]] == config["eos_token_id"]
    assert sorted(numbers.values()) == list(range(len(numbers)))
    assert len(numbers) <= config["vocab_size"]
    assert all(left + right in numbers for left, right in tokenizer["model"]["merges"])


def test_makers_at_once_make_one_folder(tmp_path: Path) -> None:
    """Two makers of the same model leave one whole folder and nothing else; a second call makes nothing."""
    spec = load_spec("phi3")
    threads = [threading.Thread(target=make, args=(spec, tmp_path)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    [folder] = list(tmp_path.iterdir())
    stamp = (folder / "model.safetensors").stat().st_mtime_ns

    assert make(spec, tmp_path) == folder
    assert (folder / "model.safetensors").stat().st_mtime_ns == stamp


def test_no_room_for_the_folder_is_an_error(tmp_path: Path) -> None:
    """Where the folder cannot be made the reason is said, and nothing is left behind."""
    root = tmp_path / "file"
    root.write_text("in the way", encoding="utf-8")

    with pytest.raises(OSError, match="file"):
        make(load_spec("phi3"), root)


def test_bpe_merges_the_most_frequent_pair_first() -> None:
    """Merges follow the counts, stop at the size asked for, and encode what they were made from."""
    found = train("low low low lower lowest", ("<s>",), 1 + 256 + 3)

    assert found.merges[:2] == (("o", "w"), ("l", "ow"))
    assert len(found.numbers) == 260
    assert len(found.encode("low")) == 1
    assert len(train("ab", (), 9999).merges) == 1


def test_every_byte_has_a_letter() -> None:
    """All 256 bytes have letters of their own, a space among them, so that any text can be written."""
    assert len(set(byte_letters().values())) == 256
    assert split("a b") == ["a", "Ġb"]


def test_bf16_rounds_to_nearest_even() -> None:
    """Rounding is exact where BF16 can say the value and to even where it lies between two."""
    values = np.array([1.0, -2.5, 1.0 + 2**-8, 1.0 + 3 * 2**-8, 3e38], dtype=np.float32)

    back = from_bf16(to_bf16(values))
    assert list(back[:4]) == [1.0, -2.5, 1.0, 1.0 + 2**-6]
    assert back[4] == pytest.approx(3e38, rel=0.01)
